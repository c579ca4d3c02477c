#!/bin/sh
# Every kernel of the sets of a core against portable C, N random cases each (../check.c), on an emulated microcontroller.
#
#     [OPT=-O3] tests/edge_runtime/native/cortex_m/kernels.sh N CORE...
#
# Exit status 1 if anything differs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: kernels.sh N m4|m7|m33|m55..." >&2; exit 2; }
n=$1 native=$here/../../../../edge_runtime/native
shift
. "$here/boards.sh"
for core in "$@"; do
    board_of "$core"
    compile="arm-none-eabi-gcc -std=gnu11 $flags -I$native/engine -I$native/kernels -I$here/.."
    $compile -Dmain=check_main -c "$here/../check.c" -o "$scratch/check.o"
    $compile -DN_CASES="\"$n\"" "$here/startup.c" "$here/kernels_main.c" "$scratch/check.o" "$native"/engine/*.c "$native"/kernels/*.c \
        $link $(in_ram $big_ram) -o "$scratch/kernels.elf" -lm
    printf '%s: ' $core && $emulate -kernel "$scratch/kernels.elf"
done
