"""Chains of elementwise ops on values that no cache holds."""

from chains import CHAINS, arrays, lowered, with_numpy
from titles import titled

#: fastnn's chain, its records one after the other, one record that reads and writes as much, and NumPy
HOW = ["chain", "records", "ends", "numpy"]


@titled("Six elementwise ops on a million float32")
class Chains:
    """A chain of six ops, on one thread."""

    params = (HOW, list(CHAINS))
    param_names = ("how", "chain")

    def setup(self, how: str, chain: str) -> None:
        """Fill the inputs, compile, and call once."""
        inputs = arrays(1_000_000, CHAINS[chain][1])
        if how == "numpy":
            self.call = with_numpy(chain, inputs)
        else:
            program = lowered(chain, inputs, chained=how == "chain", ends=how == "ends")
            self.call = lambda: program(1, 1)
        self.call()

    def time_chain(self, how: str, chain: str) -> None:
        """Compute all elements once."""
        self.call()
