"""How many seeds the verdict on a cell takes."""

from __future__ import annotations

from repro.analysis.cell import CellResult
from repro.analysis.stats.decision_rule import ALPHA, SMALLEST_EFFECT
from repro.analysis.stats.power import POWER, planning_std, seeds_to_be_sure, seeds_to_refute, seeds_to_show


def seeds_missing(cell: CellResult) -> int | None:
    """The seeds missing for the next interim analysis or, without one, for a verdict; None if none is certain to do.

    A verdict takes the seeds of 80% power, as in ``biasrepro plan``. If a cell has that many and is still undecided,
    its mean lies between none and the smallest effect of interest, and it takes the number that decides any cell of
    this spread.
    """
    if cell.seeds_in is not None:
        return None if cell.next_look is None else max(cell.next_look - cell.seeds_in, 1)
    delta, n = cell.delta, cell.delta.n if cell.delta else 0
    observed = [(delta.pooled_std, delta.df)] if delta and delta.pooled_std else []
    confirm, refute = seeds_wanted(cell, planning_std(observed))
    total = most_of(cell, confirm, refute)
    if total is not None and total <= n and cell.paper_delta is not None:
        std = observed[0][0] if observed else planning_std([])
        either_way = min(cell.level or ALPHA, cell.opposite_level or ALPHA)
        small = cell.small_level or ALPHA
        total = seeds_to_be_sure(cell.paper_delta, std, level=either_way, small_level=small, arms=cell.arms)
    return None if total is None else max(total - n, 1)


def seeds_wanted(cell: CellResult, std: float, power: float = POWER) -> tuple[int | None, int | None]:
    """The paired seeds that show the paper's effect if it is there, and that refute it if there is none.

    With the other arms of the row trained to as many. None for more than 10,000 or, to refute, if no number does.
    """
    delta, arms = cell.paper_delta or 0.0, cell.arms
    show = seeds_to_show(delta, std, level=cell.level or ALPHA, none=cell.prints_none, arms=arms, power=power)
    return show, seeds_to_refute(delta, std, level=cell.small_level or ALPHA, arms=arms, power=power)


def most_of(cell: CellResult, show: int | None, refute: int | None) -> int | None:
    """The seeds for an answer either way; to show it alone, where no number of seeds could refute what is printed."""
    if show is None or abs(cell.paper_delta or 0.0) <= SMALLEST_EFFECT:
        return show
    return None if refute is None else max(show, refute)
