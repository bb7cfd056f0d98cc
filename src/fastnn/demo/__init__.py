"""What `python -m fastnn` shows: a training on the bundled digits, its race with NumPy, and this installation."""
