"""From a plan to better weights: quantization-aware training, and training in float.

losses    what is minimised
data      batches of mixtures, mixed anew at every step
prepared  the quantized model that can be trained
trainer   the loop
curves    its picture
runs      `quant qat` and `quant train`, whole
"""
