"""The compiler: a GTCRN checkpoint in, an artifact folder for one board out.

Modules, in processing order:

    assets        pinned downloads (`quant pull`)
    source        what a build starts from: a checkpoint to calibrate, or a trained file
    checkpoint    official .tar, state dict or streaming ONNX -> named arrays
    graph         the data structure every later stage reads
    gtcrn         the network, written once, as a graph of one frame
    variant       networks of other sizes: --set, and a checkpoint's shapes
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
    reference     the NumPy integer executor, judge of the emitters; exact: float arithmetic in a stated order
    gru           weights of recurrent layers as emitters want them
    emit_onnx     (with onnx_file) the plan's exact scales as ONNX QDQ
    other_software: official_io (the official signature, for sherpa-onnx and other hosts)
    emit_tensorrt (with tensorrt_rules) and as explicit symmetric QDQ for Jetson boards
    emit_tflite   (with tflite_file, tflite_ops, tflite_gru) and as a TFLite flatbuffer
    emit_native   (with native_file, native_gru, native_limits) and as a program for the C engine
    emit_c        (with firmware/) that program, the engine and a self-test as a folder of C
    coverage      what the runtimes execute
    accuracy      error by tap, isolated and cumulative
    counts        parameters and MACs; budget: against a board; liveness: which values share memory
    report        (with report_format, report_inputs, report_clips, report_provenance) what one decides from;
                  verdict, history: its rules; page, figures: as one HTML file; report_command
    counts        parameters and MACs; budget: against a board (budget_gates: limits; budget_compare: two)
    artifact      the folder; build: all of the above into it
    parallel      independent jobs on cores or a cluster, with progress
    metrics       PESQ, STOI, SI-SDR, DNSMOS; pairs: recordings and their groups; systems: what can be evaluated
    evaluate      speech quality through the runtimes; summary: means, paired differences, groups
    robustness    int8 against float on hard input (stimuli), each row with a bound
    validation    quality on calibration sounds, while a model is being made
    search        (with search_groups, search_journal, tails) int8 where the speech metric allows; ablation
    losses        what training minimises; training_data: batches of mixtures
    prepared      the quantized model that can be trained; training: the loop (training_curves: its picture)
    train         `quant qat` and `quant train`; trained: the file they leave
    sbom          what built it; card: what it is, for people; view: its graph
    signing       whose it is; bundle: one file of it all
    deploy        (with ssh, board_python) that file to a board; what the board does is edge_runtime.receive
    output        tables and JSON; cli, eval_command, train_command, demo, bench: what is typed
"""
