"""Tables as JSON: everything, unrounded, with the accuracy of each seed.

The document holds ``schema_version`` (1), ``command`` and ``tables``, a list. A table has

``id``, ``reference``, ``label``, ``title``, ``kind``, ``source``, ``dataset``, ``overrides``, ``comparable``
    its identity; ``comparable`` is false if an override makes it incomparable with the paper
``metric``                ``last`` or ``best``: the epoch of our accuracies (best: selected on the test set)
``runs``                  ``recorded`` of ``planned`` (cells times ``seeds``); those in the means, counted by
                          ``devices`` and ``code_hashes``
``columns``               ``id``, ``title``, ``baseline`` (true for the one that deltas are taken against)
``rows``                  ``id``, ``table``, ``title``, ``model``, ``variant``, ``marks``, with several results folders
                          ``lab`` (a row for each), ``parameters`` (``published_millions``, ``counted``), ``cells``
``cells``                 ``column``, ``published`` (``top1_percent``, ``delta_points``), ``ours`` and ``delta``
                          (``mean``, ``std``, ``n``, ``values`` by seed; null if there are none),
                          ``diverged_seeds``, ``marks``; ``imported_seeds`` of ``ours``, if there are any;
                          if verdicts were asked for, ``judgement``
                          (``verdict``, ``qualification`` of runs that ended badly, ``p_adjusted``,
                          ``interval_points``, ``seeds_needed``, ``answers``: ``effect``, ``opposite``,
                          ``compatible``, ``small``; null for the baseline)
``notes``                 ``mark`` (null: of the whole table), ``text`` (backticks mark ids, paths and settings)
``left_out``              every record that is in no mean: ``run``, ``path``, ``why``, ``detail``
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from repro.experiment.added_keys import without_neutral
from repro.tables.structure import AssembledCell, AssembledRow, AssembledTable, Sample


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """One JSON document with all tables."""
    document = {"schema_version": 1, "command": command, "tables": [_table(table) for table in tables]}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _table(table: AssembledTable) -> dict[str, Any]:
    return {
        "id": table.id,
        "reference": table.reference,
        "label": table.label,
        "title": table.title,
        "kind": table.kind,
        "source": table.source,
        "dataset": without_neutral({"dataset": table.dataset.model_dump(mode="json", exclude={"path"})})["dataset"],
        "overrides": dict(table.overrides),
        "comparable": table.comparable,
        "metric": table.metric,
        "runs": {
            "seeds": table.seeds,
            "recorded": table.recorded_runs,
            "planned": table.planned_runs,
            "devices": dict(table.devices),
            "code_hashes": dict(table.code_hashes),
        },
        "columns": [asdict(heading) for heading in table.columns],
        "rows": [_row(row, judged=table.verdicts is not None) for row in table.rows],
        "notes": [asdict(note) for note in table.notes],
        "left_out": [asdict(record) for record in table.left_out],
    }


def _row(row: AssembledRow, *, judged: bool) -> dict[str, Any]:
    return {
        "id": row.id,
        "table": row.table,
        "title": row.title,
        "model": row.model,
        "variant": row.variant,
        **({"lab": row.lab} if row.lab else {}),
        "parameters": {"published_millions": row.published_parameters_millions, "counted": row.counted_parameters},
        "cells": [_cell(cell, judged=judged) for cell in row.cells],
        "marks": row.marks,
    }


def _cell(cell: AssembledCell, *, judged: bool) -> dict[str, Any]:
    fields = {
        "column": cell.column,
        "published": {"top1_percent": cell.published, "delta_points": cell.published_delta},
        "ours": _sample(cell.ours),
        "delta": _sample(cell.delta),
        "diverged_seeds": cell.diverged_seeds,
        "marks": cell.marks,
    }
    if cell.imported_seeds:
        fields["imported_seeds"] = cell.imported_seeds
    if judged:
        fields["judgement"] = asdict(cell.judgement) if cell.judgement else None
    return fields


def _sample(sample: Sample | None) -> dict[str, Any] | None:
    if sample is None:
        return None
    values = {str(seed): value for seed, value in sample.values}
    return {"mean": sample.mean, "std": sample.std, "n": sample.n, "values": values}
