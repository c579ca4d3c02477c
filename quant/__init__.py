"""The compiler: a checkpoint of one of several networks in, an artifact folder for one board out.

Rooms in the order of imports: each imports only those above it. A reader follows a checkpoint: inputs, network, int8,
ptq or training, emit, audit, quality, search, report, build, deploy; what differs is that the artifact is the ground
though it is the product, and that inputs come after what a checkpoint is checked against.

    artifact  the folder as files: written whole, sealed, listed, carried as one
    network   networks as graphs of one frame, their exact rewrites, and their execution in float
    int8      what 8 bits mean: a recipe asks, a plan decides, a tap rounds, a reference judges
    inputs    what comes from outside: pulled files, checkpoints, trained files
    ptq       from ranges to a plan without training
    training  from a plan to better weights
    emit      the plan as model files: ONNX, TFLite, native
    audit     what a model costs, and what runtimes make of it
    quality   how it sounds: metrics on pairs, on many cores; hard input
    search    int8 where the speech metric allows it
    report    report.json, report.html, model card
    build     all of the above into one folder
    deploy    the folder to a board over ssh
    cli       what is typed
"""
