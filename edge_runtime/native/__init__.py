"""The native engine: C99 sources, and the library that an install compiles from them (`libedge_denoise.so`)."""
