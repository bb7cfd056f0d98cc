"""Addresses read from array objects are those that NumPy returns."""

import numpy as np

from fastnn.addresses import OFFSET, address


def test_addresses_are_numpys():
    base = np.zeros((6, 7), np.float64)
    memory = np.frombuffer(bytearray(100), np.uint8)
    for array in (base, base[1:, 2:], base.T, base[::-1], memory[3:], np.zeros(0), np.float32(1.0).reshape(1)):
        assert address(array) == array.ctypes.data


def test_the_quick_way_is_taken_on_cpython():
    assert OFFSET > 0
