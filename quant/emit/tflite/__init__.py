"""The plan as a TFLite flatbuffer, without a converter.

file     a flatbuffer, written compactly
ops      operators, one method each
gru      a GRU cell in operators
emitter  one method a node kind
"""
