"""Export of models to users' compiled code, and import of what was learned there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from fastnn.backend.cpu.frozen.c_function import CFunction
from fastnn.backend.cpu.frozen.learner import Learner
from fastnn.backend.cpu.frozen.network import FrozenNetwork
from fastnn.checks import flag
from fastnn.locks import importing
from fastnn.model.trained import TrainedMixin
from fastnn.runtime.programs.independence import check_frozen, traits
from fastnn.runtime.reading import reads

if TYPE_CHECKING:
    from fastnn.nopython.device_freeze import FrozenDeviceNetwork


class ExportMixin(TrainedMixin):
    """A network that can be frozen, and trained outside Python."""

    @property
    def _numba_type_(self) -> Any:
        """Explain what to do when Numba asks for a model's type, because a compiled function was called with it."""
        raise TypeError(
            f"{self!r} cannot be passed to a function that Numba compiles: pass its freeze() to predict, or its "
            "learner() to train (see fastnn.nopython)"
        )

    @overload
    def freeze(
        self, *, gradients: bool = False, device: Literal["cpu"] = "cpu", rows: int | None = None,
        stateful: bool = False,
    ) -> FrozenNetwork: ...  # fmt: skip

    @overload
    def freeze(
        self, *, gradients: bool = False, device: str, rows: int | None = None, stateful: bool = False
    ) -> FrozenNetwork | FrozenDeviceNetwork: ...

    def freeze(
        self, *, gradients: bool = False, device: str = "cpu", rows: int | None = None, stateful: bool = False
    ) -> FrozenNetwork | FrozenDeviceNetwork:
        """Return the network with a copy of its current weights, for compiled code: see `fastnn.nopython`.

        Parameters
        ----------
        gradients : bool
            Whether to support `fastnn.nopython.input_gradient`; needs more kernels, which are compiled once. Inputs of
            integers have no gradient.
        device : str
            Where the calling code runs: ``"cpu"``, wherever the model is, or ``"cuda"`` (or
            ``"cuda:1"``) for kernels of ``numba.cuda.jit``, without gradients.
        rows : int, optional
            For exactly this many rows: calls with another number raise ValueError. Then rows of the outputs may depend
            on several rows of the inputs, and outputs may be of any shape. The results are those of all rows at once.
            By default the network is for any number of rows.
        stateful : bool
            Whether to freeze one time step of a network of sequences, for `fastnn.nopython.step`: the states of its
            recurrent layers, and the keys and values of its causal attention, are in an array of
            the caller's, from `fastnn.nopython.state`. Between its input and them, and behind layers that return
            sequences, are layers that work step by step, such as `Dense`, `Dropout`, `LayerNorm` and `Embedding`.
            Masks that these make count for recurrent layers; attention takes none.

        Returns
        -------
        fastnn.nopython.FrozenNetwork or fastnn.nopython.FrozenDeviceNetwork

        Raises
        ------
        RuntimeError
            When the model is not built.
        ValueError
            When rows of the outputs depend on several rows of the inputs, without `rows`, or on random numbers; when an
            activation lacks a gradient that is needed, or all inputs hold integers; when a model for a GPU has several
            inputs or outputs, or there is no such device; when the network cannot go step by step.
        DeviceError
            When no GPU can be used; says what is missing.
        NotImplementedError
            When it is for a GPU and contains a user-defined function.
        """
        if flag("stateful", stateful):
            if gradients or device != "cpu" or rows is not None:
                raise ValueError("stateful: expected no gradients, no rows and the device 'cpu' with stateful=True")
            try:
                steps = self._next_steps(None)
            except ValueError as error:
                raise ValueError(f"freeze: with stateful=True {error}") from None
            frozen: FrozenNetwork = steps._frozen(gradients, device, rows)
            return frozen
        return self._frozen(gradients, device, rows)

    def _next_steps(self, steps: int | None) -> Any:
        """Return the model of one time step, or of several that are known, with this model's weights."""
        raise NotImplementedError

    @reads
    def _frozen(self, gradients: bool, device: str, rows: int | None) -> FrozenNetwork | FrozenDeviceNetwork:
        with importing:
            from fastnn.export.network import checked_rows, freeze, freeze_on_device

        runtime = self._runtime
        runtime.table.architecture.require_known("freeze")
        runtime.states.refuse(
            "freeze", "compiled code keeps no states of batches: freeze(stateful=True) goes step by step, with states "
            "in an array of the caller's",
        )  # fmt: skip
        rows = checked_rows("freeze", rows)
        check_frozen(self.name, traits(runtime.table, training=False), rows)
        if device == "cpu":
            return freeze(runtime, gradients=gradients, rows=rows)
        if rows is not None:
            raise ValueError("rows: a thread of a GPU computes one row at a time, expected None")
        if gradients:
            raise ValueError("gradients: frozen networks on a GPU have no gradients, expected False")
        return freeze_on_device(runtime, device)

    @reads
    def learner(
        self,
        *,
        gradients: bool = False,
        targets: str | Sequence[str | None] | None = None,
        steps: int | None = None,
        metrics: bool = False,
        rows: int | None = None,
    ) -> Learner:
        """Return a copy of the network, its optimizer and its loss, for training in compiled code.

        See `fastnn.nopython.train_step`; `update_from` copies what was learned back into the model.

        Parameters
        ----------
        gradients : bool
            Whether to support `fastnn.nopython.input_gradient` and `parameter_gradient`, too; without inputs of numbers
            only the latter.
        targets : {"labels", "dense"}, optional
            What y holds for cross-entropy: labels (the default) or probabilities of all classes; for a function of
            symbols: numbers of the output's shape (the default), or an integer for each row. A list for several
            outputs, with one for each output that has a loss.
        steps : int, optional
            With a learning rate schedule: for how many more steps to compute it.
        metrics : bool
            Whether the steps also compute the metrics of `compile`, which takes time; `learner_logs` returns them.
        rows : int, optional
            For steps on exactly this many rows: others raise ValueError, and change nothing. Losses and layers that
            compare all pairs of rows need it, such as contrastive losses. Predictions are for any number of rows all
            the same, unless rows of the outputs depend on each other.

        Returns
        -------
        fastnn.nopython.Learner

        Raises
        ------
        RuntimeError
            When the model is not built or not compiled.
        ValueError
            When an argument does not fit, or a schedule comes without `steps`.
        NotImplementedError
            When sizes of what is computed are not in proportion to the rows, without `rows`.
        """
        with importing:
            from fastnn.export.learner import learner

        self._runtime.table.architecture.require_known("learner")
        self._runtime.states.refuse(
            "learner", "compiled code keeps no states of batches: make states inputs and outputs of the model instead "
            "(initial_state=, return_state=True), as docs/sequences.md does for windows of a series",
        )  # fmt: skip
        return learner(self._runtime, gradients=gradients, targets=targets, steps=steps, metrics=metrics, rows=rows)

    def learner_logs(self, learner: Learner) -> dict[str, Any]:
        """Return the loss and metrics of a learner's steps since it was made, or since they were reset.

        As in the logs of `fit`, they are means over all samples, each with the weights of its step.

        Parameters
        ----------
        learner : fastnn.nopython.Learner
            From ``learner(metrics=True)``.

        Raises
        ------
        TypeError
            When it is not a learner.
        ValueError
            When it was made without metrics, or for another architecture, loss or metrics, or has taken no step.
        """
        with importing:
            from fastnn.export.learner import logs

        return logs(self._runtime, learner)

    def reset_learner_logs(self, learner: Learner) -> None:
        """Start the loss and metrics of a learner again; see `learner_logs`."""
        with importing:
            from fastnn.export.learner import reset

        reset(self._runtime, learner)

    def update_from(self, learner: Learner) -> None:
        """Take over a learner's weights, optimizer state and count of steps.

        Parameters
        ----------
        learner : fastnn.nopython.Learner
            From `learner` of this model, or of one like it; it may have been in another process.

        Raises
        ------
        TypeError
            When it is not a learner.
        ValueError
            When it was made for another architecture, loss, optimizer or set of trainable layers.
        RuntimeError
            When the model is not compiled, or `fit` is training it.
        """
        with importing:
            from fastnn.export.learner import update_from

        if not isinstance(learner, Learner):
            raise TypeError(f"update_from: expected a Learner from Model.learner, got {type(learner).__name__}")
        self._state.fail_in_training("update_from")
        update_from(self._runtime, learner)

    def c_function(self, signature: str = "int (const T *, T *)") -> CFunction:
        """Return a C function that computes one sample with a copy of the current weights.

        For ctypes, cffi, Cython and `scipy.LowLevelCallable`; see `fastnn.nopython.c_function`, which also makes one of
        ``freeze(rows=n)``, for n rows. It takes int64 where the input holds integers.
        """
        self._runtime.table.architecture.require_known("c_function")
        return CFunction(self.freeze(), signature)
