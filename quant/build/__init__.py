"""All rooms before it into one folder.

settings        from what, for which board, with how much effort, into what
other_software  model files for other software
stages          `quant build`, in order
"""
