"""The scripts of measurements: every command in them is one that the command line takes.

Nothing is measured: a stand-in notes what it is called with. A session on a GPU is too dear to find a misspelt arm in.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from repro import cli
from repro.bench.benchmark import Options, cell_of
from repro.bench.configurations import choose_arms

FOLDER = Path(__file__).parents[2] / "benchmarks"
STAND_IN = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
"""


def calls(script: str, tmp_path: Path) -> list[list[str]]:
    """What ``script`` calls, word by word."""
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    noted = tmp_path / "calls"
    environment = {**os.environ, "CALLS": str(noted), "PYTHON": str(stand_in), "BIASREPRO": str(stand_in)}
    subprocess.run(["bash", FOLDER / script, tmp_path / "out"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return [line.removeprefix("-m repro ").split() for line in noted.read_text().splitlines()]


def parameters(words: list[str]) -> dict[str, Any]:
    """What the command line makes of ``words``; it ends the test where they are none of its."""
    name, *arguments = words
    group: Any = typer.main.get_command(cli.app)
    return dict(group.commands[name].make_context(name, arguments).params)


@pytest.mark.parametrize(("script", "device", "count"), [("cpu.sh", "cpu", 11), ("gpu.sh", "cuda", 13)])
def test_every_comparison_can_be_made(script: str, device: str, count: int, tmp_path: Path) -> None:
    comparisons = [words for words in calls(script, tmp_path) if words[0] == "bench"]
    assert len(comparisons) == count
    outputs = set()
    for words in comparisons:
        chosen = parameters(words)
        assert chosen["device"] == device
        arms = choose_arms(chosen["arms"], device)
        options = Options(
            arms=arms,
            **{key: chosen[key] for key in ("rounds", "device", "image_size", "batch_size", "precision", "recompute")},
            batches=chosen["batches"],
            threads=1,
            workers=1,
        )
        cell = cell_of(chosen["models"][0], options)
        assert cell.execution.recompute == ("--recompute" in words)
        outputs.add(chosen["output"])
    assert len(outputs) == count


def test_a_session_on_a_gpu_begins_with_what_has_to_be_right(tmp_path: Path) -> None:
    first, *others = calls("gpu.sh", tmp_path)
    assert first[:4] == ["-m", "pytest", "-m", "cuda"]
    (sweep,) = [words for words in others if words[0] == "sweep"]
    assert parameters(sweep)["jobs_per_gpu"] == "auto"
    (startup,) = [words for words in others if words[0].endswith("startup.py")]
    assert (FOLDER.parent / startup[0]).exists()
