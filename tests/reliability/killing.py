"""Runs that are killed at random moments, resumed until they end, and compared with uninterrupted ones.

``python tests/reliability/killing.py --kills 1000`` runs the proof at any length and prints its figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from repro.results import RunFolder, RunRecord, read_record, require_weights
from repro.results.weights_file import read_weights

EXPERIMENT = """\
table: tiny
label: Tiny
title: Two digits, for tests of the machinery
kind: study
dataset: {name: digits, classes: 2}
recipe:
  epochs: 3
  batch_size: 72
  learning_rate: 0.01
  decay_epochs: [2]
  warmup_epochs: 1
  augmentation: {crop_padding_pixels: 2, horizontal_flip: true, rotation_degrees: 10}
weighting: {normalization: running}
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: shufflenetv2, title: ShuffleNetV2 0.5x, model: shufflenetv2_x0_5, options: {stem_stride: 2}}
  - {id: mobilenetv2, title: MobileNetV2 0.75x, model: mobilenetv2_x0_75, options: {stem_stride: 2}}
"""
ADAMW = "+recipe.label_smoothing=0.1+recipe.optimizer=adamw+recipe.schedule=cosine"
# After the table: batch norm and the running minimum of the loss; the plain loss; AdamW; dropout besides.
CELLS = ("/shufflenetv2/bias", "/shufflenetv2/ce", f"{ADAMW}/shufflenetv2/bias", "/mobilenetv2/bias")

_OF_THE_MOMENT = {
    *("started_at", "finished_at", "duration_seconds", "images_per_second", "train_seconds", "test_seconds"),
    *("resumptions", "start_seconds", "peak_memory_bytes"),
    *("git_commit", "git_dirty"),  # of the checkout, where somebody may commit while a test runs
}


def without_times(record: RunRecord) -> bytes:
    """The record as bytes, without times, memory, the number of resumptions and the checkout's commit."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items() if key not in _OF_THE_MOMENT}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(bare(record.model_dump(mode="json"))).encode()


@dataclass
class Tally:
    """What happened: kills by where they struck, those that left a file half written, and bytes that differ."""

    kills: Counter[str] = field(default_factory=Counter)
    half_written: int = 0
    runs: int = 0
    differing: int = 0

    def __str__(self) -> str:
        where = ", ".join(f"{count} {place}" for place, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills in {self.runs} runs ({where}; {self.half_written} left a file half written): "
            f"{self.differing} bytes differ"
        )


class Zygote:
    """A process that has torch imported and forks a training command for each call."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "commands.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def begin(self, *arguments: str, checkpoint_seconds: float = 0.0, die_at: int = 0, stall_at: int = 0) -> int:
        """Start ``biasrepro ARGUMENTS``; returns its process number."""
        order = {"arguments": arguments, "log": str(self.log), "checkpoint_seconds": checkpoint_seconds}
        self._orders.write(json.dumps({**order, "die_at": die_at, "stall_at": stall_at}) + "\n")
        self._orders.flush()
        return int(self._answers.readline())

    def status(self) -> int:
        """Wait for the command that was begun; returns its exit status, or minus the signal that killed it."""
        return int(self._answers.readline())

    def run(self, *arguments: str, checkpoint_seconds: float = 0.0, after: float | None = None, die_at: int = 0) -> int:
        """The exit status of ``biasrepro ARGUMENTS``, killed ``after`` so many seconds or at a call of its commits."""
        pid = self.begin(*arguments, checkpoint_seconds=checkpoint_seconds, die_at=die_at)
        if after is not None:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.status()

    def close(self) -> None:
        self._orders.close()
        self._process.wait()
        self._answers.close()


@contextmanager
def zygote(folder: Path) -> Iterator[Zygote]:
    """A zygote whose commands write their output into ``folder``."""
    running = Zygote(folder)
    try:
        yield running
    finally:
        running.close()


def kill_and_compare(folder: Path, kills: int, seed: int, tally: Tally | None = None) -> Tally:
    """Train runs under ``folder`` with at least ``kills`` kills, and compare each with its uninterrupted self.

    ``tally`` is kept up to date meanwhile, and returned.
    """
    tally = tally or Tally()
    chance = random.Random(seed)
    experiment = folder / "tiny.yaml"
    experiment.write_text(EXPERIMENT)
    whole: dict[str, tuple[bytes, float]] = {}
    with zygote(folder) as commands:
        while tally.kills.total() < kills:
            cell = CELLS[tally.runs % len(CELLS)]
            train = [
                "train",
                f"{experiment}{cell}",
                "--keep-weights",
                *("--device", "cpu", "--threads", "1"),
                "--results",
            ]
            if cell not in whole:
                began = time.monotonic()
                assert commands.run(*train, str(folder / "whole")) == 0, commands.log.read_text()
                whole[cell] = without_times(record_of(folder / "whole", cell)), time.monotonic() - began
            expected, seconds = whole[cell]
            results = folder / f"run-{tally.runs}"
            lives = _lives(commands, [*train, str(results)], RunFolder(place_of(results, cell)), chance, seconds, tally)
            assert lives == 0, commands.log.read_text()
            tally.runs += 1
            ended = without_times(record_of(results, cell))
            tally.differing += sum(a != b for a, b in zip(ended, expected, strict=False))
            tally.differing += abs(len(ended) - len(expected))
    return tally


def _lives(
    commands: Zygote, train: list[str], folder: RunFolder, chance: random.Random, seconds: float, tally: Tally
) -> int:
    """Run the command until it ends unkilled; returns its exit status.

    It is killed at a random moment of its life, or at a random file-system call of its commits, which come after every
    step, now and then, or at the epochs' ends alone.
    """
    while True:
        often = chance.choice((0.0, 0.2, 180.0))
        if chance.random() < 0.7:
            longest = chance.choice((0.3, 0.6, 1.2)) * seconds  # short lives too: a run then dies many times
            status = commands.run(*train, checkpoint_seconds=often, after=chance.uniform(0, longest))
            kind = "at a random moment"
        else:
            status = commands.run(*train, checkpoint_seconds=0.0, die_at=chance.randrange(1, 60))
            kind = "at a call of a commit"
        if status != -signal.SIGKILL:
            return status
        tally.kills[kind] += 1
        tally.half_written += any(folder.path.glob(".*.part"))


def place_of(results: Path, cell: str) -> Path:
    return results / f"tiny{cell}" / "seed-0"


def record_of(results: Path, cell: str) -> RunRecord:
    """The record of the run, whose weights are those that it names."""
    folder = RunFolder(place_of(results, cell))
    record = read_record(folder.record)
    read_weights(folder.weights, require_weights(folder, record))
    return record


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    tally, began = Tally(), time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM):  # what was proved until then is said all the same
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with contextlib.suppress(KeyboardInterrupt):
            kill_and_compare(Path(folder), chosen.kills, chosen.seed, tally)
        print(f"{tally}, {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(tally.differing > 0 or tally.kills.total() < chosen.kills)


if __name__ == "__main__":
    main()
