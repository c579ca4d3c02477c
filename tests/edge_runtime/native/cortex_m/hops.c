/* Instructions a hop: SysTick counts while QEMU lets one instruction take one nanosecond (-icount shift=0). */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ed_weights.h"
#include "edge_denoise.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010) /* control, reload, current */
#define N_HOPS 20
#ifndef TICK_HZ
#error "TICK_HZ: of the board's processor clock"
#endif

extern uint32_t stack_bytes(void);

static union {
    uint8_t bytes[ED_STATE_BYTES];
    double align;
} state;
static float in[ED_HOP_SAMPLES], out[ED_HOP_SAMPLES];

int main(void)
{
    uint32_t seed = 1, ticks = 0, start;
    int i, k;
    if (ed_init(state.bytes, sizeof state, ED_WEIGHTS, ED_WEIGHT_BYTES) != ED_OK) return 1;
    SYSTICK[1] = 0xffffff, SYSTICK[2] = 0, SYSTICK[0] = 5; /* on, processor clock, no interrupt */
    for (i = 0; i < N_HOPS; i++) {
        for (k = 0; k < ED_HOP_SAMPLES; k++) {
            seed = seed * 1664525u + 1013904223u;
            in[k] = (float)(int32_t)seed / 2147483648.0f * 0.1f;
        }
        start = SYSTICK[2];
        ed_process(state.bytes, in, out);
        ticks += (start - SYSTICK[2]) & 0xffffff;
    }
    printf("%lu instructions a hop, %lu bytes of stack\n", (unsigned long)((double)ticks / N_HOPS * (1e9 / TICK_HZ)),
           (unsigned long)stack_bytes());
    return 0;
}
