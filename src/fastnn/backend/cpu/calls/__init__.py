"""Products and predictions that are called on array objects directly."""
