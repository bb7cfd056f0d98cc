"""Models that take rows of tables as they are: frames are prepared first, as those were that the model learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.checks import shorten
from fastnn.model.gradients import GradientsMixin

if TYPE_CHECKING:  # elsewhere where it is used: models without a preparation need no tables
    from fastnn.tables.preparation import Preparation
    from fastnn.tables.table import Table


class PreparedMixin(GradientsMixin):
    """A network that may have a preparation."""

    @property
    def preparation(self) -> Preparation | None:
        """How rows of tables become inputs; None for a model of arrays.

        ::

            model.preparation = table.preparation

        With it, `predict` and `evaluate` take data frames and structured arrays as `fastnn.data.frame` takes them, and
        `save` keeps it in the file. ``model.preparation.decode(model.predict(df))`` gives names of classes.
        Assigning raises TypeError for anything else than a preparation, a `fastnn.data.Table` or None, and ValueError
        if it makes other inputs than the model's.
        """
        found: Preparation | None = self._state.preparation
        return found

    @preparation.setter
    def preparation(self, given: Preparation | Table | None) -> None:
        from fastnn.tables.preparation import Preparation
        from fastnn.tables.table import Table

        found = given.preparation if isinstance(given, Table) else given
        if found is not None and not isinstance(found, Preparation):
            raise TypeError(
                f"preparation: expected that of a table, from fastnn.data.frame, or None, got {shorten(given)}"
            )
        if found is not None:
            self._check_preparation(found)
        self._state.preparation = found

    def _take_preparation(self, preparation: Any) -> None:
        self._check_preparation(preparation)
        self._state.preparation = preparation

    def _check_preparation(self, preparation: Preparation) -> None:
        """Raise ValueError unless a preparation makes the model's inputs."""
        if not self.built:
            return
        specs = self._architecture.input_specs
        expected, made = [(spec.shape, spec.kind) for spec in specs], preparation.input_kinds()
        if expected != made:
            raise ValueError(
                f"preparation: makes inputs {_spelled(made)}, but the model takes {_spelled(expected)}: see "
                "preparation.inputs()"
            )

    def _prepared(self, x: Any) -> Any:
        """Return the inputs for rows of a table, and anything else as it is."""
        from fastnn.tables.reading import is_table

        preparation = self.preparation
        return preparation.inputs_of(x, "x") if preparation is not None and is_table(x) else x

    def _prepared_pair(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return the same, and the target of a table if none is given."""
        preparation = self.preparation
        if preparation is None:
            return x, y
        from fastnn.tables.reading import is_table

        if not is_table(x):
            return x, y
        if y is not None:
            return preparation.inputs_of(x, "x"), y
        table = preparation.transform(x)
        return table.x, table.y


def _spelled(kinds: list[tuple[tuple[Any, ...], str]]) -> str:
    return ", ".join([f"{'integers' if kind == 'int64' else 'numbers'} {('n', *shape)}" for shape, kind in kinds])
