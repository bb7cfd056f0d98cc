"""Networks that a thread of a user's CUDA kernel interprets."""
