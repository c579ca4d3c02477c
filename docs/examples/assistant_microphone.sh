#!/bin/sh
# A microphone command for voice assistants: raw 16-bit 16 kHz mono, denoised, on standard output.
#
#   wyoming-satellite --mic-command 'assistant_microphone.sh /opt/model plughw:CARD=Device' \
#       --mic-command-rate 16000 --mic-command-width 2 --mic-command-channels 1 --mic-command-samples-per-chunk 256 ...
set -e
model=$1 device=${2:-default}
arecord -q -D "$device" -f S16_LE -r 16000 -c 1 -t raw --period-size=256 --buffer-size=1024 |
    edge-denoise pipe --model "$model"
