"""The compiler: a GTCRN checkpoint in, an artifact folder for one board out.

Modules, in processing order:

    assets        pinned downloads (`quant pull`)
    checkpoint    official .tar, state dict or streaming ONNX -> named arrays
    graph         the data structure every later stage reads
    gtcrn         the network, written once, as a graph of one frame
    passes        exact rewrites (fold BatchNorm, transposed convolution -> convolution, ...)
    float_model   the PyTorch executor with taps: offline, batched, differentiable
    spectra       whole recordings -> spectra
    recipe        which nodes get which precision
    calibrate     histograms of the taps over real speech
    migration     per-channel scales moved through the graph so that 8 bits fit every channel
    qparams       the five verbs of quantization and the one rounding rule
    plan          the resolved table of grids
    loss_ranges   ranges by what they do to the enhanced spectrum
    rounding      weights up or down by their layer's error; bias_correction: the mean error taken back
    ptq           the stages above, from a float graph to a plan
    fake          the plan as a tap
    reference     the NumPy integer executor, judge of the emitters
    gru           weights of recurrent layers as emitters want them
    emit_onnx     (with onnx_file) the plan's exact scales as ONNX QDQ
    emit_tflite   (with tflite_file, tflite_ops, tflite_gru) and as a TFLite flatbuffer
    coverage      what the runtimes execute
    accuracy      error by tap, isolated and cumulative
    counts        parameters and MACs; budget: against a board
    artifact      the folder; build: all of the above into it
    evaluate      speech quality through the runtimes
    validation    the same on calibration sounds, while a model is being made
    search        (with search_groups, search_journal, tails) int8 where the speech metric allows; ablation
    cli, demo, bench   what is typed
"""
