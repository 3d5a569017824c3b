from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from repro.results import RunFolder
from repro.results.ownership import own
from repro.sweep.local.watchdog import CHECK_SECONDS, SILENT_CHECKS, Watchdog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def worker_of(folder: RunFolder, pid: int) -> Any:
    return SimpleNamespace(process=SimpleNamespace(pid=pid), job=SimpleNamespace(folder=folder))


def checks(watch: Watchdog, clock: Clock, worker: Any, count: int) -> list[bool]:
    found = []
    for _ in range(count):
        found.append(watch.hung([worker]) == [worker])
        clock.now += CHECK_SECONDS
    return found


def test_only_so_many_checks_without_a_heartbeat_are_silence(tmp_path: Path) -> None:
    folder, clock = RunFolder(tmp_path / "run"), Clock()
    watch, worker = Watchdog(clock), worker_of(folder, os.getpid())
    with own(folder) as ownership:
        assert not any(checks(watch, clock, worker, SILENT_CHECKS))
        os.utime(ownership.path, (1.0, 1.0))  # a heartbeat, by whatever clock
        assert not any(checks(watch, clock, worker, SILENT_CHECKS + 1))
        assert checks(watch, clock, worker, 1) == [True]


def test_a_node_that_was_suspended_made_no_checks_meanwhile(tmp_path: Path) -> None:
    folder, clock = RunFolder(tmp_path / "run"), Clock()
    watch, worker = Watchdog(clock), worker_of(folder, os.getpid())
    with own(folder):
        checks(watch, clock, worker, 2)
        clock.now += 10 * SILENT_CHECKS * CHECK_SECONDS
        assert not any(watch.hung([worker]) for _ in range(2 * SILENT_CHECKS))


def test_a_worker_that_owns_no_run_yet_is_not_silent(tmp_path: Path) -> None:
    folder, clock = RunFolder(tmp_path / "run"), Clock()
    assert not any(checks(Watchdog(clock), clock, worker_of(folder, os.getpid()), SILENT_CHECKS + 2))
    with own(folder):
        assert not any(checks(Watchdog(clock), clock, worker_of(folder, os.getpid() + 1), SILENT_CHECKS + 2))
