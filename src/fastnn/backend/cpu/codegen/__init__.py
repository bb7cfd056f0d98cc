"""The building blocks of kernels: vectors, tiles, intrinsics, atomics, jit options."""
