"""A part of a table: some of its rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from repro.experiment.config import select
from repro.experiment.schema import Table


class Part(NamedTuple):
    """The ids of the rows and of the columns that are shown of a table; None for all of them."""

    rows: Sequence[str] | None = None
    columns: Sequence[str] | None = None

    def of(self, table: Table) -> Table:
        """``table`` with these rows and columns alone. Raises UserError for an unknown one."""
        rows, columns = table.rows, table.columns
        if self.rows is not None:
            rows = tuple(select(rows, self.rows, f"row of {table.id}"))
        if self.columns is not None:
            columns = tuple(select(columns, self.columns, f"column of {table.id}"))
        return table.model_copy(update={"rows": rows, "columns": columns})


ALL = Part()
