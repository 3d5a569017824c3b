"""Compares arms, each in a process, in turn A B B A: in the same minutes on the same machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from repro.bench.configurations import STANDARD_LOOP, Setting
from repro.environment import settled
from repro.errors import RunFailure
from repro.machine import python_command

_PATIENCE_SECONDS = 20.0
WORKER = python_command("repro.bench.child")


@dataclass(frozen=True)
class ArmResult:
    """The measurements of an arm.

    ``epoch_seconds``: of each timed epoch. ``start_seconds``: until the network was built. ``warm_up_seconds``: of the
    first epoch beyond the median, such as compilation and capture. ``feed_seconds``: to make the batches of an epoch,
    measured after the last round; None before, and where that cannot be timed alone.
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


@dataclass(frozen=True)
class Ratio:
    """How many times as fast an arm is as the first one: median and range of the rounds."""

    median: float
    least: float
    greatest: float


def ratio(of: ArmResult, to: ArmResult) -> Ratio:
    """The ratio of images per second, computed round by round."""
    rounds = [slow / fast for slow, fast in zip(to.epoch_seconds, of.epoch_seconds, strict=True)]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds))


def whole_run_seconds(arm: ArmResult, images: float) -> float:
    """The time to train on ``images`` images in total, with start and warm-up, without evaluation."""
    return images / arm.images_per_second + arm.start_seconds + arm.warm_up_seconds


def compare(settings: Sequence[Setting], rounds: int, tell: Callable[[str], None]) -> Iterator[list[ArmResult]]:
    """Time ``rounds`` epochs of each arm; yields the results so far after each round, and once more at the end.

    Raises RunFailure if an arm fails or begins with other weights.
    """
    with ExitStack() as processes:
        arms = []
        for setting in settings:
            tell(f"{setting.arm}: starting")
            environment = settled(os.environ) if setting.arm in STANDARD_LOOP else None  # threads wait as by default
            request = {"work": "arm", "setting": setting.to_json()}
            arms.append(processes.enter_context(worker(request, setting.arm, environment)))
            arms[-1].wait_until_ready()  # before the next starts: starts are timed too
        if len({arm.first["weights"] for arm in arms}) > 1:
            raise RunFailure("the arms do not start from the same weights")
        seconds: list[list[float]] = [[] for _ in arms]
        last: list[dict[str, Any]] = [{} for _ in arms]
        for number in range(rounds):
            turn = list(range(len(arms)))
            for index in turn if number % 2 == 0 else reversed(turn):
                tell(f"round {number + 1} of {rounds}, {settings[index].arm}")
                answer = arms[index].ask("epoch")
                seconds[index].append(answer["seconds"])
                last[index] = answer
            yield [_result(*measured) for measured in zip(settings, arms, seconds, last, strict=True)]
        last = [arm.ask("finish") for arm in arms]
        yield [_result(*measured) for measured in zip(settings, arms, seconds, last, strict=True)]


def side_by_side(setting: Setting, runs: int, rounds: int) -> list[list[float]]:
    """The seconds of each epoch of ``runs`` processes that train at once: of each round, a list by process.

    Raises RunFailure if one of them fails, such as for want of memory.
    """
    request = {"work": "arm", "setting": setting.to_json()}
    with ExitStack() as processes:
        workers = [processes.enter_context(worker(request, f"run {number + 1}")) for number in range(runs)]
        for one in workers:  # they start at once
            one.wait_until_ready()
        seconds = []
        for _ in range(rounds):
            for one in workers:
                one.tell("epoch")
            seconds.append([one.answer()["seconds"] for one in workers])
    return seconds


def measure_bound(device: str, precision: str, threads: int) -> dict[str, float]:
    """The fields of ``repro.bench.bound.Bound``, measured in a process of its own."""
    request = {"work": "bound", "device": device, "precision": precision, "threads": threads}
    with worker(request, "the bound") as process:
        return process.wait_until_ready()


def _result(setting: Setting, arm: Worker, seconds: list[float], last: dict[str, Any]) -> ArmResult:
    first = arm.first
    return ArmResult(
        arm=setting.arm,
        images=setting.images,
        epoch_seconds=tuple(seconds),
        start_seconds=first["start_seconds"],
        warm_up_seconds=max(0.0, first["first_epoch_seconds"] - statistics.median(seconds)),
        feed_seconds=last.get("feed_seconds"),
        peak_memory_bytes=last["peak_memory_bytes"],
        in_force=first["in_force"],
    )


class Worker:
    """A process that answers; ``first`` is its first answer, there once it is ready."""

    def __init__(self, process: subprocess.Popen[str], request: dict[str, Any], name: str) -> None:
        self._process = process
        self._name = name
        self.first: dict[str, Any] = {}
        self.tell(json.dumps(request))

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait for its first answer. Raises RunFailure if it ends instead."""
        self.first = self.answer()
        return self.first

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for the answer. Raises RunFailure if the process ends instead."""
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        """Send a line. That the process has ended shows where its answer is waited for."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the line that was sent. Raises RunFailure if the process ends instead."""
        assert self._process.stdout is not None
        if not (answer := self._process.stdout.readline()):
            raise RunFailure(f"{self._name} ended with exit code {self._process.wait()}, see above")
        told: dict[str, Any] = json.loads(answer)
        return told


@contextmanager
def worker(request: dict[str, Any], name: str, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """A worker for ``request``, which ends with the block. Its standard error is shown.

    Without an ``environment`` it has that of this process.
    """
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Worker(process, request, name)
        except KeyboardInterrupt:
            process.terminate()  # without waiting for the end of its epoch
            raise
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # the worker has ended with a line unread
                process.stdin.close()  # it ends now, and so do the processes of its data loader
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
