"""Lines on the console."""

import sys

from fastnn.locks import importing

__all__ = ["say"]


def say(text: str) -> None:
    """Print a line on standard output without tearing a progress bar apart."""
    # Programs without a console (pythonw) have no standard output.
    if sys.stdout is not None:
        with importing:
            from tqdm import tqdm

        tqdm.write(text)
