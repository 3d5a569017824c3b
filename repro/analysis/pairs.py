"""Two cells paired by seed."""

from __future__ import annotations

from dataclasses import dataclass

from repro.analysis.runs import CellRuns, difference_points


@dataclass(frozen=True)
class Pairs:
    """Two cells at the seeds that both have, rising; ``unpaired`` are the runs whose seed only one of them has."""

    seeds: tuple[int, ...]
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    unpaired: tuple[str, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Ours minus the baseline by seed, in points."""
        return tuple(map(difference_points, self.ours, self.baseline))

    def before(self, seed: int) -> Pairs:
        """The pairs of the seeds below this one."""
        n = sum(paired < seed for paired in self.seeds)
        return Pairs(self.seeds[:n], self.ours[:n], self.baseline[:n], self.unpaired)


def pair(ours: CellRuns, baseline: CellRuns) -> Pairs:
    """The runs of two cells paired by seed."""
    first, second = (dict(zip(runs.seeds, runs.top1_percent, strict=True)) for runs in (ours, baseline))
    seeds = tuple(seed for seed in ours.seeds if seed in second)
    unpaired = (record.id for record in (*ours.completed, *baseline.completed) if record.seed not in seeds)
    return Pairs(seeds, tuple(first[seed] for seed in seeds), tuple(second[seed] for seed in seeds), tuple(unpaired))
