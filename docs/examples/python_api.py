"""Denoise a 16 kHz mono file: python python_api.py build/rpi4 noisy.wav clean.wav"""

import sys

import numpy as np
import soundfile

from edge_runtime import Denoiser

model, noisy_path, clean_path = sys.argv[1:]
denoiser = Denoiser.open(model)
noisy, rate_hz = soundfile.read(noisy_path, dtype="float32")
soundfile.write(clean_path, np.concatenate([denoiser.feed(noisy), denoiser.flush()]), rate_hz)
