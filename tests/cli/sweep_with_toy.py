"""``biasrepro`` with one more folder beside those of Ray and SLURM: the toy backend."""

from __future__ import annotations

from pathlib import Path

import repro.sweep

if __name__ == "__main__":
    repro.sweep.__path__.append(str(Path(__file__).with_name("backends")))
    from repro.cli import main

    main()
