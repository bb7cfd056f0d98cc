"""What models and training functions have in common: an optimizer, a count of steps, files and pickles."""

from __future__ import annotations

import copy
import copyreg
import os
from typing import Any

from fastnn.checks import flag
from fastnn.model.base import LIBRARY_ATTRIBUTES, BaseModel
from fastnn.optimizers import Optimizer
from fastnn.runtime.averaging import finalize
from fastnn.runtime.reading import reads


class TrainedMixin(BaseModel):
    """A network that is trained by an optimizer, saved, and pickled."""

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer; its `learning_rate` may be assigned."""
        compiled = self._state.compiled
        if compiled is None:
            raise RuntimeError("the model has no optimizer yet: call compile first")
        return compiled.optimizer

    @property
    def step(self) -> int:
        """The number of training steps taken since the model was made."""
        return self._runtime.step_count() if self.built else 0

    def finalize_variable_values(self) -> None:
        """Put the moving averages of the trained weights in their place, where the optimizer has ``use_ema=True``.

        `fit` does so at its end, unless it is interrupted. Call it after `train_on_batch` and `update_from`. The
        averages themselves stay: further training begins with the weights as they are then, but for
        ``fit(resume=True)``, which goes on with those that were replaced. Without averages it does nothing.

        Raises
        ------
        RuntimeError
            When the model is not built or not compiled, or a run that this call has interrupted is training it.
        """
        self._runtime.fail_within("finalize_variable_values")
        if self.optimizer.use_ema:
            finalize(self._runtime)

    @reads
    def save(self, path: str | os.PathLike[str], include_optimizer: bool = True) -> None:
        """Save weights, architecture, optimizer state and the position in training in one safetensors file.

        Parameters
        ----------
        path : path
            Written atomically: after a crash the old file is still there.
        include_optimizer : bool
            False leaves out everything that belongs to training: a model loaded from the file has to be compiled.
        """
        from fastnn.saving.model_file import save

        training = flag("include_optimizer", include_optimizer)
        save(self._state, path, self._kind, self.name, training=training, options=self._options())

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle a model as it would be saved: `copy.deepcopy`, joblib and multiprocessing work.

        A copy of a subclass has that class, and the attributes that were set.
        A copy is on the model's device, or on the CPU if the process that makes it has no GPU.
        """
        from fastnn.config import collecting
        from fastnn.saving.model_file import describe, restore
        from fastnn.saving.networks import kinds_of

        if not self.built:
            attributes = self.__dict__ | {"_state": copy.copy(self._state)}
            return copyreg.__newobj__, (type(self),), attributes  # type: ignore[attr-defined]
        state, runtime = self._state, self._runtime
        with collecting() as custom:
            described = describe(state, self._kind, self.name, options=self._options())
        own = {name: value for name, value in self.__dict__.items() if name not in LIBRARY_ATTRIBUTES}
        made_of = kinds_of(runtime.table.architecture)
        more = (made_of,) if made_of else ()
        arguments = (type(self), *described, runtime.optimizer, custom, state.device, state.precision, *more)
        return restore, arguments, own or None
