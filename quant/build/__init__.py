"""All rooms before it into one folder.

settings  from what, for which board, with how much effort, into what
models    what is emitted, and the vectors that it must reach
contents  what lies in the folder, and the manifest
reported  what the report says of it
again     into a folder that holds an artifact
stages    `quant build`, in order
networks  what there is to choose from, side by side
"""
