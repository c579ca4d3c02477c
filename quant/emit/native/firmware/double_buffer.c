/* Live sound on a microcontroller: a DMA fills one half of a buffer with samples of 16 kHz while the other half is
 * denoised, and plays likewise; an interrupt tells each full half. What comes out lags two hops behind what goes in, 32 ms.
 *
 * Compile with -DED_EXAMPLE, and give the three functions that are your board's:
 *
 *     void board_start(int16_t capture[2][256], int16_t play[2][256]);   start both DMAs, round and round
 *     void board_wait(void);                                             sleep until an interrupt (WFI)
 *     int board_goes_on(uint32_t n_hops, uint32_t n_late);               0 ends main; see double_buffer_late
 *
 * and let the interrupt of a full half call double_buffer_hop(). */
#if defined(ED_EXAMPLE)
#include "ed_weights.h"
#include "edge_denoise.h"

void board_start(int16_t capture[2][ED_HOP_SAMPLES], int16_t play[2][ED_HOP_SAMPLES]);
void board_wait(void);
int board_goes_on(uint32_t n_hops, uint32_t n_late);
void double_buffer_hop(void);

static union {
    uint8_t bytes[ED_STATE_BYTES];
    double align;
} state;
static int16_t capture[2][ED_HOP_SAMPLES], play[2][ED_HOP_SAMPLES];
static float hop[ED_HOP_SAMPLES];
static volatile uint32_t n_captured, n_done, n_late;

/* From the interrupt: another half is full, and the one denoised before begins to play. */
void double_buffer_hop(void)
{
    if (n_captured != n_done) n_late++; /* it is not there yet */
    n_captured++;
}

/* Rounded to even, limited. */
static int16_t sample(float v)
{
    v = v * 32768.0f;
    v = v > -32768.0f ? v < 32767.0f ? v : 32767.0f : -32768.0f;
    return (int16_t)((v + 12582912.0f) - 12582912.0f);
}

int main(void)
{
    int i;
    if (ed_init(state.bytes, sizeof state, ED_WEIGHTS, ED_WEIGHT_BYTES) != ED_OK) return 1;
    board_start(capture, play);
    while (board_goes_on(n_done, n_late)) {
        const uint32_t half = n_done % 2;
        while (n_captured == n_done) board_wait();
        for (i = 0; i < ED_HOP_SAMPLES; i++) hop[i] = (float)capture[half][i] / 32768.0f;
        ed_process(state.bytes, hop, hop);
        for (i = 0; i < ED_HOP_SAMPLES; i++) play[half][i] = sample(hop[i]);
        n_done++;
    }
    return n_late > 0;
}
#else
typedef int double_buffer_is_an_example;
#endif
