"""Provenance of the numbers: devices, versions, commits, and irregularities of the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repro.results import RunRecord

_MOST_SHOWN = 8
# These apply only where there is a GPU or a DenseNet.
_WHERE_THERE_IS_ONE = ("cuda_graph", "recompute")


@dataclass(frozen=True)
class Fact:
    """A property of the runs: its values, and the number of runs with each."""

    name: str
    values: tuple[tuple[str, int], ...]

    @property
    def text(self) -> str:
        """The values, with their counts where there are several."""
        if len(self.values) == 1:
            return self.values[0][0]
        shown = ", ".join(f"{value} ({count})" for value, count in self.values[:_MOST_SHOWN])
        rest = len(self.values) - _MOST_SHOWN
        return f"{shown}, and {rest} more" if rest > 0 else shown


def facts(records: Sequence[RunRecord]) -> list[Fact]:
    """Facts on how the runs were made, the most frequent value first; hosts are counted, not named."""
    if not records:
        return []
    made = [record.provenance for record in records]
    hosts = len({one.host for one in made})
    hours = sum(one.duration_seconds for one in made) / 3600
    first, last = min(one.started_at for one in made), max(one.finished_at for one in made)
    packages = ("torch", "torchvision", "numpy")
    versions = (_fact(name, [one.packages.get(name, "unknown") for one in made]) for name in packages)
    return [
        Fact("Runs", ((f"{len(records):,}", len(records)),)),
        _fact("Device", [one.device_name for one in made]),
        _fact("Driver", [one.driver or "none" for one in made]),
        Fact("Hosts", ((f"{hosts:,}", len(records)),)),
        Fact("Training time", ((f"{hours:,.1f} hours", len(records)),)),
        Fact("Between", ((f"{first[:10]} and {last[:10]}", len(records)),))
        if first[:10] != last[:10]
        else Fact("On", ((first[:10], len(records)),)),
        _fact("biasrepro", [one.biasrepro for one in made]),
        _fact("Commit", [_commit(record) for record in records]),
        _fact("Training code (hash)", [one.code_hash[:12] for one in made]),
        _fact("Python", [one.python for one in made]),
        *(fact for fact in versions if fact.values != (("unknown", len(records)),)),
        _fact("Precision", [str(record.execution_in_force.get("precision", "unknown")) for record in records]),
    ]


def peculiarities(records: Sequence[RunRecord]) -> list[str]:
    """How these runs differ from uninterrupted runs of committed code, one sentence each."""
    found = []
    dirty = sum(bool(record.provenance.git_dirty) for record in records)
    if dirty:
        found.append(f"{_runs(dirty)} made from a checkout with uncommitted changes.")
    unversioned = sum(record.provenance.git_commit is None for record in records)
    if unversioned:
        found.append(f"{_runs(unversioned)} made outside a git checkout: the code hash identifies the code.")
    resumed = [record for record in records if record.provenance.resumptions]
    if resumed:
        times = sum(record.provenance.resumptions for record in resumed)
        found.append(f"{_runs(len(resumed))} interrupted and resumed, {times} time{'' if times == 1 else 's'} in all.")
    accepted = Counter(change for record in records for change in record.provenance.changes_accepted)
    found += [
        f"Resumed with an accepted change, in {count} run{'' if count == 1 else 's'}: {change}."
        for change, count in sorted(accepted.items())
    ]
    asked = Counter(
        f"{key} {record.execution_in_force[key]} where {value} was requested"
        for record in records
        for key, value in record.configuration.get("execution", {}).items()
        if value != "auto" and key not in _WHERE_THERE_IS_ONE and record.execution_in_force.get(key, value) != value
    )
    found += [f"{_runs(count)} executed with {what}." for what, count in sorted(asked.items())]
    return found


def _fact(name: str, values: Iterable[str]) -> Fact:
    return Fact(name, tuple(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))))


def _commit(record: RunRecord) -> str:
    commit = record.provenance.git_commit
    if commit is None:
        return "none"
    return f"{commit[:12]}{' with changes' if record.provenance.git_dirty else ''}"


def _runs(count: int) -> str:
    return f"{count:,} run{' was' if count == 1 else 's were'}"
