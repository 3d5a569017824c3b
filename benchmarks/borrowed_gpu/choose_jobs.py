"""How many runs of table1/shufflenetv2 to train at a time, so that most are complete when the time is up.

    python benchmarks/borrowed_gpu/choose_jobs.py SECONDS MEASURED      prints: JOBS SEEDS WITH_MPS, then why

``MEASURED`` is the folder with the records of benchmarks/choices.py: alone.json, at-once.json, at-once-mps.json.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

CELL = "table1/shufflenetv2"
EPOCHS = 90
# A test image takes a forward pass: a third of a training image.
IMAGES = EPOCHS * (100_000 + 10_000 / 3)
COLUMNS = 2
# Beside the steps: starting Python and loading images; the order of an epoch and its checkpoint.
START_SECONDS, EPOCH_SECONDS = 12.0, 0.2
# Starts of several runs slow each other down.
START_SHARE = 0.15
# What was measured for seconds is not that certain.
MARGIN = 0.93


def figures(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """What choices.py timed for the cell, by way; nothing without the record."""
    path = folder / f"{name}.json"
    ways = json.loads(path.read_text())["cells"].get(CELL, {}) if path.exists() else {}
    return {way: told for way, told in ways.items() if "images_per_second" in told}


def speeds(folder: Path) -> dict[tuple[int, bool], float]:
    """Images per second in sum, by the number of runs at a time and MPS; between measured numbers on a line."""
    alone = {told["images_per_second"] for told in figures(folder, "alone").values()}
    found = {(1, mps): max(alone) for mps in (False, True) if alone}
    for name, mps in (("at-once", False), ("at-once-mps", True)):
        for way, told in figures(folder, name).items():
            if way.endswith("processes"):
                found[told["runs"], mps] = told["images_per_second"]
    for mps in (False, True):
        for low, high in pairwise(sorted(jobs for jobs, with_mps in found if with_mps == mps)):
            for jobs in range(low + 1, high):
                part = (jobs - low) / (high - low)
                found[jobs, mps] = (1 - part) * found[low, mps] + part * found[high, mps]
    return found


def main() -> None:
    """Print the choice, then the reasons."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("seconds", type=float)
    options.add_argument("measured", type=Path)
    given = options.parse_args()
    seconds, folder = given.seconds, given.measured
    starts = [told["start_seconds"] + told["warm_up_seconds"] for told in figures(folder, "alone").values()]
    start = START_SECONDS + max(starts, default=15.0)
    chosen, reasons = (0, 0.0, 1, False), []
    for (jobs, mps), speed in sorted(speeds(folder).items()):
        if mps and jobs == 1:
            continue
        each = start * (1 + START_SHARE * (jobs - 1)) + IMAGES * jobs / speed + EPOCHS * EPOCH_SECONDS
        rounds = int(MARGIN * seconds // each)
        complete = jobs * rounds
        with_mps = " with MPS" if mps else ""
        reasons.append(f"{jobs} at a time{with_mps}: {speed:,.0f} images/s, {each:.0f} s each, {complete} complete")
        # Of equal numbers the one whose last run ends first.
        chosen = max(chosen, (complete, -each * rounds, jobs, mps))
    complete, _, jobs, mps = chosen
    if complete == 0:
        jobs, mps = 1, False
        reasons.append("one at a time: " + ("none would be complete" if reasons else "nothing was measured"))
    print(jobs, max(1, -(-complete // COLUMNS)), int(mps))
    print("\n".join(reasons))


if __name__ == "__main__":
    main()
