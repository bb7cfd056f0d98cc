"""Training: its state, `fit` and its loop, the history and the display of progress."""
