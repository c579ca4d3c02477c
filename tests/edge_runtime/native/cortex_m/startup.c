/* Reset to main on a Cortex-M with an FPU, as QEMU's boards boot; semihosting for printf and exit. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t _estack, _sbss, _ebss, _stack_low;
extern int main(void);
extern void initialise_monitor_handles(void);

void reset_handler(void);
void fault(void);
void _init(void);
void _fini(void);

void _init(void) {}
void _fini(void) {}

#define STACK_FILL 0xa5a5a5a5u

/* Bytes of stack that were ever used. */
uint32_t stack_bytes(void);
uint32_t stack_bytes(void)
{
    const uint32_t *p = &_stack_low;
    while (p < &_estack && *p == STACK_FILL) p++;
    return (uint32_t)((const char *)&_estack - (const char *)p);
}

void reset_handler(void)
{
    uint32_t *p;
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: coprocessors 10 and 11, the FPU and vectors */
    __asm volatile("dsb\n isb");
    for (p = &_sbss; p < &_ebss; p++) *p = 0;
    for (p = &_stack_low; p < (uint32_t *)__builtin_frame_address(0) - 16; p++) *p = STACK_FILL;
    initialise_monitor_handles();
    exit(main());
}

/* Any fault: semihosting's exit with status 1. */
void fault(void)
{
    __asm volatile("movs r0, #0x18\n ldr r1, =0x20023\n bkpt 0xab");
    for (;;) {}
}

/* The timer's, of a program that has one. */
void systick(void) __attribute__((weak, alias("fault")));

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &_estack, (void *)reset_handler, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault, 0,
    0, 0, 0, (void *)fault, 0, 0, (void *)fault, (void *)systick,
};
