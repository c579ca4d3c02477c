"""Networks as graphs of one frame, their exact rewrites, and their execution in float.

graph        the data structure that every later room reads
erb          the fixed matrices between 257 bins and 129 bands
builder      what networks are built of
family       what a network is to the rooms above: the data in which families differ
gtcrn        GTCRN, written once
ulunas       UL-UNAS, written once
registry     which networks there are
sizes        networks of other sizes: `--set`, and the shapes of a checkpoint
gru_weights  weights of recurrent layers as emitters want them
passes       exact rewrites: BatchNorm folded, transposed convolutions made plain ones
float_model  PyTorch runs the graph: offline, batched, differentiable, every value tapped
spectra      whole recordings as spectra
"""
