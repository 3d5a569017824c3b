"""Two results folders compared: run by run, cell by cell, what only one of them has, and how the runs were made.

A run is the same in both if it has the same place (``table/row/column/seed-n``) and the same configuration. It is
identical only if that is known: both records have the hash of the final state, and nothing that they say of the
training differs. A difference is always the second folder minus the first.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev
from typing import Literal

from repro.analysis.runs import difference_points
from repro.analysis.stats.estimates import MIN_SEEDS, Estimate, contrast, interval, paired
from repro.experiment.added_keys import all_differences, with_neutral
from repro.experiment.canonical import digest
from repro.results import Found, RunRecord

FOLDERS = ("A", "B")
# They tell how long an epoch took, not what was computed.
_TIMES = ("train_seconds", "test_seconds", "images_per_second")


class Likeness(StrEnum):
    """What two records of one run say of each other."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    NOT_KNOWN = "not known to be identical"
    OTHER = "of another configuration"


@dataclass(frozen=True)
class RunPair:
    """A place that has a record in both folders. ``why`` says what is not alike, in words.

    ``delta_points`` is the difference of the top-1 after the last epoch, and ``apart_at`` the first epoch whose numbers
    differ; None if there is none, or if it is another configuration. ``same_code``: whether the training code is one;
    None if one of them is imported.
    """

    run: str
    likeness: Likeness
    why: str = ""
    delta_points: float | None = None
    apart_at: int | None = None
    same_code: bool | None = True


@dataclass(frozen=True)
class Arm:
    """The runs of a cell in one folder: the top-1 in percent by seed, and the seeds that diverged or were imported."""

    top1_percent: Mapping[int, float]
    diverged: tuple[int, ...] = ()
    imported: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """How many runs have an accuracy."""
        return len(self.top1_percent)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, None without runs."""
        return fmean(self.top1_percent.values()) if self.top1_percent else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation, None for fewer than two runs."""
        return stdev(self.top1_percent.values()) if self.n > 1 else None


@dataclass(frozen=True)
class CellPair:
    """A cell of one configuration that both folders have runs of.

    ``delta_points`` with its 95% interval is paired by ``seeds`` if at least three are shared, else it is the
    difference of the means with Welch's interval. ``low`` and ``high`` are None if one of the two has fewer than three
    runs, or if there is no spread.
    """

    cell: str
    arms: tuple[Arm, Arm]
    how: Literal["paired", "unpaired"]
    seeds: tuple[int, ...]
    delta_points: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MadeWith:
    """Something that the runs of the two folders were made with: each value, and how many runs of each have it.

    For a package that some runs do not have there may be fewer.
    """

    what: str
    counts: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Comparison:
    """All of it. ``only`` are the runs that one folder alone has, ``unusable`` its records without a use, and why."""

    runs: tuple[RunPair, ...]
    cells: tuple[CellPair, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    unusable: tuple[Mapping[str, str], Mapping[str, str]]
    made_with: tuple[MadeWith, ...]
    records: tuple[int, int]

    @property
    def all_identical(self) -> bool:
        """Whether both have runs in common, all of them are identical, and every record could be used."""
        return bool(self.runs) and not any(self.unusable) and len(self.of(Likeness.IDENTICAL)) == len(self.runs)

    def of(self, likeness: Likeness) -> list[RunPair]:
        """The runs that are so alike."""
        return [pair for pair in self.runs if pair.likeness is likeness]

    @property
    def other_code(self) -> int:
        """How many runs that both have were trained by different code."""
        return sum(pair.same_code is False for pair in self.runs)


def compare(first: Iterable[Found], second: Iterable[Found]) -> Comparison:
    """The records of two results folders, with their epochs."""
    ours, theirs = _by_place(first), _by_place(second)
    usable, others = _usable(ours), _usable(theirs)
    return Comparison(
        runs=tuple(compare_runs(usable[place], others[place]) for place in usable if place in others),
        cells=tuple(_cells(usable.values(), others.values())),
        only=(
            tuple(place for place in usable if place not in theirs),
            tuple(place for place in others if place not in ours),
        ),
        unusable=(_problems(ours), _problems(theirs)),
        made_with=tuple(_made_with(usable.values(), others.values())),
        records=(len(ours), len(theirs)),
    )


def compare_runs(first: RunRecord, second: RunRecord) -> RunPair:
    """Two records at one place."""
    if first.configuration_hash != second.configuration_hash:
        configurations = with_neutral(first.configuration), with_neutral(second.configuration)
        differences = all_differences(*configurations, names=[f"in {name}" for name in FOLDERS])
        return RunPair(first.id, Likeness.OTHER, differences)
    imported = [name for name, record in zip(FOLDERS, (first, second), strict=True) if record.imported]
    code = None if imported else first.provenance.code_hash == second.provenance.code_hash
    if first == second:  # one record, copied
        return RunPair(first.id, Likeness.IDENTICAL)
    apart_at, delta = None if imported else _apart_at(first, second), _delta(first, second)
    hashes = first.state_hash, second.state_hash
    if imported:
        likeness = Likeness.DIFFERENT if delta else Likeness.NOT_KNOWN
        why = f"imported in {' and '.join(imported)}"
    elif first.status != second.status:
        likeness, why = Likeness.DIFFERENT, f"{first.status} in A, {second.status} in B"
    elif apart_at is not None or delta:
        same_state = hashes[0] is not None and hashes[0] == hashes[1]
        likeness, why = Likeness.DIFFERENT, "the same final state" if same_state else ""
    elif None in hashes:
        likeness, why = (
            Likeness.NOT_KNOWN,
            "both diverged" if first.status == "diverged" else "no hash of the final state",
        )
    elif hashes[0] != hashes[1]:
        likeness, why = Likeness.DIFFERENT, "another final state alone"
    else:
        likeness, why = Likeness.IDENTICAL, ""
    return RunPair(first.id, likeness, why, delta, apart_at, code)


def _by_place(found: Iterable[Found]) -> dict[str, Found]:
    """Each record by ``table/row/column/seed-n``, in the order of the cells and seeds of the folder."""
    return {"/".join(entry.path.parts[-5:-1]): entry for entry in found}


def _usable(found: Mapping[str, Found]) -> dict[str, RunRecord]:
    return {place: entry.record for place, entry in found.items() if entry.record is not None}


def _problems(found: Mapping[str, Found]) -> dict[str, str]:
    return {place: entry.problem or "cannot be used" for place, entry in found.items() if entry.record is None}


def _delta(first: RunRecord, second: RunRecord) -> float | None:
    if first.last_top1_percent is None or second.last_top1_percent is None:
        return None
    return difference_points(second.last_top1_percent, first.last_top1_percent)


def _apart_at(first: RunRecord, second: RunRecord) -> int | None:
    """The first epoch whose numbers differ, exactly; None if there is none.

    A number that only one of them has (older records lack some) is not compared.
    """
    for ours, theirs in zip(first.epochs.rows(), second.epochs.rows(), strict=False):
        both = (key for key in ours if key not in _TIMES and ours[key] is not None and theirs[key] is not None)
        if any(ours[key] != theirs[key] for key in both):
            return int(ours["epoch"])
    shorter, longer = sorted((len(first.epochs), len(second.epochs)))
    return shorter + 1 if shorter < longer else None


def _cells(first: Iterable[RunRecord], second: Iterable[RunRecord]) -> Iterator[CellPair]:
    """The cells that both have runs of, under one configuration."""
    ours, theirs = _arms(first), _arms(second)
    for key, arm in ours.items():
        other = theirs.get(key)
        if other is None or not (arm.n and other.n):
            continue
        shared = tuple(sorted(arm.top1_percent.keys() & other.top1_percent.keys()))
        is_paired = len(shared) >= MIN_SEEDS
        estimate = _paired(arm, other, shared) if is_paired else contrast((1, -1), (_mean_of(other), _mean_of(arm)))
        ends = [None if math.isnan(end) else float(end) for end in interval(estimate)]
        yield CellPair(
            cell=key[0],
            arms=(arm, other),
            how="paired" if is_paired else "unpaired",
            seeds=shared,
            delta_points=float(estimate.value),
            low=ends[0],
            high=ends[1],
        )


def _arms(records: Iterable[RunRecord]) -> dict[tuple[str, str], Arm]:
    """The runs of each cell, by its id and the hash of its configuration: two of them are never averaged."""
    by_cell: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        determinants = {key: value for key, value in record.configuration.items() if key != "seed"}
        by_cell[record.id.rpartition("/")[0], digest(determinants)].append(record)
    arms = {}
    for key, runs in by_cell.items():
        completed = {run.seed: run.last_top1_percent for run in runs if run.status == "completed"}
        arms[key] = Arm(
            {seed: top1 for seed, top1 in completed.items() if top1 is not None},
            tuple(run.seed for run in runs if run.status == "diverged"),
            tuple(run.seed for run in runs if run.imported),
        )
    return arms


def _paired(first: Arm, second: Arm, seeds: Sequence[int]) -> Estimate:
    differences = [difference_points(second.top1_percent[seed], first.top1_percent[seed]) for seed in seeds]
    return paired(fmean(differences), stdev(differences), len(differences))


def _mean_of(arm: Arm) -> Estimate:
    """The mean with its standard error, as that of differences from zero."""
    return paired(arm.mean or 0.0, arm.std or 0.0, arm.n)


def _made_with(first: Iterable[RunRecord], second: Iterable[RunRecord]) -> Iterator[MadeWith]:
    """What the runs of one folder were made with and those of the other were not; nothing is known of imported ones."""
    tallies = [_tally(records) for records in (first, second)]
    for what in dict.fromkeys([*tallies[0], *tallies[1]]):
        ours, theirs = tallies[0][what], tallies[1][what]
        if ours and theirs and ours.keys() != theirs.keys():
            values = sorted({*ours, *theirs}, key=lambda value: (-ours[value], -theirs[value], value))
            yield MadeWith(what, {value: (ours[value], theirs[value]) for value in values})


def _tally(records: Iterable[RunRecord]) -> dict[str, Counter[str]]:
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        made = record.provenance
        if record.imported:
            continue
        commit = (made.git_commit or "none")[:12] + (" with changes" if made.git_dirty else "")
        facts = {
            "biasrepro": made.biasrepro,
            "commit": commit,
            "training code": (made.shared_code_hash or "not recorded")[:12],
            "Python": made.python,
            **made.packages,
            "platform": made.platform,
            "device": made.device_name,
            "driver": made.driver or "none",
            "threads": str(made.threads),
            "data": f"{record.configuration['dataset']['name']} {made.data_fingerprint[:12] or 'not recorded'}",
        }
        for what, value in facts.items():
            tally[what][value] += 1
    return tally
