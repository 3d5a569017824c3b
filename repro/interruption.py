"""Requests to stop: Ctrl-C, SIGTERM, a scheduler's warning, a closed terminal and, for workers, the end of input."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# A worker whose sweep is gone finishes its step and saves a checkpoint; after this time it exits in any case.
LAST_SECONDS_WITHOUT_PARENT = 60.0

# `sbatch --signal=USR1@120` and other schedulers send SIGUSR1 or SIGUSR2 before the time limit, and SIGTERM at the
# limit and at pre-emption.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)

# `timeout` and some schedulers send a signal to a process and at once to its whole group: that is one request. Not so
# SIGINT, which is a person's Ctrl-C.
ONE_REQUEST_SECONDS = 0.2


class _DistinctRequests:
    """The received signals without those that a program repeats at once; of SIGINT each one counts."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._last_at = 0.0

    def add(self, number: int) -> None:
        now = time.monotonic()
        again = bool(self.numbers) and number == self.numbers[-1] and now - self._last_at < ONE_REQUEST_SECONDS
        if number == signal.SIGINT or not again:
            self.numbers.append(number)
            self._last_at = now


class StopRequests:
    """Counts requests to stop; ``exit_code`` is 130 if the first was Ctrl-C, else 143 as for SIGTERM: resumable.

    ``on_second`` is called at the second request, even while the main thread is in a call that does not return.
    """

    def __init__(self, on_second: Callable[[int], None] | None = None) -> None:
        self._requests = _DistinctRequests()
        self._on_second = on_second
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started with nohup
            self._before[number] = signal.signal(number, self._handle)
        if self._on_second is not None:
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            self._wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            self._pipe = reader, writer
            threading.Thread(target=self._watch, args=(reader,), daemon=True, name="second-signal").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_second is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._pipe[1])  # the watching thread sees the end, and closes the other side
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def count(self) -> int:
        """How many requests there were."""
        return len(self._requests.numbers)

    @property
    def exit_code(self) -> int:
        """As in the class's docstring; 0 before the first request."""
        return _exit_code(self._requests.numbers[0]) if self._requests.numbers else 0

    def asked(self) -> bool:
        """Whether a stop was requested."""
        return self.count > 0

    def stop_at_eof(self) -> None:
        """Treat the end of standard input as a SIGTERM: the process that started this one is gone."""
        threading.Thread(target=self._wait_for_eof, daemon=True, name="stop-at-eof").start()

    def _wait_for_eof(self) -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        self._requests.add(signal.SIGTERM)
        threading.Event().wait(LAST_SECONDS_WITHOUT_PARENT)
        leave_at_once(self.exit_code)

    def _watch(self, reader: int) -> None:
        """Count signals as the system delivers them: Python's own handlers wait for the main thread."""
        requests = _DistinctRequests()
        assert self._on_second is not None
        while received := os.read(reader, 64):
            for number in received:
                if number in self._before:
                    requests.add(number)
            if len(requests.numbers) > 1:
                self._on_second(_exit_code(requests.numbers[0]))
        os.close(reader)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requests.add(number)


def _exit_code(number: int) -> int:
    return 128 + (number if number == signal.SIGINT else signal.SIGTERM)


def leave_at_once(exit_code: int) -> None:
    """End this process now. Files are written atomically, so only the cursor needs to be restored."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(exit_code)
