"""Training: data as it comes, objectives, the loop, its history and its progress display."""
