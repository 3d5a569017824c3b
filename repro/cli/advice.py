"""What a results folder is for, by what is in it: the advice of commands follows what somebody meant to train."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def is_finished_part(done: Mapping[str, Collection[int]]) -> bool:
    """Whether a part of a table was trained, and finished; ``done`` has the runs of each cell of a row, by row.

    Some rows were never begun, and every cell of the others has as many runs.
    """
    begun = [set(counts) for counts in done.values() if any(counts)]
    return 0 < len(begun) < len(done) and all(counts == begun[0] and len(counts) == 1 for counts in begun)
