"""The device and PTX of Numba's simulator, for tests without a GPU."""
