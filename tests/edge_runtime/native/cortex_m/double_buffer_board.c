/* The board of firmware/double_buffer.c: SysTick in the place of the DMAs' interrupt, a hop every DEADLINE instructions
 * (one takes a nanosecond, -icount shift=0). What goes in and what must come out are the self-test's. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "edge_denoise.h"
#include "test_vectors.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010) /* control, reload, current */

void board_start(int16_t capture[2][ED_HOP_SAMPLES], int16_t play[2][ED_HOP_SAMPLES]);
void board_wait(void);
int board_goes_on(uint32_t n_hops, uint32_t n_late);
void double_buffer_hop(void);
void systick(void);

static int16_t (*captured)[ED_HOP_SAMPLES], (*played)[ED_HOP_SAMPLES];
static uint32_t n_begun, n_wrong;

static void judge(uint32_t hop)
{
    const int16_t *got = played[hop % 2], *want = vector_clean + hop * ED_HOP_SAMPLES;
    int i;
    for (i = 0; i < ED_HOP_SAMPLES; i++)
        if (VECTOR_EXACT ? got[i] != want[i] : got[i] - want[i] > 1 || want[i] - got[i] > 1) {
            n_wrong++;
            return;
        }
}

/* Another hop was captured; that before it begins to play. */
void systick(void)
{
    if (n_begun == VECTOR_HOPS) return;
    if (n_begun > 0) judge(n_begun - 1);
    memcpy(captured[n_begun % 2], vector_noisy + n_begun * ED_HOP_SAMPLES, sizeof captured[0]);
    n_begun++;
    double_buffer_hop();
}

void board_start(int16_t capture[2][ED_HOP_SAMPLES], int16_t play[2][ED_HOP_SAMPLES])
{
    captured = capture, played = play;
    SYSTICK[1] = (uint32_t)((double)DEADLINE * TICK_HZ / 1e9), SYSTICK[2] = 0, SYSTICK[0] = 7; /* on, with interrupt */
}

void board_wait(void)
{
    __asm volatile("wfi");
}

int board_goes_on(uint32_t n_hops, uint32_t n_late)
{
    if (n_hops < VECTOR_HOPS) return 1;
    judge(n_hops - 1);
    printf("double_buffer: %lu of %lu hops wrong, %lu late; a hop every %lu instructions\n", (unsigned long)n_wrong,
           (unsigned long)n_hops, (unsigned long)n_late, (unsigned long)DEADLINE);
    return 0;
}
