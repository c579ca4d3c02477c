"""GTCRN as a graph of one frame, its exact rewrites, and its execution in float.

graph        the data structure that every later room reads
erb          the fixed matrices between 257 bins and 129 bands
gtcrn        the network, written once
sizes        networks of other sizes: `--set`, and the shapes of a checkpoint
gru_weights  weights of recurrent layers as emitters want them
passes       exact rewrites: BatchNorm folded, transposed convolutions made plain ones
float_model  PyTorch runs the graph: offline, batched, differentiable, every value tapped
spectra      whole recordings as spectra
"""
