"""The CUDA driver, through NVIDIA's bindings: every call's result is checked, and a failure names the call."""

from __future__ import annotations

from typing import Any

from fastnn.errors import DeviceError, DeviceMemoryError

_OUT_OF_MEMORY = 2


class Driver:
    """Calls functions of the driver by name.

    Parameters
    ----------
    bindings : module, optional
        ``cuda.bindings.driver`` by default; tests pass a replacement.
    """

    def __init__(self, bindings: Any = None) -> None:
        if bindings is None:
            from cuda.bindings import driver

            bindings = driver
        self.bindings = bindings
        self._functions: dict[str, Any] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function and return its results: None, one, or a tuple.

        Raises
        ------
        DeviceMemoryError
            When the GPU does not have enough memory.
        DeviceError
            When the driver refuses for another reason.
        """
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = getattr(self.bindings, name)
        found = function(*arguments)
        if found[0] != 0:
            raise self._error(name, found[0])
        return found[1] if len(found) == 2 else found[1:] or None

    def _error(self, name: str, result: Any) -> DeviceError:
        described = self.bindings.cuGetErrorString(result)[1]
        text = described.decode() if isinstance(described, bytes) else str(described)
        if int(result) == _OUT_OF_MEMORY:
            return DeviceMemoryError(f"{name}: the GPU is out of memory")
        return DeviceError(f"{name}: {text} (CUDA error {int(result)})")
