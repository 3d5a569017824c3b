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
# It notes its arguments, and fails where they contain the word FAIL.
STAND_IN = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
echo "${PYTHONPATH:-}" > "$CALLS.path"
[[ -z ${FAIL:-} || " $* " != *" $FAIL "* ]]
"""
# Stands for timeout: notes the limit.
TIMEOUT = """\
#!/usr/bin/env bash
echo "$2" >> "$LIMITS"
exec "${@:3}"
"""


def run_script(script: str, tmp_path: Path, *options: str, fails: str = "") -> tuple[int, str]:
    """The exit code and the output of ``script`` with stand-ins for Python and timeout."""
    for name, text in (("stand-in", STAND_IN), ("timeout", TIMEOUT)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for notes in ("calls", "limits"):
        (tmp_path / notes).write_text("")
    stand_in = str(tmp_path / "stand-in")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        **{"CALLS": f"{tmp_path}/calls", "LIMITS": f"{tmp_path}/limits", "FAIL": fails},
        **{"PYTHON": stand_in, "BIASREPRO": stand_in},
    }
    command = ["bash", FOLDER / script, *options, tmp_path / "out"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout


def calls(script: str, tmp_path: Path, *options: str) -> list[list[str]]:
    """What ``script`` calls, word by word."""
    assert run_script(script, tmp_path, *options)[0] == 0
    return noted(tmp_path)


def noted(tmp_path: Path) -> list[list[str]]:
    """The calls since the script began."""
    return [line.removeprefix("-m repro ").split() for line in (tmp_path / "calls").read_text().splitlines()]


def parameters(words: list[str]) -> dict[str, Any]:
    """What the command line makes of ``words``; it ends the test where they are none of its."""
    name, *arguments = words
    group: Any = typer.main.get_command(cli.app)
    return dict(group.commands[name].make_context(name, arguments).params)


@pytest.mark.parametrize(
    ("script", "options", "device", "count"),
    [("cpu.sh", (), "cpu", 11), ("gpu.sh", (), "cuda", 5), ("gpu.sh", ("--long",), "cuda", 15)],
)
def test_every_comparison_can_be_made(
    script: str, options: tuple[str, ...], device: str, count: int, tmp_path: Path
) -> None:
    comparisons = [words for words in calls(script, tmp_path, *options) if words[0] == "bench"]
    assert len(comparisons) == count
    outputs = set()
    for words in comparisons:
        chosen = parameters(words)
        assert chosen["device"] == device
        arms = choose_arms(chosen["arms"], device)
        compared = Options(
            arms=arms,
            **{key: chosen[key] for key in ("rounds", "device", "image_size", "batch_size", "precision", "recompute")},
            batches=chosen["batches"],
            threads=1,
            workers=1,
        )
        cell = cell_of(chosen["models"][0], compared)
        assert cell.execution.recompute == ("--recompute" in words)
        if "densenet" in cell.row.model and device == "cuda":
            assert len(arms) == 2  # all arms are in memory at once
        outputs.add(chosen["output"])
    assert len(outputs) == count


def test_a_gpu_is_checked_before_it_is_measured(tmp_path: Path) -> None:
    device, first, *others = calls("gpu.sh", tmp_path, "--long")
    assert "torch.cuda.is_available" in " ".join(device)
    assert first[:4] == ["-m", "pytest", "-m", "cuda"]
    assert (tmp_path / "calls.path").read_text().startswith(str(FOLDER.parent))  # it need not be installed
    (sweep,) = [words for words in others if words[0] == "sweep"]
    assert parameters(sweep)["jobs_per_gpu"] == "auto"
    for script in [words[0] for words in others if words[0].endswith(".py")]:
        assert (FOLDER.parent / script).exists()


@pytest.mark.parametrize(("options", "least", "most"), [((), 300, 600), (("--long",), 1200, 7200)])
def test_the_time_that_is_said_first_is_the_sum_of_the_limits(
    options: tuple[str, ...], least: int, most: int, tmp_path: Path
) -> None:
    _code, told = run_script("gpu.sh", tmp_path, *options)
    limits = [int(line) for line in (tmp_path / "limits").read_text().splitlines()]
    assert len(limits) == told.count("== ")
    assert least <= sum(limits) <= most
    assert told.startswith(f"This takes at most {sum(limits)} s")


def test_a_step_that_is_done_is_skipped(tmp_path: Path) -> None:
    code, told = run_script("gpu.sh", tmp_path, fails="squeezenet")
    assert code == 1
    assert "failed: squeezenet;" in told
    everything = len(noted(tmp_path))
    assert [words[1] for words in calls("gpu.sh", tmp_path) if words[0] == "bench"] == ["squeezenet"]
    assert len(calls("gpu.sh", tmp_path)) == 1  # it looks for the device
    assert len(calls("gpu.sh", tmp_path, "--again")) == everything


def test_without_a_gpu_nothing_is_tried(tmp_path: Path) -> None:
    assert run_script("gpu.sh", tmp_path, fails="-c")[0] == 1
    assert len(noted(tmp_path)) == 1
    assert not (tmp_path / "out").exists()
