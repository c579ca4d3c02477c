"""The plan as a program for the C engine.

limits        what the loader takes
file          operations, arrays, and where every value lies in memory
arrays        weights and biases as the operations read them
parts         what lowering any node needs
gru           recurrent layers
convolutions  convolutions
emitter       one method a node kind
c_project     engine, weights and self-test as a folder of C (firmware/)
"""
