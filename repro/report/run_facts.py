"""Provenance of the numbers: devices, versions, commits, and irregularities of the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from repro.results import Provenance, RunRecord
from repro.tables.footnotes import code_versions, tally
from repro.wording import counted

_MOST_SHOWN = 8
# These apply only if there is a GPU or a DenseNet.
_WHERE_THERE_IS_ONE = ("cuda_graph", "recompute")


def facts(records: Sequence[RunRecord], imported: Sequence[RunRecord] = ()) -> dict[str, str]:
    """How the runs were made: several values with their numbers of runs, most frequent first. Hosts are not named.

    Of ``imported`` runs only their files are known.
    """
    files = tally(record.imported.file for record in imported if record.imported)
    elsewhere = {}
    if files:
        listed = ", ".join(f"{name} ({count})" for name, count in files[:_MOST_SHOWN])
        elsewhere = {"Imported": f"{counted(len(imported), 'run')}, not trained by biasrepro, from {listed}"}
    if not records:
        return elsewhere
    made = [record.provenance for record in records]
    first, last = min(run.started_at for run in made)[:10], max(run.finished_at for run in made)[:10]
    hosts = {run.host for run in made} - {""}  # those of anonymous runs are empty
    ended = " (of a resumed run, where it ended)" if any(run.resumptions for run in made) else ""
    found = {
        "Runs": f"{len(records):,}",
        "Device": _frequencies(run.device_name for run in made) + ended,
        "Driver": _frequencies(run.driver or "none" for run in made),
        "Hosts": f"{len(hosts):,}{ended}" if hosts else "not recorded",
        **({"On": first} if first == last else {"Between": f"{first} and {last}"}),
        "biasrepro": _frequencies(run.biasrepro for run in made),
        "Commit": _frequencies(map(_commit, made)),
        "Training code (hash)": _counts([(name[:12], count) for name, count in code_versions(records)]),
        "Python": _frequencies(run.python for run in made),
    }
    for package in ("torch", "torchvision", "numpy", "CUDA", "cuDNN"):
        if any(package in run.packages for run in made):
            found[package] = _frequencies(run.packages.get(package, "unknown") for run in made)
    found["Precision"] = _frequencies(map(_precision, records))
    return found | elsewhere


def peculiarities(records: Sequence[RunRecord]) -> list[str]:
    """How these runs differ from uninterrupted runs of committed code, one sentence each."""
    found = []
    made = [record.provenance for record in records]
    dirty = sum(bool(run.git_dirty) for run in made)
    if dirty:
        found.append(f"{_runs(dirty)} made from a checkout with uncommitted changes.")
    unchecked = sum(run.git_commit is not None and run.git_dirty is None for run in made)
    if unchecked:
        found.append(f"{_runs(unchecked)} made from a checkout whose state git did not report.")
    unversioned = sum(run.git_commit is None for run in made)
    if unversioned:
        found.append(f"{_runs(unversioned)} made outside a git checkout: the code hash identifies the code.")
    resumptions = [run.resumptions for run in made if run.resumptions]
    if resumptions:
        times = counted(sum(resumptions), "time")
        found.append(f"{_runs(len(resumptions))} interrupted and resumed, {times} in all.")
    for change, count in sorted(Counter(change for run in made for change in run.changes_accepted).items()):
        found.append(f"Resumed with an accepted change, in {counted(count, 'run')}: {change}.")
    different: Counter[str] = Counter()
    for record in records:
        for key, requested in record.configuration["execution"].items():
            used = record.execution_in_force.get(key, requested)
            if requested not in ("auto", used) and key not in _WHERE_THERE_IS_ONE:
                different[f"{key} {used} where {requested} was requested"] += 1
    found += [f"{_runs(count)} executed with {what}." for what, count in sorted(different.items())]
    return found


def _frequencies(values: Iterable[str]) -> str:
    return _counts(tally(values))


def _counts(counts: Sequence[tuple[str, int]]) -> str:
    if len(counts) == 1:
        return counts[0][0]
    shown = ", ".join(f"{value} ({count})" for value, count in counts[:_MOST_SHOWN])
    rest = len(counts) - _MOST_SHOWN
    return f"{shown}, and {rest} more" if rest > 0 else shown


def _commit(run: Provenance) -> str:
    if run.git_commit is None:
        return "none"
    return run.git_commit[:12] + {True: " with changes", False: "", None: " (changes unknown)"}[run.git_dirty]


def _precision(record: RunRecord) -> str:
    used = record.execution_in_force
    in_tf32 = [what for what in ("convolutions", "products") if used.get(f"tf32_{what}")]
    precision = str(used.get("precision", "unknown"))
    return f"{precision} ({' and '.join(in_tf32)} in TF32)" if in_tf32 else precision


def _runs(count: int) -> str:
    return counted(count, "run was", "runs were")
