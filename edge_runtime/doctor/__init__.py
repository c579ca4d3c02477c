"""What this machine lacks; its devices; its round trip.

host         what is read of a machine
machine      the processor and what it lives on
rights       what this user may do
devices      `edge-denoise devices`
virtual_mic  the virtual microphone, where it is installed
microphone   what a microphone gives
sound        ALSA and the devices that are named
model        engines, and an artifact through each
checks       `edge-denoise doctor`
round_trip   a delay by correlation
latency      `edge-denoise latency`
"""
