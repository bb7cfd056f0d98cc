"""A model's buffers and programs, and how they run, on the CPU and on GPUs."""
