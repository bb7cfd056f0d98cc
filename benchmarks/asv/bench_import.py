"""Time until the package can be used, in a process of its own."""


class Import:
    """`import fastnn` compiles nothing and imports nothing optional."""

    # A second import in the same process is free.
    number = 1

    def timeraw_import(self) -> str:
        """`import fastnn`, NumPy included."""
        return "import fastnn"

    def timeraw_numpy(self) -> str:
        """`import numpy`, for comparison."""
        return "import numpy"
