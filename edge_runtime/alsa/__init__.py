"""ALSA through ctypes.

library  libasound and its prototypes
cards    sound cards by name
words    what libasound says, and what helps
samples  device samples <-> float32
pcm      an open device
device   devices by name, opened
"""
