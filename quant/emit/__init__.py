"""The plan as model files. The three writers never import one another.

emitted  what a writer hands over
onnx     ONNX QDQ, the official signature, TensorRT
tflite   a TFLite flatbuffer
native   a program for the C engine, and a folder of C
"""
