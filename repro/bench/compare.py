"""Arms against each other: in turn A B B A, a process each, in the same minutes on the same machine."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from repro.bench.configurations import Setting
from repro.errors import RunFailure

_PATIENCE_SECONDS = 20.0
WORKER = (sys.executable, "-m", "repro.bench.child")


@dataclass(frozen=True)
class ArmResult:
    """What an arm gave.

    ``epoch_seconds``: each timed epoch's, in the order of the rounds. ``warm_up_seconds``: what its first epoch took
    longer than they do in the median, compilation and capture included; ``start_seconds`` its process from its start
    until the network stood. ``feed_seconds``: of an epoch's batches alone, None where they are not apart.
    """

    arm: str
    images: int
    epoch_seconds: tuple[float, ...]
    start_seconds: float
    warm_up_seconds: float
    feed_seconds: float | None
    peak_memory_bytes: int
    in_force: dict[str, Any]

    @property
    def images_per_second(self) -> float:
        """The median over the rounds."""
        return self.images / statistics.median(self.epoch_seconds)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "images_per_second": self.images_per_second}


@dataclass(frozen=True)
class Ratio:
    """How many times as fast an arm is as the first one: median, least and greatest of the rounds."""

    median: float
    least: float
    greatest: float


def ratio(of: ArmResult, to: ArmResult) -> Ratio:
    """The ratio of images a second, each round's two neighbours in time compared."""
    rounds = [slow / fast for slow, fast in zip(to.epoch_seconds, of.epoch_seconds, strict=True)]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds))


def whole_run_seconds(arm: ArmResult, images: float) -> float:
    """What training on ``images`` images in all takes, start and warm-up counted, evaluation not."""
    return images / arm.images_per_second + arm.start_seconds + arm.warm_up_seconds


def compare(settings: Sequence[Setting], rounds: int, tell: Callable[[str], None]) -> list[ArmResult]:
    """Time ``rounds`` epochs of each arm. Raises RunFailure where one fails, or they begin with other weights."""
    with ExitStack() as processes:
        arms = []
        for setting in settings:
            tell(f"{setting.arm}: starting")
            arms.append(processes.enter_context(_worker({"work": "arm", "setting": setting.to_json()}, setting.arm)))
        if len({arm.first["weights"] for arm in arms}) > 1:
            raise RunFailure("the arms do not begin with the same weights")
        seconds: list[list[float]] = [[] for _ in arms]
        for number in range(rounds):
            turn = list(range(len(arms)))
            for index in turn if number % 2 == 0 else reversed(turn):
                tell(f"round {number + 1} of {rounds}, {settings[index].arm}")
                seconds[index].append(arms[index].ask("epoch")["seconds"])
        return [
            _result(setting, arm.first, times, arm.ask("finish"))
            for setting, arm, times in zip(settings, arms, seconds, strict=True)
        ]


def measure_bound(device: str, precision: str, threads: int) -> dict[str, float]:
    """The device's best, as ``repro.bench.bound.Bound`` has it, measured in a process of its own."""
    request = {"work": "bound", "device": device, "precision": precision, "threads": threads}
    with _worker(request, "the bound") as worker:
        return worker.first


def _result(setting: Setting, first: dict[str, Any], seconds: list[float], last: dict[str, Any]) -> ArmResult:
    return ArmResult(
        arm=setting.arm,
        images=setting.images,
        epoch_seconds=tuple(seconds),
        start_seconds=first["start_seconds"],
        warm_up_seconds=max(0.0, first["first_epoch_seconds"] - statistics.median(seconds)),
        feed_seconds=last["feed_seconds"],
        peak_memory_bytes=last["peak_memory_bytes"],
        in_force=first["in_force"],
    )


class _Worker:
    """A process that answers; ``first`` is what it said when it was ready."""

    def __init__(self, process: subprocess.Popen[str], request: dict[str, Any], name: str) -> None:
        self._process = process
        self._name = name
        self.first = self.ask(json.dumps(request))

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line, wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RunFailure(f"{self._name} ended with exit code {self._process.wait()}, see above")
        told: dict[str, Any] = json.loads(answer)
        return told


@contextmanager
def _worker(request: dict[str, Any], name: str) -> Iterator[_Worker]:
    """A worker for ``request``, ended when the block is left. What it says to standard error is shown."""
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Worker(process, request, name)
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # of a line that a worker which is gone has not taken
                process.stdin.close()  # it ends by itself then, and its data loader's processes with it
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
