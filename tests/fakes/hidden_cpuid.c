/* LD_AUDIT: the processor without some of its features, at its own speed. In every object that is loaded each CPUID is
 * replaced by a breakpoint before any of the object's code runs; the handler of SIGTRAP, a signal that few programs
 * take, answers it without the bits of HIDDEN_CPUID (as `Processor.bits` writes them). Where an object has them
 * `FINDER FILE` (cpuid_places.py) says once; the folder CPUID_PLACES keeps it. What is linked statically is not seen, nor what the
 * dynamic linker itself asked, by which libc chooses how it copies bytes. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <link.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static const unsigned char CPUID[2] = {0x0f, 0xa2}, TRAP[2] = {0xcc, 0xa2}; /* one byte, and what is left */
static unsigned hidden_1_c, hidden_7_b, hidden_7_c, hidden_7_d, hidden_71_a, hidden_71_d; /* leaf, part, register */
static char folder[4096]; /* CPUID_PLACES; a program may empty its environment and go on loading */

static void answer(int number, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = (unsigned)r[REG_RAX], part = (unsigned)r[REG_RCX], a, b, c, d;
    if (info->si_code <= 0 || memcmp((const char *)r[REG_RIP] - 1, TRAP, sizeof TRAP) != 0) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 1) c &= ~hidden_1_c;
    if (leaf == 7 && part == 0) b &= ~hidden_7_b, c &= ~hidden_7_c, d &= ~hidden_7_d;
    if (leaf == 7 && part == 1) a &= ~hidden_71_a, d &= ~hidden_71_d;
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d, r[REG_RIP] += 1;
}

static void give_up(const char *what, const char *name)
{
    fprintf(stderr, "hidden_cpuid: %s: %s\n", name, what);
    _exit(127);
}

/* The object's addresses of CPUID, a line each, into `kept`. */
static void look_through(const char *name, const char *kept)
{
    const char *script = "set -e; " FINDER " \"$1\" >\"$2.$$\"; mv \"$2.$$\" \"$2\"";
    char *words[] = {"sh", "-c", (char *)script, "sh", (char *)name, (char *)kept, NULL}, *none[] = {NULL};
    pid_t child;
    int status = 1;
    if (posix_spawn(&child, "/bin/sh", NULL, NULL, words, none) == 0) waitpid(child, &status, 0);
    if (status != 0) give_up("cannot be looked through", name);
}

static void replace(const char *name, uintptr_t base, const char *kept)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned long at;
    FILE *places = fopen(kept, "r");
    if (!places) give_up("nothing is kept of it", name);
    while (fscanf(places, "%lx", &at) == 1) {
        unsigned char *code = (unsigned char *)(base + at);
        void *first = (void *)((uintptr_t)code & -page);
        size_t size = (size_t)(code + sizeof CPUID - (unsigned char *)first);
        if (memcmp(code, CPUID, sizeof CPUID) != 0) give_up("another file than was looked through", name);
        if (mprotect(first, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) give_up("its code cannot be changed", name);
        memcpy(code, TRAP, sizeof TRAP);
        mprotect(first, size, PROT_READ | PROT_EXEC);
    }
    fclose(places);
}

unsigned la_version(unsigned version)
{
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    const char *bits = getenv("HIDDEN_CPUID"), *places = getenv("CPUID_PLACES");
    (void)version;
    snprintf(folder, sizeof folder, "%s", places ? places : "");
    if (!bits || sscanf(bits, "%x %x %x %x %x %x", &hidden_1_c, &hidden_7_b, &hidden_7_c, &hidden_7_d, &hidden_71_a,
                        &hidden_71_d) != 6)
        give_up("six numbers are wanted", "HIDDEN_CPUID");
    sigaction(SIGTRAP, &action, NULL);
    return LAV_CURRENT;
}

unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie)
{
    const char *name = map->l_name && *map->l_name ? map->l_name : "/proc/self/exe";
    char real[4096], kept[sizeof folder + 64];
    struct stat seen;
    (void)space, (void)cookie;
    if (!realpath(name, real) || stat(real, &seen) != 0) return 0; /* the kernel's own */
    snprintf(kept, sizeof kept, "%s/%llx-%llx-%llx.%09ld", folder, (unsigned long long)seen.st_ino,
             (unsigned long long)seen.st_size, (unsigned long long)seen.st_mtim.tv_sec, seen.st_mtim.tv_nsec);
    if (access(kept, R_OK) != 0) look_through(real, kept);
    replace(real, map->l_addr, kept);
    return 0;
}
