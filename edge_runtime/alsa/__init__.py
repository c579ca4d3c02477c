"""ALSA through ctypes.

library  libasound and its prototypes
samples  device samples <-> float32
pcm      an open device
device   devices by name, opened
"""
