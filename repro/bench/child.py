"""One arm in a process of its own, so that arms do not share memory, compiled code or settings.

Reads a setting as a line of JSON and answers with a line; then answers each line ``epoch`` and the line ``finish``. It
ends after ``finish``, or when its input closes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from repro.bench.configurations import Setting
from repro.plugin_files import load_plugins

_KIB = 1024


def main() -> None:
    """Serve one arm on standard input and output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else that is printed may look like an answer

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    request = json.loads(sys.stdin.readline())
    if request["work"] == "bound":
        answer(**_bound(request["device"], request["precision"], request["threads"]))
        return
    setting = Setting.from_json(request["setting"])
    load_plugins(map(Path, setting.plugins))
    began = time.perf_counter()
    from repro.bench.loops import Loop

    loop = Loop(setting)
    ready = time.perf_counter()
    first = loop.epoch()
    answer(
        weights=loop.weights,
        in_force=loop.settings.to_record(),
        start_seconds=ready - began,
        first_epoch_seconds=first,
    )
    for line in sys.stdin:
        if line.strip() == "finish":
            answer(peak_memory_bytes=_peak_memory_bytes(setting.device), feed_seconds=loop.feed_seconds())
            return
        answer(seconds=loop.epoch(), peak_memory_bytes=_peak_memory_bytes(setting.device))


def _bound(device: str, precision: str, threads: int) -> dict[str, float]:
    import torch

    from repro.bench.bound import measure_bound
    from repro.engine.device import choose_device, set_up_device
    from repro.experiment.schema import Execution

    chosen = choose_device(device)
    execution = Execution.model_validate({"precision": precision, "memory_format": "contiguous"})
    set_up_device(chosen, execution, threads, "none")
    # Convolutions are nearly all of the arithmetic: if they may use TF32, so may the product that stands for them.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    with torch.no_grad():
        return dict(measure_bound(chosen, precision).__dict__)


def _peak_memory_bytes(device: str) -> int:
    """The peak memory of this process without its workers: reserved on the GPU, or resident on a CPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


if __name__ == "__main__":
    main()
