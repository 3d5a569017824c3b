"""Before runs start: the data set is there, whole and decoded, or there is one message instead of one a run."""

from __future__ import annotations

import sys
from pathlib import Path

from repro.cli.console import console


def decode_with_progress(name: str, root: Path) -> None:
    """Decode a data set whose archive is there and whose images are not; else leave all to who opens it."""
    from repro.data.prepare import cache_path, find_source
    from repro.experiment.catalog import dataset_facts

    facts = dataset_facts(name)
    if facts.archives and not cache_path(facts, root).exists() and find_source(facts, root) is not None:
        make_data_ready(name, root)


def make_data_ready(name: str, root: Path) -> None:
    """Open the decoded images of a data set, decoding them first where only its archive is there.

    Raises DataError where the data are missing: what, the command that gets them, and how large they are.
    """
    from repro.data.prepare import open_decoded
    from repro.experiment.catalog import dataset_facts

    facts = dataset_facts(name)
    if not facts.archives:
        return
    if not sys.stdout.isatty():
        told: set[str] = set()

        def report(stage: str, done: int, total: int) -> None:
            if stage not in told:
                told.add(stage)
                print(f"{stage} {facts.title}", flush=True)

        open_decoded(facts, root, report)
        return
    from rich.progress import Progress

    with Progress(console=console(), transient=True) as bar:
        task = bar.add_task(facts.title, total=None)
        open_decoded(
            facts,
            root,
            lambda stage, done, total: bar.update(
                task, description=f"{stage} {facts.title}", completed=done, total=total
            ),
        )
