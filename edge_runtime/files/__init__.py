"""Sound files and pipes: any rate, any channels.

containers    which files hold sound
chunks        how long the sound in RIFF and its kin is in truth
mp3           how long the sound in MP3s is in truth
contents      what a file holds, where its header states less
sound_source  sound files in: the one reader
sound_file    sound files out, whole or not there
resample      sample rates, streaming
any_rate      the denoiser for sound as it comes
denoise_file  a file
denoise_pipe  a pipe
"""
