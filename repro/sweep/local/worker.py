"""One worker process: ``biasrepro train`` for one run. Its messages are read; its other output goes to the run's log.

It leads a session of its own, so Ctrl-C at the terminal reaches only the sweep, which then asks its workers to stop.
Its standard input is a pipe that nobody writes to. When the sweep ends, for whatever reason, the pipe closes, and the
worker saves a checkpoint and exits: no worker outlives its sweep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from repro.environment import settled
from repro.progress import Progress
from repro.results.files import open_log, open_plain
from repro.sweep.devices.slots import Slot
from repro.sweep.executor import Job, Reported
from repro.wording import shell_line

_LOG_TAIL_BYTES = 4_000
_LOG_TAIL_LINES = 12


class Worker:
    """A running worker. ``last`` is its latest message; ``shared`` says whether others had slots on its device.

    Raises OSError if no process can be started.
    """

    def __init__(self, job: Job, slot: Slot, command: Sequence[str]) -> None:
        self.job = job
        self.slot = slot
        self.last: Progress | None = None
        self.output_closed = False
        self.shared = False
        self._partial = b""
        job.folder.path.mkdir(parents=True, exist_ok=True)
        self._log = open_log(job.folder.log)
        self._log_start = self._log.tell()
        arguments = [*job.arguments, "--device", slot.device, "--threads", str(slot.threads)]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write_log(f"--- {now} on {slot.label}: {shell_line(['biasrepro', *arguments])}\n".encode())
        try:
            self.process = subprocess.Popen(
                [*command, *arguments, "--progress", "json", "--stop-at-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**settled(os.environ), "PYTHONFAULTHANDLER": "1", **slot.environment},
                start_new_session=True,
            )
        except OSError:
            self._log.close()
            raise
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input = self.process.stdin
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)

    def read(self) -> list[Reported]:
        """The messages since the last call. Other lines go to the log, and so do the notes of a start."""
        reports = []
        while chunk := self._read_chunk():
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            for line in lines:
                try:
                    self.last = Progress.from_line(line.decode())
                except ValueError:
                    self._write_log(line + b"\n")
                    continue
                reports.append(Reported(self.job, self.last))
                if self.last.phase == "starting" and self.last.steps and self.last.message:
                    self._write_log(f"--- {self.last.message}\n".encode())
        return reports

    def _read_chunk(self) -> bytes:
        try:
            chunk = os.read(self.output.fileno(), 65_536)
        except BlockingIOError:
            return b""
        self.output_closed = not chunk
        return chunk

    def _write_log(self, line: bytes) -> None:
        """Add to the log. It only informs: a full disk must not end the sweep."""
        with contextlib.suppress(OSError):
            self._log.write(line)

    def ask_to_stop(self) -> None:
        """SIGTERM: the worker saves a checkpoint and exits."""
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to the worker and all its child processes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> tuple[int, str]:
        """Wait for the process, kill its leftover children, and return its exit status and the end of its log."""
        returncode = self.process.wait()
        self.kill()
        self.read()
        if self._partial:
            self._write_log(self._partial + b"\n")
        self.output.close()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        last_words = log_tail(self.job.folder.log, start=self._log_start)
        with contextlib.suppress(OSError):  # an NFS client may report only now that the disk was full
            self._log.close()
        return returncode, last_words


def log_tail(*logs: Path, start: int = 0) -> str:
    """The last lines of ``logs``, from byte ``start`` on, without biasrepro's own; unreadable files are skipped."""
    lines: list[str] = []
    for path in logs:
        with contextlib.suppress(OSError), os.fdopen(open_plain(path), "rb") as log:
            log.seek(max(start, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines += log.read().decode(errors="replace").splitlines()
    return "\n".join([line for line in lines if line.strip() and not line.startswith("--- ")][-_LOG_TAIL_LINES:])
