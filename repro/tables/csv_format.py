"""Tables as tidy CSV: a line a row and column, every figure in a field of its own. Pandas is imported here alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from repro.tables.structure import AssembledCell, AssembledRow, AssembledTable, Judgement, Sample

if TYPE_CHECKING:
    import pandas as pd

_COUNTS = ("counted_parameters", "ours_n", "delta_n")


def to_frame(tables: Sequence[AssembledTable]) -> pd.DataFrame:
    """A line a row and column of every table.

    Accuracies and their spread are in percent, deltas in points; ``*_seeds`` are separated by spaces; what is missing
    is missing.
    """
    import pandas as pd

    records = [
        _record(table, row, title, cell)
        for table in tables
        for row in table.rows
        for title, cell in zip((heading.title for heading in table.columns), row.cells, strict=True)
    ]
    return pd.DataFrame.from_records(records).astype(dict.fromkeys(_COUNTS, "Int64"))


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """The frame as CSV under one header, figures to six digits; ``command`` has no place in it."""
    return str(to_frame(tables).to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _record(table: AssembledTable, row: AssembledRow, column_title: str, cell: AssembledCell) -> dict[str, Any]:
    return {
        "table": table.id,
        "kind": table.kind,
        "comparable": table.comparable,
        "metric": table.metric,
        "row": row.id,
        "row_table": row.table,
        "model": row.title,
        "variant": row.variant,
        "column": cell.column,
        "loss": column_title,
        "published_parameters_millions": row.published_parameters_millions,
        "counted_parameters": row.counted_parameters,
        "published_top1_percent": cell.published,
        "published_delta_points": cell.published_delta,
        **dict(_sample("ours", cell.ours)),
        **dict(_sample("delta", cell.delta)),
        "diverged_seeds": _seeds(cell.diverged_seeds),
        **(dict(_judgement(cell.judgement)) if table.verdicts else {}),
    }


def _judgement(judgement: Judgement | None) -> Iterator[tuple[str, Any]]:
    low, high = (judgement and judgement.interval_points) or (None, None)
    yield "interval_low_points", low
    yield "interval_high_points", high
    yield "p_adjusted", judgement.p_adjusted if judgement else None
    yield "verdict", judgement.verdict if judgement else None


def _sample(name: str, sample: Sample | None) -> Iterator[tuple[str, Any]]:
    yield f"{name}_mean", sample.mean if sample else None
    yield f"{name}_std", sample.std if sample else None
    yield f"{name}_n", sample.n if sample else None
    yield f"{name}_seeds", _seeds(sample.seeds) if sample else None


def _seeds(seeds: Sequence[int]) -> str | None:
    return " ".join(map(str, seeds)) or None
