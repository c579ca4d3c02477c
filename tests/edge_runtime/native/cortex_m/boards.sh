# QEMU's boards by core, for run.sh and kernels.sh: sets cpu (flags), board, flash and ram and big_ram (from, bytes), tick (Hz of
# SysTick), link, and emulate (a command without its -kernel).
board_of() {
    case $1 in
    m4) cpu="-mcpu=cortex-m4 -mfpu=fpv4-sp-d16" board=mps2-an386 flash=0x00000000,4M ram=0x20000000,4M big_ram=0x21000000,16M tick=25000000 ;;
    m7) cpu="-mcpu=cortex-m7 -mfpu=fpv5-d16" board=mps2-an500 flash=0x00000000,4M ram=0x20000000,4M big_ram=0x21000000,16M tick=25000000 ;;
    m33) cpu="-mcpu=cortex-m33 -mfpu=fpv5-sp-d16" board=mps2-an505 flash=0x10000000,4M ram=0x38000000,4M big_ram=0x80000000,16M tick=20000000 ;;
    m55) cpu="-mcpu=cortex-m55" board=mps3-an547 flash=0x00000000,512K ram=0x20000000,512K big_ram=0x60000000,16M tick=32000000 ;;
    *) echo "$(basename "$0"): error: $1 is not one of m4 m7 m33 m55" >&2; exit 2 ;;
    esac
    flags="${OPT:--O2} -mthumb -mfloat-abi=hard $cpu -ffp-contract=off -fno-math-errno -DED_NO_VECTORS -DTICK_HZ=$tick"
    emulate="timeout 600 qemu-system-arm -M $board -nographic -monitor none -serial null -semihosting-config enable=on,target=native"
    link="--specs=rdimon.specs -nostartfiles -Wl,-T,$here/board.ld -Wl,--no-warn-rwx-segments -Wl,--gc-sections"
    link="$link -Wl,--defsym=FLASH_AT=${flash%,*},--defsym=FLASH_BYTES=${flash#*,}"
}
in_ram() { # FROM,BYTES
    echo "-Wl,--defsym=RAM_AT=${1%,*},--defsym=RAM_BYTES=${1#*,}"
}
for tool in arm-none-eabi-gcc qemu-system-arm; do
    command -v $tool >/dev/null || { echo "$(basename "$0"): error: no $tool; apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm" >&2; exit 1; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
