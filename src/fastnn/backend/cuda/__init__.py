"""The CUDA backend: kernels that Numba compiles for the GPU, and the launches that run a program there."""
