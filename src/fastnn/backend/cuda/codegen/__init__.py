"""The building blocks of CUDA kernels, and their compilation: PTX, jit options, sizes, the cache."""
