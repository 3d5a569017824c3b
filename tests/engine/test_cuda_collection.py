"""``pytest -m cuda`` needs what training needs: nothing of clusters, exports or development has to be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MISSING = (
    "submitit ray jsonschema statsmodels hypothesis pandas pyarrow playwright axe_playwright_python cffconvert "
    "tensorboard ruff mypy scipy matplotlib jinja2 markdown_it pytest_timeout xdist"
)
# A module that is None in sys.modules is one that is not installed.
COLLECT = f"""
import sys
sys.modules.update(dict.fromkeys("{MISSING}".split()))
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-m", "cuda", "tests"]))
"""


def test_tests_of_a_gpu_are_found_where_only_training_is_installed() -> None:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # nor are pytest's plugins
    environment.pop("PYTEST_ADDOPTS", None)  # it may name options of those
    command = [sys.executable, "-c", COLLECT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    marked = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark." + "cuda" in file.read_text(encoding="utf-8")
    }
    assert found == marked
    assert len(found) >= 4
