"""Int8 where the speech metric allows it.

validation  what 8 bits cost the listener, measured while a model is made
tails       ranges for any migration, from one pass
groups      what may be raised together
journal     every measured trial, so that a killed search goes on
path        of a search, step by step
climb       `quant build --max-pesq-drop`
ablation    `quant ablate`
"""
