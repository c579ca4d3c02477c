#!/bin/sh
# The generic-c folder on emulated microcontrollers: bit for bit, instructions a hop, sizes.
#
#     [OPT=-O3] [DEADLINE=1800000] tests/edge_runtime/native/cortex_m/run.sh DIR [m7|m55|m4|m33]    DIR made by `quant build --target generic-c`; default: m7 m55
#
# The example of live sound has DEADLINE instructions a hop: three quarters of the 2.4 million that 150 MHz give at one a cycle.
# Needs Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm. Exit status 1 if anything differs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: run.sh DIR [m7|m55|m4|m33]..." >&2; exit 2; }
folder=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- m7 m55
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for tool in arm-none-eabi-gcc qemu-system-arm; do
    command -v $tool >/dev/null || { echo "run.sh: error: no $tool; apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm" >&2; exit 1; }
done

late=0
for core in "$@"; do
    case $core in # flags; QEMU's board; flash and RAM from, bytes; Hz of SysTick
    m4) cpu="-mcpu=cortex-m4 -mfpu=fpv4-sp-d16" board=mps2-an386 flash=0x00000000,4M ram=0x20000000,4M tick=25000000 ;;
    m7) cpu="-mcpu=cortex-m7 -mfpu=fpv5-sp-d16" board=mps2-an500 flash=0x00000000,4M ram=0x20000000,4M tick=25000000 ;;
    m33) cpu="-mcpu=cortex-m33 -mfpu=fpv5-sp-d16" board=mps2-an505 flash=0x10000000,4M ram=0x38000000,4M tick=20000000 ;;
    m55) cpu="-mcpu=cortex-m55" board=mps3-an547 flash=0x00000000,512K ram=0x20000000,512K tick=32000000 ;;
    *) echo "run.sh: error: $core is not one of m4 m7 m33 m55" >&2; exit 2 ;;
    esac
    for precision in int8 fp32; do
        if [ $precision = fp32 ]; then fp32=-DED_FP32; else fp32=; fi
        flags="-std=gnu99 ${OPT:--O2} -mthumb -mfloat-abi=hard $cpu -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror"
        link="--specs=rdimon.specs -nostartfiles -Wl,-T,$here/board.ld -Wl,--no-warn-rwx-segments -Wl,--gc-sections"
        link="$link -Wl,--defsym=FLASH_AT=${flash%,*},--defsym=FLASH_BYTES=${flash#*,},--defsym=RAM_AT=${ram%,*},--defsym=RAM_BYTES=${ram#*,}"
        compile="arm-none-eabi-gcc $flags -DED_NO_VECTORS $fp32 -DTICK_HZ=$tick -I$folder"
        sources="$(ls "$folder"/ed_*.c | grep -v ed_weights_) $folder/ed_weights_$precision.c"
        $compile "$here/startup.c" $sources -DED_SELF_TEST "$folder/self_test.c" "$folder/test_vectors_$precision.c" $link -o "$scratch/self_test.elf" -lm
        $compile "$here/startup.c" $sources "$here/hops.c" $link -o "$scratch/hops.elf" -lm
        mkdir -p "$scratch/objects"
        $compile "$here/startup.c" $sources -DED_EXAMPLE -DDEADLINE=${DEADLINE:-1800000} "$folder/double_buffer.c" \
            "$here/double_buffer_board.c" "$folder/test_vectors_$precision.c" $link -o "$scratch/double_buffer.elf" -lm
        (cd "$scratch/objects" && rm -f ./*.o && $compile -c $sources)
        arm-none-eabi-size -t "$scratch"/objects/*.o | awk -v core=$core -v precision=$precision \
            'END { printf "%s %s: text %d bytes (code, tables and weights), data %d, bss %d\n", core, precision, $1, $2, $3 }'
        emulate="timeout 300 qemu-system-arm -M $board -nographic -monitor none -serial null -semihosting-config enable=on,target=native"
        printf '%s ' $core && $emulate -kernel "$scratch/self_test.elf"
        printf '%s %s: ' $core $precision && $emulate -icount shift=0 -kernel "$scratch/hops.elf"
        printf '%s %s: ' $core $precision && $emulate -icount shift=0,sleep=off -kernel "$scratch/double_buffer.elf" || [ $precision = fp32 ] || late=1
    done
done
[ $late = 0 ]
