"""Sound on its way, in fixed memory.

library  the native one, or why not
fifo     samples in fixed memory
rate     sample rates of live sound
front    the microphone as it should be: without offset and rumble, loud enough
bridge   between the devices' rates and hops, with or without a full band
"""
