"""Requests to stop: Ctrl-C, SIGTERM, and for workers the end of standard input."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# A worker whose sweep is gone finishes its step and commits; one that cannot do so in this time ends regardless.
LAST_SECONDS_WITHOUT_PARENT = 60.0


class StopRequests:
    """Counts requests to stop while in force; ``exit_code`` is that of the first: 130 for Ctrl-C, 143 for SIGTERM.

    ``on_second`` is called at the second request, from the signal handler.
    """

    def __init__(self, on_second: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self.exit_code = 0
        self._on_second = on_second
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether anybody asked to stop."""
        return self.count > 0

    def stop_at_eof(self) -> None:
        """Take the end of standard input as a SIGTERM: whoever started this process is gone."""
        threading.Thread(target=self._wait_for_eof, daemon=True, name="stop-at-eof").start()

    def _wait_for_eof(self) -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        self._note(signal.SIGTERM)
        threading.Event().wait(LAST_SECONDS_WITHOUT_PARENT)
        leave_at_once(self.exit_code)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        if self.count == 2 and self._on_second is not None:
            self._on_second(self.exit_code)

    def _note(self, number: int) -> None:
        self.exit_code = self.exit_code or 128 + number
        self.count += 1


def leave_at_once(exit_code: int) -> None:
    """End this process now; files are committed atomically, so there is nothing to tidy but the cursor."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(exit_code)
