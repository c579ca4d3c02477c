#!/bin/sh
# A microphone command for voice assistants: raw 16-bit 16 kHz mono, denoised, on standard output.
#
#   wyoming-satellite --mic-command 'assistant_microphone.sh /opt/model plughw:CARD=Device' \
#       --mic-command-rate 16000 --mic-command-width 2 --mic-command-channels 1 --mic-command-samples-per-chunk 256 ...
set -e
model=$1 device=${2:-default}
record() { arecord -q -D "$device" -f S16_LE -r 16000 -c 1 -t raw --period-size=256 --buffer-size=1024; }
# Without a microphone it must fail, not be silent: a pipeline has the status of its last program alone.
exec 4>&1
failed=$({ { record 3>&- || echo 1 >&3; } | edge-denoise pipe --model "$model" >&4 3>&-; } 3>&1)
exit "${failed:-0}"
