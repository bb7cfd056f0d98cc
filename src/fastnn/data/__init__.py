"""Data of the user, checked: arrays, data frames, targets, sample weights, subsets of rows."""
