"""Edits to the system that can be taken back; a bundle taken in.

receipt      what an installation did
edits        files put on a machine and taken away again
virtual_mic  a denoised microphone for every program
service      the systemd unit of `edge-denoise live`
ed25519      whether a signature fits
bundle       one file that carries a release
trust        which releases a board takes
units        the units of a release
environment  where a release's wheels are installed
receive      what a board does with it
"""

DEFAULT_ROOT = ".local/share/edge-denoise"  # of releases, from the home directory; here, where `quant --help` reads it
