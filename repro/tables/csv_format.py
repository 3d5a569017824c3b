"""Tables as tidy CSV: a line per row and column, with every figure in a field of its own."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from repro.tables.structure import AssembledCell, AssembledRow, AssembledTable, Judgement, Sample


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """All tables as CSV under one header, floats to six significant digits; ``command`` is not shown.

    Accuracies and their spread are in percent, deltas in points; ``*_seeds`` are separated by spaces; unknown values
    are empty fields.
    """
    records = list(_records(tables))
    columns = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _field(value) for name, value in record.items()})
    return text.getvalue()


def _field(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _records(tables: Sequence[AssembledTable]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for row in table.rows:
            for heading, cell in zip(table.columns, row.cells, strict=True):
                yield _record(table, row, heading.title, cell)


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
