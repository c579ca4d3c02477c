/* A plugin for QEMU's user-mode emulator (plugin API 1, Debian bookworm's qemu-user): instructions between marks.
 *
 *     gcc -O2 -shared -fPIC icount.c -o icount.so
 *     qemu-aarch64 -cpu cortex-a72 -plugin ./icount.so -d plugin PROGRAM
 *
 * Each call of the program's function `count_mark`, or on AArch64 of the system's getppid, which a program in Python
 * can make, too, prints a line: all instructions so far, then those of each class of AArch64 encodings. The last line,
 * "total", is printed when the program ends; a program without marks prints it alone. No QEMU header is needed, its few declarations are here.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { ADD_U64 = 0, NO_REGISTERS = 0, GETPPID = 173 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter, uint64_t amount);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
typedef void syscalled(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscalled *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_outs(const char *);

enum { SIMD_FP, LOAD_STORE, BRANCH, INTEGER, N_CLASSES };
static uint64_t n_of_class[N_CLASSES];

/* Bits 28 to 25 of an AArch64 instruction, Arm ARM C4.1. Meaningless for other processors, where only the sum holds. */
static int class_of(uint32_t word)
{
    unsigned group = (word >> 25) & 15;
    if ((group & 7) == 7) return SIMD_FP;
    if ((group & 5) == 4) return LOAD_STORE;
    return (group & 14) == 10 ? BRANCH : INTEGER;
}

static void print_counts(const char *label)
{
    char line[160];
    uint64_t total = 0;
    int i;
    for (i = 0; i < N_CLASSES; i++) total += n_of_class[i];
    snprintf(line, sizeof line, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", label, total,
             n_of_class[SIMD_FP], n_of_class[LOAD_STORE], n_of_class[BRANCH], n_of_class[INTEGER]);
    qemu_plugin_outs(line);
}

static void at_mark(unsigned cpu, void *unused)
{
    (void)cpu, (void)unused;
    print_counts("mark");
}

static void at_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == GETPPID) print_counts("mark");
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    size_t i, n = qemu_plugin_tb_n_insns(block);
    uint64_t of_class[N_CLASSES] = {0};
    int class;
    (void)id;
    for (i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        of_class[class_of(word)]++;
    }
    for (class = 0; class < N_CLASSES; class++)
        if (of_class[class] > 0)
            qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &n_of_class[class], of_class[class]);
    if (n > 0) {
        struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(block, 0);
        const char *symbol = qemu_plugin_insn_symbol(first);
        if (symbol != NULL && strcmp(symbol, "count_mark") == 0)
            qemu_plugin_register_vcpu_insn_exec_cb(first, at_mark, NO_REGISTERS, NULL);
    }
}

static void at_exit(qemu_plugin_id_t id, void *unused)
{
    (void)id, (void)unused;
    print_counts("total");
}

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                                               char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, at_syscall);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
