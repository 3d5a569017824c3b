"""Tables as tidy CSV: a line per row and column, with every figure in a field of its own."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from repro.tables.structure import AssembledCell, AssembledRow, AssembledTable, Judgement, Sample
from repro.wording import spreadsheet_text


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """All tables as CSV under one header, floats to six significant digits; ``command`` is not shown.

    Accuracies and their spread are in percent, deltas in points; ``*_seeds`` are separated by spaces; unknown values
    are empty fields.
    """
    records = [
        _record(table, row, heading.title, cell)
        for table in tables
        for row in table.rows
        for heading, cell in zip(table.columns, row.cells, strict=True)
    ]
    fields = dict.fromkeys(name for record in records for name in record)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _field(value) for name, value in record.items()})
    return text.getvalue()


def _field(value: Any) -> Any:
    if not isinstance(value, float):
        return spreadsheet_text(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def _record(table: AssembledTable, row: AssembledRow, loss: str, cell: AssembledCell) -> dict[str, Any]:
    return {
        "table": table.id,
        "kind": table.kind,
        "comparable": table.comparable,
        "metric": table.metric,
        "row": row.id,
        "row_table": row.table,
        **({"lab": row.lab} if row.lab else {}),
        "model": row.title,
        "variant": row.variant,
        "column": cell.column,
        "loss": loss,
        "published_parameters_millions": row.published_parameters_millions,
        "counted_parameters": row.counted_parameters,
        "published_top1_percent": cell.published,
        "published_delta_points": cell.published_delta,
        **_sample("ours", cell.ours),
        **_sample("delta", cell.delta),
        "diverged_seeds": _seeds(cell.diverged_seeds),
        **({"imported_seeds": _seeds(cell.imported_seeds)} if cell.imported_seeds else {}),
        **(_judgement(cell.judgement) if table.verdicts else {}),
    }


def _judgement(judgement: Judgement | None) -> dict[str, Any]:
    low, high = (judgement and judgement.interval_points) or (None, None)
    answers = judgement and judgement.answers
    return {
        "interval_low_points": low,
        "interval_high_points": high,
        "p_adjusted": judgement and judgement.p_adjusted,
        "verdict": judgement and judgement.verdict,
        "qualification": (judgement and judgement.qualification) or None,
        "compatible": answers and answers.compatible.holds,
        "p_small_adjusted": answers and answers.small.p_adjusted,
    }


def _sample(name: str, sample: Sample | None) -> dict[str, Any]:
    return {
        f"{name}_mean": sample and sample.mean,
        f"{name}_std": sample and sample.std,
        f"{name}_n": sample and sample.n,
        f"{name}_seeds": sample and _seeds(sample.seeds),
    }


def _seeds(seeds: Sequence[int]) -> str | None:
    return " ".join(map(str, seeds)) or None
