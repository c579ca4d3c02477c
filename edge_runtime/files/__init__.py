"""Sound files and pipes: any rate, any channels.

sound_file    what is read and what is refused; output whole or not there
resample      sample rates, streaming
any_rate      the denoiser for sound as it comes
denoise_file  a file
denoise_pipe  a pipe
"""
