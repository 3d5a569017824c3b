"""Checks before any run starts, which give one message instead of one per run: results folder, disk, data set."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Run
    from repro.sweep.selection import Plan


def require_writable(results: Path, runs: Sequence[Run] = ()) -> None:
    """Raise UserError if the results folder, or the folder of a cell of ``runs``, is not writable."""
    from repro.results.files import permission_hint

    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        way_out = permission_hint(results) if isinstance(error, PermissionError) else "Free disk space"
        hint = f"{way_out}, or choose another folder with --results."
        raise UserError(
            f"cannot write to the results folder: {error.strerror}", where=str(results), hint=hint
        ) from error
    for cell in {run.cell.id for run in runs}:
        folder = next(place for place in (results / cell, *(results / cell).parents) if place.exists())
        if not os.access(folder, os.W_OK | os.X_OK):  # another user made it
            raise UserError(
                "cannot write to the results folder: Permission denied",
                where=str(folder),
                hint=f"{permission_hint(folder)}, or choose another folder with --results.",
            )


def require_space(results: Path, plan: Plan, at_once: int, *, keep_weights: bool) -> None:
    """Raise UserError if the records, checkpoints and kept weights of the remaining runs do not fit on the disk."""
    from repro.cli.console import size
    from repro.results.disk_space import free_bytes
    from repro.sweep.cost.estimate import estimate
    from repro.wording import counted

    needed, free = estimate(plan.todo, {}, at_once, keep_weights=keep_weights).disk_bytes, free_bytes(results)
    if free < needed:
        raise UserError(
            f"not enough disk space: {counted(len(plan.todo), 'run')} may need {size(needed)}; {size(free)} free",
            where=str(results),
            hint="Free disk space (`biasrepro verify` lists what may be deleted), or choose another --results folder.",
        )


def decode_with_progress(name: str, root: Path) -> None:
    """Decode a data set that is only there as an archive; otherwise do nothing."""
    from repro.data.prepare import cache_path, find_source
    from repro.experiment.catalog import dataset_facts

    facts = dataset_facts(name)
    if facts.archives and not cache_path(facts, root).exists() and find_source(facts, root) is not None:
        make_data_ready(name, root)


def make_data_ready(name: str, root: Path) -> None:
    """Open the decoded images of a data set, decoding its archive first if necessary.

    Raises DataError for missing data, with their size and the command that fetches them.
    """
    from repro.data.prepare import open_decoded
    from repro.experiment.catalog import dataset_facts

    facts = dataset_facts(name)
    if facts.archives:
        with _progress_of(facts.title) as report:
            open_decoded(facts, root, report)


@contextmanager
def _progress_of(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows the progress of decoding: a bar on a terminal, a line per stage elsewhere."""
    from repro.cli.console import console, say

    if not sys.stdout.isatty():
        stages: set[str] = set()

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages.add(stage)
                say(f"{stage} {title}")

        yield report
        return
    from rich.progress import Progress

    with Progress(console=console(), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda stage, done, total: bar.update(task, description=f"{stage} {title}", completed=done, total=total)
