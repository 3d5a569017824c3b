"""What a table says, before any format: the paper's figures, ours, their differences, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, get_args

from repro.analysis.runs import LeftOut, Metric, difference_points
from repro.experiment.schema import DatasetChoice, TableKind

if TYPE_CHECKING:  # the statistics are imported where there are verdicts
    from repro.analysis.answers import Answers

Verdicts = Literal["words", "stars"]
VERDICTS: tuple[Verdicts, ...] = get_args(Verdicts)

VARIANT_MARK = "†"


@dataclass(frozen=True)
class Sample:
    """Our figures by seed: accuracies in percent, or differences in points. At least one, ordered by seed."""

    values: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, by_seed: Mapping[int, float]) -> Sample | None:
        """The sample of what was measured, None if nothing was."""
        return cls(tuple(sorted(by_seed.items()))) if by_seed else None

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Which seeds."""
        return tuple(seed for seed, _ in self.values)

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return fmean(value for _, value in self.values)

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1 below the sum), None for a single seed."""
        return stdev(value for _, value in self.values) if self.n > 1 else None

    def minus(self, baseline: Sample) -> Sample | None:
        """The paired differences over the seeds that both have, None if they share none."""
        theirs = dict(baseline.values)
        return Sample.of(
            {seed: difference_points(value, theirs[seed]) for seed, value in self.values if seed in theirs}
        )


@dataclass(frozen=True)
class Heading:
    """A column of figures: a loss in the paper's words. Every delta is taken against the baseline."""

    id: str
    title: str
    baseline: bool


@dataclass(frozen=True)
class Judgement:
    """What our runs say of a difference: the 95% interval in points, Holm's p, and the verdict if one is due.

    ``qualification`` belongs to the verdict: ``5 of 10 runs diverged``. ``answers`` are the three it is made of.
    """

    verdict: str | None
    p_adjusted: float | None
    interval_points: tuple[float, float] | None
    seeds_needed: int | None
    qualification: str = ""
    answers: Answers | None = None

    @property
    def words(self) -> str:
        """The verdict with its qualification; empty without one."""
        if self.verdict is None:
            return ""
        return f"{self.verdict}, with {self.qualification}" if self.qualification else self.verdict


@dataclass(frozen=True)
class AssembledCell:
    """A model under a loss: accuracies in percent, deltas against the baseline in points; None if there is none."""

    column: str
    published: float | None = None
    published_delta: float | None = None
    ours: Sample | None = None
    delta: Sample | None = None
    diverged_seeds: tuple[int, ...] = ()
    imported_seeds: tuple[int, ...] = ()
    marks: tuple[str, ...] = ()
    judgement: Judgement | None = None


@dataclass(frozen=True)
class AssembledRow:
    """A model. ``table`` is the id of the table whose runs these are: a variant's is another than the one it is in.

    ``lab`` names the results folder of the runs, in a table that shows several side by side.
    """

    id: str
    table: str
    title: str
    model: str
    variant: bool
    published_parameters_millions: float | None
    counted_parameters: int | None
    cells: tuple[AssembledCell, ...]
    marks: tuple[str, ...] = ()
    lab: str = ""


@dataclass(frozen=True)
class Note:
    """A footnote; without a mark it speaks of the whole table. Text between backticks is an id, a path or a setting."""

    mark: str | None
    text: str


@dataclass(frozen=True)
class AssembledTable:
    """A whole table; ``published_as`` names the line of published figures, None if none may stand beside ours.

    ``recorded_runs`` of ``planned_runs`` (cells times the table's seeds) have a record under the present configuration,
    diverged and borrowed ones included. ``devices`` and ``code_hashes`` say how many of the runs in the means came from
    which. ``configuration`` is theirs in words, heading and text (without runs, that of the planned ones). ``verdicts``
    is how judgements are shown, if at all; ``compact`` asks for a single line a model, ``bold_best`` for the best
    accuracy of each line in bold. ``labs`` are the results folders that it shows side by side, if several. ``baseline``
    is the title of the column that deltas are taken against, which need not be among ``columns``; ``whole`` is false if
    not all rows and columns are shown. ``decimals`` are those of the whole table's published accuracies.
    """

    id: str
    reference: str
    label: str
    title: str
    kind: TableKind
    source: str | None
    dataset: DatasetChoice
    metric: Metric
    overrides: tuple[tuple[str, Any], ...]
    comparable: bool
    published_as: str | None
    columns: tuple[Heading, ...]
    baseline: str
    rows: tuple[AssembledRow, ...]
    notes: tuple[Note, ...]
    left_out: tuple[LeftOut, ...]
    seeds: int
    recorded_runs: int
    planned_runs: int
    devices: tuple[tuple[str, int], ...]
    code_hashes: tuple[tuple[str, int], ...]
    configuration: tuple[tuple[str, str], ...]
    verdicts: Verdicts | None = None
    compact: bool = False
    bold_best: bool = False
    labs: tuple[str, ...] = ()
    whole: bool = True
    decimals: int = 1
