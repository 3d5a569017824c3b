"""One worker process: ``biasrepro train`` for one run, with its messages read and its noise kept in the run's log.

It leads a session of its own, so a Ctrl-C at the terminal reaches the sweep alone, which then asks its workers to stop.
Its standard input is a pipe that nobody writes to: when the sweep is gone, however it went, the pipe closes, and the
worker commits its state and ends. No worker outlives its sweep.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO

from repro.progress import Progress
from repro.sweep.devices.slots import Slot
from repro.sweep.executor import Job

_LOG_TAIL_BYTES = 4_000
_LOG_TAIL_LINES = 12


class Worker:
    """A running worker; ``last`` is the latest message it sent, ``silent`` whether it closed its output.

    ``shared`` says whether other workers had slots on its device meanwhile.

    Raises OSError where no process can be started.
    """

    def __init__(self, job: Job, slot: Slot, command: Sequence[str]) -> None:
        self.job = job
        self.slot = slot
        self.last: Progress | None = None
        self.silent = False
        self.shared = False
        self._partial = b""
        job.folder.path.mkdir(parents=True, exist_ok=True)
        if job.folder.log.is_fifo():
            raise OSError(errno.EINVAL, f"{job.folder.log} is a pipe, which would be waited for")
        self._log = job.folder.log.open("ab", buffering=0)
        self._log_start = self._log.tell()
        arguments = [*job.arguments, "--device", slot.device, "--threads", str(slot.threads)]
        full = [*command, *arguments, "--progress", "json", "--stop-at-eof"]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._keep(f"--- {now} on {slot.label}: biasrepro {shlex.join(arguments)}\n".encode())
        try:
            self.process = subprocess.Popen(
                full,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **slot.environment},
                start_new_session=True,
            )
        except OSError:
            self._log.close()
            raise
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input: IO[bytes] = self.process.stdin
        self.output: IO[bytes] = self.process.stdout
        os.set_blocking(self.output.fileno(), False)

    def read(self) -> list[Progress]:
        """The messages that arrived since the last call; every other line goes to the log, and a start's notes."""
        heard = []
        while chunk := self._chunk():
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            for line in lines:
                try:
                    self.last = Progress.from_line(line.decode())
                    heard.append(self.last)
                    if self.last.phase == "starting" and self.last.steps and self.last.message:
                        self._keep(f"--- {self.last.message}\n".encode())
                except ValueError:
                    self._keep(line + b"\n")
        return heard

    def _keep(self, line: bytes) -> None:
        """Add to the log. It only informs: a disk that is full must not end the sweep."""
        with contextlib.suppress(OSError):
            self._log.write(line)

    def _chunk(self) -> bytes:
        try:
            chunk = os.read(self.output.fileno(), 65_536)
        except BlockingIOError:
            return b""
        self.silent = not chunk
        return chunk

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def ask_to_stop(self) -> None:
        """SIGTERM: the worker commits its state and ends."""
        if not self.ended:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the worker and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> tuple[int, str]:
        """Wait for the process, sweep up what it may have left behind, and return its exit status and last words."""
        returncode = self.process.wait()
        self.kill()
        self.read()
        if self._partial:
            self._keep(self._partial + b"\n")
        self.output.close()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        words = self._last_words()
        with contextlib.suppress(OSError):  # an NFS client may say only now that the disk was full
            self._log.close()
        return returncode, words

    def _last_words(self) -> str:
        """The last lines that this attempt left in the log, where that is still to be read."""
        try:
            with self.job.folder.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join([line for line in lines if line.strip() and not line.startswith("--- ")][-_LOG_TAIL_LINES:])
