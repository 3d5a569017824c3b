"""``biasrepro`` whose sweeps start fake workers, as a process of its own: for tests that send it signals."""

from __future__ import annotations

import sys
from pathlib import Path

from repro import machine
from repro.cli import main
from repro.sweep.local import executor as local

if __name__ == "__main__":
    local.WORKER_COMMAND = (sys.executable, str(Path(__file__).parents[1] / "sweep" / "fake_worker.py"))
    machine.usable_cores = lambda: 2
    machine.find_gpus = lambda: ()
    main()
