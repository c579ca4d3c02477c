"""The plan as ONNX.

file            a model under construction
values          what every node reads and writes
recurrent       recurrent layers
emitter         QDQ with exact scales, one method a node kind
official        the four-input signature of the official streaming model
tensorrt_rules  what TensorRT asks of explicit QDQ
tensorrt        and a model that keeps it
"""
