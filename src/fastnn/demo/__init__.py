"""The commands of `python -m fastnn`: a training on the bundled digits, its race with NumPy, and `info`."""
