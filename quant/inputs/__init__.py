"""What comes from outside: pulled files, checkpoints, trained files.

assets         pinned downloads (`quant pull`)
pickled        a pickle as data: nothing in it is executed
stored         a tensor as a file holds it
weight_file    PyTorch, TorchScript, safetensors, NumPy -> tensors
foreign        what is given as a checkpoint and is none, by its name
official_onnx  the official streaming ONNX -> named arrays
checkpoint     any of them -> the network's parameters
trained        what quantization-aware training leaves; the embedded default
source         what a build starts from: one of these, opened
"""
