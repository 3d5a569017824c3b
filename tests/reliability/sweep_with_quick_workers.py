"""``biasrepro`` whose sweeps start quick workers, as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from repro.cli import main
from repro.sweep import driver as conduct
from repro.sweep.local import executor as local

if __name__ == "__main__":
    local.WORKER_COMMAND = (sys.executable, str(Path(__file__).with_name("quick_worker.py")))
    conduct.RECHECK_SECONDS = 0.2
    main()
