"""Sweeps of the same runs over one results folder as processes of their own: by this machine, a Ray and a SLURM.

``python drivers.py FOLDER ENGINE ADDRESS SEEDS STEPS`` is one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster_sweep import Sweep, fates

ENGINES = ("local", "ray", "slurm")


class Drivers:
    """The sweeps by engine; at its end, each writes the fates of the runs to ``said-ENGINE.txt``."""

    def __init__(self, folder: Path, address: str, *, seeds: int, steps: int) -> None:
        self.sweep = Sweep(folder, seeds=seeds, steps=steps)
        self._more = (address, str(seeds), str(steps))
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def begin(self, by: str) -> None:
        """Begin one."""
        with self._said(by).open("w") as said:
            self._processes[by] = subprocess.Popen(
                [sys.executable, __file__, str(self.sweep.folder), by, *self._more],
                env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def begin_to_train(self, by: str) -> None:
        """Begin one, and wait until it trains."""
        before = len(self.sweep.audit())
        self.begin(by)
        self.wait(lambda: by in {event["by"] for event in self.sweep.audit()[before:]}, f"{by} to train")

    def kill(self, by: str) -> None:
        """End one at once."""
        self._processes[by].kill()
        self._processes.pop(by).wait()

    def running(self) -> set[str]:
        """Those that are under way."""
        return {by for by, one in self._processes.items() if one.poll() is None}

    def ends(self, *, seconds: float = 120) -> dict[str, str]:
        """What each said at its end."""
        self.wait(lambda: not self.running(), "all to end", seconds=seconds)
        return {by: self._said(by).read_text().strip() for by in self._processes}

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
        """Wait until ``condition`` holds; AssertionError after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not condition():
            told = {by: self._said(by).read_text()[-1000:] for by in self._processes}
            assert time.monotonic() < deadline, f"waited for {what}: {told}"
            time.sleep(0.2)

    def close(self) -> None:
        """Leave none running."""
        for by in list(self._processes):
            self.kill(by)

    def _said(self, by: str) -> Path:
        return self.sweep.folder / f"said-{by}.txt"


def main(folder: str, by: str, address: str, seeds: str, steps: str) -> None:
    from repro.sweep import driver as conduct
    from repro.sweep.ray.backend import RayBackend, RayOptions
    from repro.sweep.slurm import executor as slurm_executor
    from repro.sweep.slurm.backend import SlurmOptions

    conduct.RECHECK_SECONDS, slurm_executor.LAST_POLL_SECONDS, slurm_executor.RESULT_SECONDS = 0.5, 1.0, 2.0
    sweep = Sweep(Path(folder), seeds=int(seeds), steps=int(steps))
    sweep.patience_seconds = 1800
    if by == "local":
        state = sweep.beside()
    elif by == "ray":
        state = sweep.on(RayBackend(RayOptions(address=address, gpus_per_job=0.5)))
    else:
        state = sweep.on_slurm(SlurmOptions(array=2))
    print(sorted(set(fates(state))), len(state.finished))


if __name__ == "__main__":
    main(*sys.argv[1:])
