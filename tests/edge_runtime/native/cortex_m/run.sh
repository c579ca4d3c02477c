#!/bin/sh
# The generic-c folder on emulated microcontrollers: bit for bit, instructions a hop, sizes.
#
#     [OPT=-O3] [DEADLINE=1800000] tests/edge_runtime/native/cortex_m/run.sh DIR [m7|m55|m4|m33]...    DIR made by `quant build --target generic-c`; default: m7 m55
#
# The example of live sound has DEADLINE instructions a hop: three quarters of the 2.4 million that 150 MHz give at one a cycle.
# Needs Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm. Exit status 1 if anything differs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: run.sh DIR [m7|m55|m4|m33]..." >&2; exit 2; }
folder=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- m7 m55
. "$here/boards.sh"

late=0
for core in "$@"; do
    board_of "$core"
    for precision in int8 fp32; do
        if [ $precision = fp32 ]; then fp32=-DED_FP32; else fp32=; fi
        into="$link $(in_ram $ram)"
        compile="arm-none-eabi-gcc -std=gnu99 $flags -Wall -Wextra -Werror $fp32 -I$folder"
        sources="$(ls "$folder"/ed_*.c | grep -v ed_weights_) $folder/ed_weights_$precision.c"
        $compile "$here/startup.c" $sources -DED_SELF_TEST "$folder/self_test.c" "$folder/test_vectors_$precision.c" $into -o "$scratch/self_test.elf" -lm
        $compile "$here/startup.c" $sources "$here/hops.c" $into -o "$scratch/hops.elf" -lm
        mkdir -p "$scratch/objects"
        $compile "$here/startup.c" $sources -DED_EXAMPLE -DDEADLINE=${DEADLINE:-1800000} "$folder/double_buffer.c" \
            "$here/double_buffer_board.c" "$folder/test_vectors_$precision.c" $into -o "$scratch/double_buffer.elf" -lm
        (cd "$scratch/objects" && rm -f ./*.o && $compile -c $sources)
        arm-none-eabi-size -t "$scratch"/objects/*.o | awk -v core=$core -v precision=$precision \
            'END { printf "%s %s: text %d bytes (code, tables and weights), data %d, bss %d\n", core, precision, $1, $2, $3 }'
        printf '%s ' $core && $emulate -kernel "$scratch/self_test.elf"
        printf '%s %s: ' $core $precision && $emulate -icount shift=0 -kernel "$scratch/hops.elf"
        printf '%s %s: ' $core $precision && $emulate -icount shift=0,sleep=off -kernel "$scratch/double_buffer.elf" || [ $precision = fp32 ] || late=1
    done
done
[ $late = 0 ]
