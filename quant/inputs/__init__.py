"""What comes from outside: pulled files, checkpoints, trained files.

assets      pinned downloads (`quant pull`)
checkpoint  .tar, state dict or streaming ONNX -> named arrays
trained     what quantization-aware training leaves; the embedded default
source      what a build starts from: one of these, opened
"""
