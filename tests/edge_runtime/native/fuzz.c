/* Structure-aware fuzzing of the native engine: programs that know their fields are pushed to the limits of what the
 * engine's checker accepts, and whatever it accepts runs on poisoned sound without leaving its memory, each operation to
 * the same result through every kernel set.
 *
 *     fuzz SECONDS RANDOM FOUND [FILE...]    FILES: weights to start from; with 0 seconds they run as they are
 *
 * It goes on until every kind of operation was in a program that was changed and accepted, ten times as long at most.
 * Each round takes a program of a pool (the files, and small ones made here, every kind of operation among them), changes
 * some fields, mends size and hash, and asks the checker; now and then a field is moved as far as the checker lets it.
 * Accepted programs run and join the pool. Weights and states lie at the end of a mapping, before a page that traps;
 * under AddressSanitizer what lies around them, the arena's slack and the sound are poisoned, too. A program at which
 * the process dies is left in FOUND. */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fuzz_run.h"
#include "fuzz_programs.h"

/* --- the rounds ------------------------------------------------------------------------------------------------------- */

static void keep(const program *p)
{
    unsigned i = n_pool < N_POOL ? n_pool++ : (unsigned)below(N_POOL);
    if (pool[i] == NULL && (pool[i] = malloc(sizeof **pool)) == NULL) exit(2);
    memcpy(pool[i]->bytes, p->bytes, p->n);
    pool[i]->n = p->n;
}

static void count_kinds(program *p)
{
    uint8_t has[ED_N_KINDS] = {0};
    int i, n = n_ops_of(p);
    for (i = 0; i < n; i++) has[op_of(p, i)->kind] = 1;
    for (i = 0; i < ED_N_KINDS; i++) counts.of_kind[i] += has[i];
}

static void try(int from_pool)
{
    size_t n_bytes = accepted(&now);
    int quick;
    counts.tried++;
    if (n_bytes == 0) return;
    counts.accepted++;
    if (from_pool) count_kinds(&now);
    quick = run_all(n_bytes);
    if (quick && n_bytes < 1 << 18 && (!from_pool || one_in(4))) keep(&now);
}

static void one_round(void)
{
    if (n_pool < 64 || one_in(16)) {
        make(&now);
        try(0);
        return;
    }
    {
        const program *from = pool[below((int)n_pool)];
        memcpy(now.bytes, from->bytes, from->n);
        now.n = from->n;
    }
    mutate(&now);
    try(1);
}

static int is_thorough(void)
{
    int i;
    for (i = ED_FEATURES; i < ED_N_KINDS; i++)
        if (counts.of_kind[i] == 0) return 0;
    return 1;
}

static void read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    now.n = fread(now.bytes, 1, sizeof now.bytes, f);
    fclose(f);
    if (now.n >= sizeof(ed_header)) try(0);
}

#define NAME(kind) #kind,
static const char *const kind_names[] = {ED_KINDS(NAME)};

static void report(double took)
{
    unsigned i;
    printf("%llu programs, %llu accepted, %llu hops in %.0f s: nothing found\n", (unsigned long long)counts.tried,
           (unsigned long long)counts.accepted, (unsigned long long)counts.hops, took);
    for (i = 0; i < N_SETS; i++)
        printf("%s: %llu ran, slowest hop %.0f ms\n", ed_isas[i]->name, (unsigned long long)counts.ran[i], 1e3 * counts.slowest_s[i]);
    printf("of what was changed and accepted, had");
    for (i = ED_FEATURES; i < ED_N_KINDS; i++) printf(" %s %llu", kind_names[i], (unsigned long long)counts.of_kind[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    double from = seconds(), least_s;
    int i;
    if (argc < 4) {
        fputs("usage: fuzz SECONDS RANDOM FOUND [FILE...]\n", stderr);
        return 2;
    }
    rng_state = 0x9e3779b97f4a7c15u * (strtoull(argv[2], NULL, 10) + 1), found_path = argv[3];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(keep_found);
#else
    signal(SIGSEGV, died), signal(SIGBUS, died), signal(SIGABRT, died), signal(SIGFPE, died), signal(SIGILL, died);
#endif
    open_room(&weights_room, LONGEST);
    open_room(&state_room, ED_MOST_MEMORY_BYTES + 8192);
    for (i = 4; i < argc; i++) read_file(argv[i]);
    least_s = atof(argv[1]);
    while (seconds() - from < (is_thorough() ? 1 : 10) * least_s) one_round();
    report(seconds() - from);
    return 0;
}
