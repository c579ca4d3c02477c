"""Speech in, ranges out.

corpus     a folder of recordings -> mono float32 at 16 kHz, in one order everywhere
mixing     two corpora and a seed -> clips over SNR and level
observers  the values a tap takes -> the range worth quantizing
ranges     every tap's range and how it came about <-> one JSON file
"""
