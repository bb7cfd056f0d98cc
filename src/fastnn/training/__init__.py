"""Training: data, objectives, the training loop, its history and its progress display."""
