"""Post-training quantization: from ranges to a plan without training.

calibrate          ranges of every tap, from the float model on real mixtures
migration          scales moved between channels so that 8 bits fit each
loss_aware         clipping by what it does to the enhanced spectrum
adaptive_rounding  each weight up or down, by the error of its layer
bias_correction    the mean error of rounding, taken back
saturation         ranges cut where nothing behind them tells the difference
quantize           the stages above, in order
"""
