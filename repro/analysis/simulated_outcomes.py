"""What a number of seeds can be expected to answer, cell by cell: if the paper is right, and if there is no effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repro.analysis.assessment import Assessment, CellResult, family_name
from repro.analysis.stats.decision_rule import Verdict
from repro.analysis.stats.power import GUESSED_RUN_STD
from repro.analysis.stats.simulation import verdict_shares
from repro.experiment.schema import Table

_DRAWS = 4_000
_VERDICTS = list(Verdict)


@dataclass(frozen=True)
class Chance:
    """What is expected of one cell after ``seeds`` seeds.

    ``reproduced``: the chance that it is called so if every effect of its family is the paper's. ``refuted``: that it
    is called not reproduced if there is none.
    """

    cell: str
    paper_delta: float
    seeds: int
    reproduced: float
    refuted: float


def chances(
    tables: Sequence[Table], assessment: Assessment, seeds: int, *, run_std: float = GUESSED_RUN_STD
) -> list[Chance]:
    """That of every printed difference of ``tables``, simulated with all that are adjusted together with it.

    ``assessment`` is of the whole family, whatever is recorded of it. ``run_std`` is of one run over seeds, in points.
    """
    shown = {table.id for table in tables}
    found = []
    for name in dict.fromkeys(map(family_name, tables)):
        rows = _printed_rows(assessment, name)
        deltas = [[cell.paper_delta or 0.0 for cell in row] for row in rows]
        if not deltas:
            continue
        there, none = (verdict_shares(deltas, seeds, scale=scale, run_std=run_std, draws=_DRAWS) for scale in (1, 0))
        reproduced = there[:, _VERDICTS.index(Verdict.REPRODUCED)]
        refuted = none[:, _VERDICTS.index(Verdict.NOT_REPRODUCED)]
        cells = [cell for row in rows for cell in row]
        found += [
            Chance(f"{cell.table}/{cell.row}/{cell.column}", cell.paper_delta or 0.0, seeds, float(yes), float(no))
            for cell, yes, no in zip(cells, reproduced, refuted, strict=True)
            if cell.table in shown
        ]
    return found


def _printed_rows(assessment: Assessment, family: str) -> list[list[CellResult]]:
    """The cells of a family that have a printed difference, row by row."""
    rows: dict[tuple[str, str], list[CellResult]] = {}
    for cell in assessment.cells.values():
        if cell.paper_delta is not None and assessment.families[cell.table] == family:
            rows.setdefault((cell.table, cell.row), []).append(cell)
    return list(rows.values())
