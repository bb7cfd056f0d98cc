"""What a model gives to its users' compiled code, and takes back from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, overload

from fastnn.backend.cpu.c_function import CFunction
from fastnn.backend.cpu.frozen import FrozenNetwork
from fastnn.backend.cpu.learner import Learner
from fastnn.locks import importing
from fastnn.model.network import Network
from fastnn.model.reading import reads

if TYPE_CHECKING:
    from fastnn.backend.cuda.frozen import FrozenDeviceNetwork
    from fastnn.model.model import Model


class CompiledMixin(Network):
    """A network that can be frozen, and trained outside of Python."""

    @property
    def _numba_type_(self) -> Any:
        """Say what to do where Numba asks for the type of a model that a compiled function is called with."""
        raise TypeError(
            f"{self!r} cannot be given to a function that Numba compiles: freeze() it for predictions, or give its "
            "learner() to train (see fastnn.nopython)"
        )

    @overload
    def freeze(self, *, gradients: bool = False, device: Literal["cpu"] = "cpu") -> FrozenNetwork: ...

    @overload
    def freeze(self, *, gradients: bool = False, device: str) -> FrozenNetwork | FrozenDeviceNetwork: ...

    def freeze(self, *, gradients: bool = False, device: str = "cpu") -> FrozenNetwork | FrozenDeviceNetwork:
        """Return the network with a copy of its present weights, for compiled code: see `fastnn.nopython`.

        Parameters
        ----------
        gradients : bool
            Whether `fastnn.nopython.input_gradient` is to work; takes more kernels, which have to be compiled once.
        device : str
            What the code runs on that calls the network: ``"cpu"``, wherever the model is, or ``"cuda"`` (or
            ``"cuda:1"``) for kernels of ``numba.cuda.jit``, without gradients.

        Returns
        -------
        fastnn.nopython.FrozenNetwork or fastnn.nopython.FrozenDeviceNetwork

        Raises
        ------
        RuntimeError
            When the model is not built.
        ValueError
            When it has several inputs or outputs, an activation has no gradient where one is asked for, or there is no
            such device.
        DeviceError
            When no GPU can be used; says what is missing.
        NotImplementedError
            When it is for a GPU, and a function of the user's own is in it.
        """
        return self._frozen(gradients, device)

    @reads
    def _frozen(self, gradients: bool, device: str) -> FrozenNetwork | FrozenDeviceNetwork:
        with importing:
            from fastnn.model.freezing import freeze, freeze_on_device

        self._architecture_or_fail()
        if device == "cpu":
            return freeze(self._runtime, gradients=gradients)
        if gradients:
            raise ValueError("gradients: frozen networks on a GPU have none, expected False")
        return freeze_on_device(self._runtime, device)

    @reads
    def learner(self, *, gradients: bool = False, targets: str | None = None, steps: int | None = None) -> Learner:
        """Return a copy of the network, its optimizer and its loss, for training in compiled code.

        See `fastnn.nopython.train_step`; `update_from` takes back what was learned.

        Parameters
        ----------
        gradients : bool
            Whether `fastnn.nopython.input_gradient` and `parameter_gradient` are to work, too.
        targets : {"labels", "dense"}, optional
            What y holds for cross-entropy: labels, which are the default, or probabilities of all classes.
        steps : int, optional
            With a schedule of learning rates: for how many more steps it is worked out.

        Returns
        -------
        fastnn.nopython.Learner

        Raises
        ------
        RuntimeError
            When the model is not built or not compiled.
        ValueError
            When it has several inputs or outputs, an argument does not fit, or a schedule comes without `steps`.
        """
        with importing:
            from fastnn.model.learning import learner

        return learner(cast("Model", self), gradients=gradients, targets=targets, steps=steps)

    def update_from(self, learner: Learner) -> None:
        """Take over a learner's weights, optimizer state and count of steps.

        Parameters
        ----------
        learner : fastnn.nopython.Learner
            From `learner` of this model, or of one like it; also one that has been in another process.

        Raises
        ------
        TypeError
            When it is none.
        ValueError
            When it was made for another architecture, loss, optimizer or set of trainable layers.
        RuntimeError
            When the model is not compiled, or `fit` is training it.
        """
        with importing:
            from fastnn.model.learning import update_from

        update_from(cast("Model", self), learner)

    def c_function(self, signature: str = "int (const T *, T *)") -> CFunction:
        """Return a C function that computes one sample with a copy of the present weights.

        For ctypes, cffi, Cython and `scipy.LowLevelCallable`; see `fastnn.nopython.c_function`.
        """
        return CFunction(self.freeze(), signature)
