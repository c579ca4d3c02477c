"""What a model costs, and what runtimes make of it.

findings      what all of it is, as report.json holds it
counts        parameters, MACs and bytes, layer by layer
memory        which values of a frame live at the same time
frame_time    time a hop on boards that are not at hand
coverage      the precision of each node as the runtime executes it
blocks        what layers are parts of
accuracy      error by tap, alone and with everything quantized
footprint     flash and RAM: the model file, what the C engine sets aside
losses        error at the output by block, adding up
budget        a network against the budget of a board
budget_table  its rows
gates         limits beside those of the board
compare       two networks side by side
"""
