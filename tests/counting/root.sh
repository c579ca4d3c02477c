#!/bin/sh
# root.sh ROOT: a Debian arm64 root with the runtime and the wheels of every engine, for count.py --root. Needs root
# rights, Debian's mmdebstrap and gcc-aarch64-linux-gnu, and pip.
set -eu
root=$1 project=$(cd "$(dirname "$0")/../.." && pwd)
[ -d "$root/usr" ] || mmdebstrap --variant=extract --architectures=arm64 --quiet \
  --include=python3,libsndfile1,libgomp1,libc-bin,coreutils,bash,dash,libstdc++6 bookworm "$root"
[ -d "$root/opt/wheels" ] || python3 -m pip install --quiet --no-compile --target="$root/opt/wheels" \
  --only-binary=:all: --implementation=cp --python-version=3.11 --abi=cp311 --abi=abi3 --abi=none \
  --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 \
  --platform manylinux_2_28_aarch64 \
  numpy onnxruntime==1.32.0 ai-edge-litert==2.3.0 backports.strenum soundfile soxr msgspec tqdm
rm -rf "$root/opt/project"
mkdir -p "$root/opt/project" "$root/sys/devices/system/cpu" "$root/proc"
cp -r "$project/edge_runtime" "$root/opt/project/"
aarch64-linux-gnu-gcc -std=c99 -O3 -ffp-contract=off -fno-math-errno -fvisibility=hidden -shared -fPIC \
  -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now \
  -I"$project/edge_runtime/native/engine" -I"$project/edge_runtime/native/kernels" -I"$project/edge_runtime/native/band" \
  "$project"/edge_runtime/native/engine/*.c "$project"/edge_runtime/native/kernels/*.c \
  "$project"/edge_runtime/native/band/*.c -o "$root/opt/project/edge_runtime/native/libedge_denoise.so" -lm
# ONNX Runtime asks what processor it runs on: that of a Pi 4.
echo 0-3 > "$root/sys/devices/system/cpu/possible"
echo 0-3 > "$root/sys/devices/system/cpu/present"
for i in 0 1 2 3; do
  printf 'processor : %s\nFeatures : fp asimd evtstrm crc32 cpuid\nCPU implementer : 0x41\nCPU part : 0xd08\n\n' $i
done > "$root/proc/cpuinfo"
