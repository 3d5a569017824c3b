"""The comparison of two results folders as text for a terminal, as Markdown and as JSON.

The JSON document holds ``schema_version`` (1), ``command``, ``all_identical``, and

``folders``               ``A`` and ``B``: ``path`` as given, ``records``
``runs``                  that both have: ``run``, ``likeness``, ``why``, ``delta_points`` (B minus A, top-1 after
                          the last epoch), ``apart_at`` (the first epoch whose numbers differ), ``same_code``
``cells``                 of one configuration: ``cell``, ``A`` and ``B`` (``mean``, ``std``, ``n``, ``values`` by seed,
                          ``diverged_seeds``, ``imported_seeds``), ``delta`` (``how``: paired or unpaired, ``seeds``,
                          ``points``, ``interval_points``: 95%, null without one)
``only``, ``unusable``    ``A`` and ``B``: run ids; run ids with the reason
``made_with``             ``what``, ``counts``: the number of runs in A and B by value
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from repro.analysis.comparison import FOLDERS, Arm, CellPair, Comparison, Likeness, RunPair
from repro.analysis.stats.estimates import MIN_SEEDS
from repro.tables.layout import MISSING, interval
from repro.tables.markdown_format import escape
from repro.wording import counted, one_line, signed

MOST_SHOWN = 10
Rows = Sequence[Sequence[str]]
_NOT_ALIKE = (Likeness.DIFFERENT, Likeness.NOT_KNOWN, Likeness.OTHER)


@dataclass(frozen=True)
class Part:
    """A part of the text: its heading, a table whose first row are the headings of its columns, and sentences."""

    heading: str
    rows: Rows = ()
    sentences: Sequence[str] = ()


def text(comparison: Comparison, paths: Sequence[str], command: str, *, all_names: bool = False) -> str:
    """For a terminal, without a line over 80 columns as long as names are short. ``all_names``: of all runs."""
    lines: list[str] = []
    for part in _parts(comparison, paths, all_names=all_names):
        lines += ["", part.heading, ""] if lines else [part.heading]
        lines += [*_aligned(part.rows), *part.sentences]
    return "\n".join(map(one_line, lines)) + "\n"


def markdown(comparison: Comparison, paths: Sequence[str], command: str, *, all_names: bool = False) -> str:
    """As Markdown. ``all_names``: of all runs, not the first ten."""
    lines: list[str] = []
    for part in _parts(comparison, paths, all_names=all_names):
        lines += ["", f"**{escape(part.heading)}**", ""] if lines else [f"**{escape(part.heading)}** ", ""]
        if part.rows:
            rows = [list(map(escape, row)) for row in part.rows]
            widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
            rows.insert(1, ["-" * width for width in widths])
            lines += [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
        lines += [""] if part.rows and part.sentences else []
        lines += [f"- {escape(sentence)}" for sentence in part.sentences]
    return "\n".join(map(one_line, lines)) + "\n"


def as_json(comparison: Comparison, paths: Sequence[str], command: str, *, all_names: bool = False) -> str:
    """As one JSON document, with every run whether ``all_names`` or not."""
    folders = [{"path": path, "records": records} for path, records in zip(paths, comparison.records, strict=True)]
    document = {
        "schema_version": 1,
        "command": command,
        "all_identical": comparison.all_identical,
        "folders": _named(folders),
        "runs": [asdict(pair) for pair in comparison.runs],
        "cells": [_cell(pair) for pair in comparison.cells],
        "only": _named(comparison.only),
        "unusable": _named(comparison.unusable),
        "made_with": [asdict(made) for made in comparison.made_with],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[..., str]] = {"text": text, "markdown": markdown, "json": as_json}
SUFFIXES = {".txt": "text", ".md": "markdown", ".json": "json"}


def _named(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(FOLDERS, values, strict=True))


def _cell(pair: CellPair) -> dict[str, Any]:
    ends = None if pair.low is None else [pair.low, pair.high]
    delta = {"how": pair.how, "seeds": pair.seeds, "points": pair.delta_points, "interval_points": ends}
    return {"cell": pair.cell, **_named([_arm(arm) for arm in pair.arms]), "delta": delta}


def _arm(arm: Arm) -> dict[str, Any]:
    values = {str(seed): top1 for seed, top1 in sorted(arm.top1_percent.items())}
    seeds = {"diverged_seeds": arm.diverged, "imported_seeds": arm.imported}
    return {"mean": arm.mean, "std": arm.std, "n": arm.n, "values": values, **seeds}


def _parts(comparison: Comparison, paths: Sequence[str], *, all_names: bool) -> Iterator[Part]:
    places = []
    for name, path, records in zip(FOLDERS, paths, comparison.records, strict=True):
        places.append(f"{name}: {path} ({counted(records, 'record')})")
    yield Part("Comparison of two results folders: differences are B minus A", (), places)
    yield Part("Runs", _counts(comparison))
    for likeness in _NOT_ALIKE:
        if pairs := comparison.of(likeness):
            yield Part(
                likeness.value.capitalize(), (), _listed([_run_line(pair) for pair in pairs], all_names=all_names)
            )
    for name, runs in zip(FOLDERS, comparison.only, strict=True):
        if runs:
            yield Part(f"Only in {name}", (), _listed(runs, all_names=all_names))
    for name, problems in zip(FOLDERS, comparison.unusable, strict=True):
        if problems:
            yield Part(f"Not usable in {name}", (), [f"{run}: {why}" for run, why in problems.items()])
    if comparison.cells:
        yield Part(
            "Cells: top-1 (%) after the last epoch", list(_cell_rows(comparison.cells)), _notes(comparison.cells)
        )
    if comparison.made_with or comparison.other_code:
        yield _made_with(comparison)


def _counts(comparison: Comparison) -> Rows:
    rows = [("in both", str(len(comparison.runs)))]
    rows += [(f"  {likeness.value}", str(len(comparison.of(likeness)))) for likeness in Likeness]
    for name, runs, problems in zip(FOLDERS, comparison.only, comparison.unusable, strict=True):
        rows.append((f"only in {name}", str(len(runs))))
        if problems:
            rows.append((f"not usable in {name}", str(len(problems))))
    return rows


def _run_line(pair: RunPair) -> str:
    """``tiny20/squeezenet/ce/seed-0: −0.40 points, apart from epoch 3``."""
    found = []
    if pair.why:
        found.append(pair.why)
    if pair.delta_points:
        found.append(f"{signed(pair.delta_points, 2)} points")
    if pair.apart_at is not None:
        found.append(f"apart from epoch {pair.apart_at}")
    if pair.same_code is False:
        found.append("other code")
    return f"{pair.run}: {', '.join(found)}"


def _cell_rows(cells: Sequence[CellPair]) -> Iterator[Sequence[str]]:
    """A line for each cell, below that of its row."""
    yield "", "A (n)", "B (n)", "B − A", "95% interval", "pairs"
    row = ""
    for pair in cells:
        of_row, _, column = pair.cell.rpartition("/")
        if of_row != row:
            row = of_row
            yield row, "", "", "", "", ""
        arms = (f"{arm.mean:.2f} ({arm.n}){'*' if arm.imported else ''}" for arm in pair.arms)
        pairs = str(len(pair.seeds)) if pair.how == "paired" else MISSING
        yield f"  {column}", *arms, signed(pair.delta_points, 2), _interval(pair), pairs


def _interval(pair: CellPair) -> str:
    if pair.low is not None and pair.high is not None:
        return interval(pair.low, pair.high)
    if min(arm.n for arm in pair.arms) < MIN_SEEDS:
        return f"n < {MIN_SEEDS}"
    return "no spread"


def _notes(cells: Sequence[CellPair]) -> list[str]:
    notes = [f"{MISSING}: unpaired, fewer than {MIN_SEEDS} seeds in both." for pair in cells if pair.how == "unpaired"][
        :1
    ]
    if any(arm.imported for pair in cells for arm in pair.arms):
        notes.append("*: with imported runs, whose configuration is claimed, not verified.")
    if diverged := sum(len(arm.diverged) for pair in cells for arm in pair.arms):
        notes.append(f"{counted(diverged, 'run')} of these cells diverged: in no mean.")
    return notes


def _made_with(comparison: Comparison) -> Part:
    rows: list[Sequence[str]] = []
    for made in comparison.made_with:
        rows.append((made.what, "", ""))
        for value, counts in made.counts.items():
            rows.append((f"  {value}", *(str(count or MISSING) for count in counts)))
    rows = [("", "A", "B"), *rows] if rows else []
    other = comparison.other_code
    sentences = [f"Other training code in {other} of {counted(len(comparison.runs), 'run')} in both."] if other else []
    return Part("What the runs were made with, where it differs: numbers of runs", rows, sentences)


def _listed(lines: Sequence[str], *, all_names: bool) -> list[str]:
    if all_names or len(lines) <= MOST_SHOWN:
        return list(lines)
    return [*lines[:MOST_SHOWN], f"… and {len(lines) - MOST_SHOWN} more (--verbose names all)"]


def _aligned(rows: Rows) -> list[str]:
    """The rows as lines: the first column to the left, the others to the right; what stands alone makes none wider."""
    aligned = [row for row in rows if any(row[1:])]
    widths = [max(map(len, column)) for column in zip(*aligned, strict=True)]
    lines = []
    for first, *others in rows:
        figures = (value.rjust(width) for value, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *figures]).rstrip())
    return lines
