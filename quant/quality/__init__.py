"""How it sounds: metrics on pairs of recordings, on many cores; hard input.

isolated    jobs in processes that may die
parallel    independent jobs on cores or on a cluster
metrics     PESQ, STOI, SI-SDR, DNSMOS
layouts     which clean recording belongs to a noisy one, in published data sets
pairs       recordings and the groups they are in
systems     what can be evaluated
results     what an evaluation finds
evaluate    every system on every clip, through the real runtimes
summary     means, paired differences, intervals
kept        where a result goes
stimuli     hard input
shipped     what was measured of the network that comes with the project
robustness  int8 against float on it, each row with a bound
"""
