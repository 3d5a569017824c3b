"""Memory and time of ``export``, ``report`` and ``plan`` over 2,000 records of 200 epochs.

``python benchmarks/load.py --output benchmarks/records/scale/load.json`` writes, without training, the records of two
tables with published figures: ``wide`` of 10 x 4 cells and 50 seeds, ``many`` of 200 x 10 cells and one seed; 0.45 GB
in a temporary folder. Then it runs each command as a whole process, in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from scale import EPOCHS, LOSSES, MODELS, Wanted, _write, in_turns, record_of

LAYOUTS = {"wide": (10, 4, 50), "many": (200, 10, 1)}  # rows, columns, seeds


def main() -> None:
    """Write the records, run the commands, print and write the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, help="keep the records in this folder, and reuse those in it")
    options.add_argument("--output", type=Path, help="write the figures here")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        # In another process: a child's peak memory starts at its parent's, so this process must stay small.
        maker = multiprocessing.Process(target=make, args=(folder,))
        maker.start()
        maker.join()
        timed = in_turns(commands(folder), given.rounds, folder)
    for command in timed:
        print(command)
    if given.output is not None:
        import torch  # not before the commands are timed: this process must stay small

        from repro.engine.provenance import machine_facts

        record = {
            "kind": "scale, load",
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["python", *sys.argv],
            "machine": {**machine_facts(torch.device("cpu")), "niceness": os.nice(0)},
            "timed": [asdict(command) for command in timed],
        }
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")


def make(folder: Path) -> None:
    """Write both tables, and the missing records of their runs."""
    from repro.experiment.config import load_table, runs_of
    from repro.results import RunFolder, write_record

    for name, (_, _, seeds) in LAYOUTS.items():
        (folder / name / "results").mkdir(parents=True, exist_ok=True)
        (folder / name / "own.yaml").write_text(table_text(name))
        for run in runs_of(load_table(folder / name / "own.yaml").cells, range(seeds)):
            place = RunFolder.of(folder / name / "results", run)
            if not place.record.exists():
                write_record(place, record_of(run), write=_write)


def table_text(name: str) -> str:
    """The YAML of a layout; every cell has a published accuracy, which means nothing."""
    rows, columns, seeds = LAYOUTS[name]
    losses = ["ce", *(f"{LOSSES[1 + index % 3]}{index}" for index in range(columns - 1))]
    lines = [
        *(f"table: {name}", f"label: {name}", "title: Many runs", "kind: paper", f"seeds: {seeds}"),
        "paper: {id: otherpaper, citation: Another paper}",
        *("dataset: {name: digits}", f"recipe: {{epochs: {EPOCHS}, learning_rate: 0.1}}", "columns:"),
        *(f"  - {{id: {loss}, title: {loss}, loss: {loss.rstrip('0123456789')}}}" for loss in losses),
        "rows:",
    ]
    for index in range(rows):
        printed = ", ".join(f"{loss}: {50 + (3 * place + index) % 7 / 2}" for place, loss in enumerate(losses))
        row = f"id: r{index}, title: r{index}, model: {MODELS[index % len(MODELS)]}"
        lines.append(f"  - {{{row}, published: {{top1_percent: {{{printed}}}}}}}")
    return "\n".join([*lines, ""])


def commands(folder: Path) -> list[Wanted]:
    """The commands to run over the records in ``folder``."""
    wanted = []
    for name in LAYOUTS:
        table, results = str(folder / name / "own.yaml"), ("--results", str(folder / name / "results"))
        for suffix in ("csv", "parquet"):
            exported = ("export", "--overwrite", "-o", str(folder / f"runs.{suffix}"), *results)
            wanted.append(Wanted(f"export to .{suffix}, {name}", None, exported))
        page = ("report", table, "--overwrite", "-o", str(folder / "page.html"), *results)
        if name == "wide":  # a page of 200 networks is 400 panels of curves
            wanted.append(Wanted(f"report, {name}", 10.0, page))
        wanted.append(Wanted(f"plan, {name}", 10.0, ("plan", table, *results)))
    return wanted


if __name__ == "__main__":
    main()
