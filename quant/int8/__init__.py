"""What 8 bits mean: a recipe asks, a plan decides, a tap rounds, a reference judges.

qparams          the five verbs of quantization and the one rounding rule
recipe           which nodes are computed in 8 bits (recipes/*.toml)
plan             what is stored in 8 bits and on which grid
sixteen_bits     affine ReLUs, gates and sums of the native engine in 16 bits
cells            recurrent layers over bands of the native engine in 16 bits
cells_over_time  those over time, with a state of 16 bits
block_floats     float convolutions of the native engine by integers of one exponent
roundings        the plan as the native engine computes it: fewer grids
runtimes         the plan as ONNX and TFLite compute it: more in float
fake_quantize    the plan as a tap of the float model
exact_float      float arithmetic in a stated order, for C to follow bit for bit
recurrent        recurrent cells in float, with 8-bit products, all in 8 bits
reference        the integer reference in NumPy: it judges every emitter
"""
