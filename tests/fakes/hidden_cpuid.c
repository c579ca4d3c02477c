/* LD_PRELOAD: the processor without some of its features, at its own speed. CPUID faults (Linux, x86-64, flag cpuid_fault),
 * and the handler answers it with the bits of HIDE_* cleared. What the program sets for SIGSEGV gets the other faults.
 * Exit status 77 where the kernel does not offer that. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static struct sigaction programs; /* for SIGSEGV */

static int libcs(int number, const struct sigaction *action, struct sigaction *old)
{
    static int (*real)(int, const struct sigaction *, struct sigaction *);
    if (!real) real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    return real(number, action, old);
}

int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    if (number != SIGSEGV) return libcs(number, action, old);
    if (old) *old = programs;
    if (action) programs = *action;
    return 0;
}

sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

static void fault(int number, siginfo_t *info, void *context)
{
    if (programs.sa_flags & SA_SIGINFO) {
        programs.sa_sigaction(number, info, context);
    } else if (programs.sa_handler != SIG_DFL && programs.sa_handler != SIG_IGN) {
        programs.sa_handler(number);
    } else { /* it comes again and ends the program */
        struct sigaction usual = {.sa_handler = SIG_DFL};
        libcs(number, &usual, NULL);
        if (info->si_code <= 0) raise(number); /* sent, not met */
    }
}

static void answer(int number, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)r[REG_RIP];
    unsigned leaf = (unsigned)r[REG_RAX], part = (unsigned)r[REG_RCX], a, b, c, d;
    if (info->si_code <= 0 || at[0] != 0x0f || at[1] != 0xa2) {
        fault(number, info, context);
        return;
    }
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __cpuid_count(leaf, part, a, b, c, d);
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (leaf == 1) c &= ~HIDE_1_C;
    if (leaf == 7 && part == 0) b &= ~HIDE_7_B, c &= ~HIDE_7_C, d &= ~HIDE_7_D;
    if (leaf == 7 && part == 1) a &= ~HIDE_71_A, d &= ~HIDE_71_D;
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d, r[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void)
{
    struct sigaction action = {0};
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    libcs(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) != 0) _exit(77);
}
