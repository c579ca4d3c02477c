"""All rooms before it into one folder.

other_software  model files for other software
stages          `quant build`, in order
"""
