"""Record denoised speech: arecord -q -f S16_LE -r 16000 -c 1 -t raw | python recorder.py build/rpi4 clean.wav"""

import signal
import sys

import numpy as np
import soundfile

from edge_runtime import Denoiser

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends arecord, and then this, with the last hop
model, path = sys.argv[1:]
denoiser = Denoiser.open(model)
with soundfile.SoundFile(path, "w", samplerate=16000, channels=1, subtype="PCM_16") as clean:
    while data := sys.stdin.buffer.read(512):  # one hop of 256 samples
        clean.write(denoiser.feed(np.frombuffer(data, "<i2")))
    clean.write(denoiser.flush())
