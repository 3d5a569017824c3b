"""Real clusters on this machine. Modules beside this one start them."""

from __future__ import annotations

import sys
from pathlib import Path

for beside in (Path(__file__).parent, Path(__file__).parents[1] / "reliability"):
    sys.path.insert(0, str(beside))
