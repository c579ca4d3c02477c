"""The compiler: a GTCRN checkpoint in, an artifact folder for one board out.

Modules, in processing order:

    assets      pinned downloads (`quant pull`)
    checkpoint  official .tar, state dict or streaming ONNX -> named arrays
    graph       the data structure every later stage reads
    gtcrn       the network, written once, as a graph of one frame
    passes      exact rewrites (fold BatchNorm, transposed convolution -> convolution, ...)
    migration   per-channel scales moved through the graph so that int8 fits every channel
    float_model the PyTorch executor with taps: offline, batched, differentiable
    recipe      which nodes get which precision
    plan        the resolved table of scales
    reference   the NumPy integer executor, judge of the emitters
    emit_onnx, emit_tflite   the plan's exact scales in each runtime's format
    accuracy    error by tap, isolated and cumulative
    counts      parameters and MACs
    build       all of the above, into one folder
"""
