"""From a plan to better weights: quantization-aware training, and training in float.

losses    what is minimised
data      batches of mixtures, mixed anew at every step
prepared  the quantized model that can be trained
history   what a run has found so far
curves    its picture
watch     what is seen of it while it goes on
trainer   the loop
runs      `quant qat` and `quant train`, whole
"""
