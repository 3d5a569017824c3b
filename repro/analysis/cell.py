"""One cell as it is answered: its runs, the paper's numbers, our difference, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from repro.analysis.answers import Answers
from repro.analysis.runs import CellRuns
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import Printed, Verdict

FAR_BASELINE_POINTS = 1.0  # our baseline this far from the paper's is flagged: then little else is comparable


@dataclass(frozen=True)
class Delta:
    """A loss minus the baseline, paired by seed, in points. Fields that need three seeds are None with fewer.

    In a cell with a run at chance level nothing is tested, so that they are None there too.

    ``std`` is the sample standard deviation of the differences; ``pooled_std`` that estimated from all arms of the row,
    with ``df`` degrees of freedom. ``low`` and ``high`` are the mean's 95% t interval (if preregistered: the repeated
    interval, which holds at all analyses together). ``p`` is that of the test that the verdict rests on, ``p_adjusted``
    by Holm over the family. ``superiority`` is P(A > B), the chance that a run under this loss beats one under
    the baseline.
    """

    seeds: tuple[int, ...]
    mean: float
    std: float | None
    pooled_std: float | None
    df: float
    low: float | None
    high: float | None
    p: float
    p_adjusted: float
    superiority: float | None
    correlation: float | None

    @property
    def n(self) -> int:
        """How many pairs."""
        return len(self.seeds)


@dataclass(frozen=True)
class CellResult:
    """One cell: its runs, the paper's numbers, and what our runs say of them.

    ``verdict`` is None for the baseline itself, if nothing comparable is printed, or if no run is paired (at chance
    level it needs no pair).
    ``seeds_needed`` is how many more seeds a verdict takes: None if there is one, or if no feasible number is sure
    to give one.
    ``answers`` are the three that the verdict is made of, and ``qualification`` what it says of runs that ended badly.
    ``level`` is what Holm's adjustment would compare p with next, given the family's other cells, ``opposite_level``
    that of an effect the other way, and ``small_level`` that of equivalence. ``unit`` is what the paper's accuracies
    are rounded to, ``arms`` how many the row has. ``baseline_offset`` is our mean of the baseline minus the paper's, in
    points. ``looks`` are the preregistered interim analyses, ``look`` the seeds of the one that the cell is judged at
    (None before the first); the first ``seeds_in`` seeds are complete.
    """

    table: str
    row: str
    column: str
    runs: CellRuns
    paper_top1: float | None
    paper_delta: float | None
    baseline_offset: float | None
    unit: float = 0.1
    arms: int = 2
    delta: Delta | None = None
    unpaired: tuple[str, ...] = ()
    verdict: Verdict | None = None
    answers: Answers | None = None
    qualification: str = ""
    seeds_needed: int | None = None
    level: float | None = None
    opposite_level: float | None = None
    small_level: float | None = None
    looks: Looks | None = None
    look: int | None = None
    seeds_in: int | None = None

    @property
    def next_look(self) -> int | None:
        """The seeds of the next interim analysis; None if the cell is decided, and after the last."""
        return None if self.looks is None or self.decided else self.looks.after(self.look or 0)

    @property
    def decided(self) -> bool:
        """Whether there is a verdict other than that there are too few seeds for one."""
        return self.verdict is not None and self.verdict is not Verdict.UNDECIDED

    @property
    def verdict_words(self) -> str | None:
        """The verdict with its qualification: ``reproduced, with 5 of 10 runs diverged``."""
        if self.verdict is None:
            return None
        return f"{self.verdict}, with {self.qualification}" if self.qualification else str(self.verdict)

    @property
    def prints_none(self) -> bool:
        """Whether the paper's difference is within its rounding."""
        return self.paper_delta is not None and bool(Printed.of(self.paper_delta, self.unit).is_none)

    @property
    def baseline_is_far(self) -> bool:
        """Whether our baseline is more than a point off the paper's."""
        return self.baseline_offset is not None and abs(self.baseline_offset) > FAR_BASELINE_POINTS
