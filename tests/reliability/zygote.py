"""Starts training commands in a fraction of a second: imports torch once, then forks a process for each order.

Orders come on standard input, a line of JSON each: ``arguments`` of biasrepro, ``log`` for its output,
``checkpoint_seconds``, and ``die_at`` or ``stall_at``: the number of the file-system call of a commit at which the
process kills itself, or hangs for a while as on a disk that does not answer (0: never). The answers are two lines: the
process number, and once it ended its exit status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import repro.cli
import repro.cli.console
import repro.cli.preflight
import repro.cli.tensorboard
import repro.cli.train_view
import repro.data.digits
import repro.engine.code_hash
import repro.engine.training
import repro.experiment.config
import repro.interruption
import repro.results.durable
import repro.results.progress_file

COMMIT_CALLS = ("open", "write", "fsync", "close", "replace", "link", "unlink", "mkdir")


STALL_SECONDS = 20.0


def strike_at_call(number: int, strike: Callable[[], None], *, half: bool) -> None:
    """Call ``strike`` right before the ``number``-th file-system call that the commits make.

    With ``half``, a write that comes right before is only half done.
    """
    made = 0

    def mortal(call: Any) -> Any:
        def maybe_die(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                strike()
            if (
                half and call is write and made == number - 1 and len(arguments[1]) > 1
            ):  # killed in the middle of a write
                return write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            return call(*arguments, **options)

        return maybe_die

    write = os.write

    class Mortal:
        def __getattr__(self, name: str) -> Any:
            return mortal(getattr(os, name)) if name in COMMIT_CALLS else getattr(os, name)

    vars(repro.results.durable)["os"] = Mortal()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stall() -> None:
    os.write(1, b"stalled\n")
    time.sleep(STALL_SECONDS)


def obey(order: dict[str, Any]) -> None:
    """Become the command that the order names."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.pipe()[0], 0)  # open for as long as this process lives
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin = os.fdopen(0)
    repro.engine.training.CHECKPOINT_SECONDS = order["checkpoint_seconds"]
    repro.engine.training.EPOCH_CHECKPOINT_SECONDS = 0.0  # at the end of each of its epochs, short as they are
    if order["die_at"]:
        strike_at_call(order["die_at"], die, half=True)
    if order["stall_at"]:
        strike_at_call(order["stall_at"], stall, half=False)
    os._exit(repro.cli.run(order["arguments"]))


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests under nohup start with it ignored, which a run respects
    torch.set_num_threads(1)
    repro.data.digits.read_digits()
    # Of the code that is imported, whatever happens to its files later.
    repro.engine.code_hash.code_hash("shufflenetv2_x0_5", "bias", "digits")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                obey(json.loads(line))
            finally:
                os._exit(99)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    sys.argv = [str(Path("biasrepro")), "train"]
    main()
