"""`train_many`: many small networks at once, one per thread."""
