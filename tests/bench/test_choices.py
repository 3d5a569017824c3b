"""What each network takes best on a GPU: how it is measured, and that the catalog follows what was measured."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from repro.experiment.catalog import NETWORKS
from repro.experiment.config import find_table

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "choices.py"
RECORD = SCRIPT.parent / "records" / "gpu" / "choices.json"
# Stands for the process of an arm; in fp32 it fails.
ARM = """
import json, sys
request = json.loads(sys.stdin.readline())
execution = request["setting"]["run"]["cell"]["execution"]
if execution["precision"] == "fp32":
    sys.exit(1)
print(json.dumps({"weights": "w", "in_force": execution, "start_seconds": 1.0, "first_epoch_seconds": 2.0}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": 1.0, "peak_memory_bytes": 1}), flush=True)
"""


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch, load_file: Callable[[Path], ModuleType]) -> ModuleType:
    monkeypatch.setattr("repro.bench.compare.WORKER", (sys.executable, "-c", ARM))
    return load_file(SCRIPT)


def test_every_way_is_timed_once(
    choices: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "choices.json"
    command = ["choices.py", "table1/resnet18", "--device", "cpu", "--rounds", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    choices.main()
    record = json.loads(output.read_text())
    assert record["finished"]
    ways = record["cells"]["table1/resnet18"]
    assert len(ways) == len(choices.WAYS) == 16
    assert "run 1 ended with exit code 1" in ways["2 processes"]["error"]
    assert {name: way["in_force"]["memory_format"] for name, way in ways.items() if name.startswith("bf16")} == {
        "bf16, contiguous": "contiguous",
        "bf16, channels_last": "channels_last",
        "bf16, contiguous, compile": "contiguous",
        "bf16, channels_last, compile": "channels_last",
    }
    assert ways["bf16, contiguous"]["images_per_second"] == 50 * 128
    assert "ended with exit code 1" in ways["fp32, contiguous"]["error"]
    *_, row = capsys.readouterr().out.splitlines()
    assert row == "| table1/resnet18 | – | – | – | 1.00 | 1.00 | – | – | – | – |"  # of bf16 alone
    choices.main()  # only what failed is tried again
    *tried, _head, _rule, row = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in tried} == {"fp32,", "2", "4"}


def test_runs_at_once_are_counted_together(choices: ModuleType) -> None:
    ((_, cell),) = choices.cells(["table1/resnet18"])
    execution = cell.execution.model_copy(update={"precision": "bf16"})
    cell = cell.model_copy(update={"execution": execution})
    processes, streams = (choices.timed(cell, f"2 {kind}", "cpu", 50, 3) for kind in ("processes", "streams"))
    assert processes["epoch_seconds"] == [[1.0, 1.0]] * 3
    assert streams["epoch_seconds"] == [[1.0]] * 3
    assert processes["images_per_second"] == streams["images_per_second"] == 2 * 50 * 128


def test_the_table_has_ratios_to_fp32_or_to_what_a_way_adds_to(choices: ModuleType) -> None:
    speeds = {"fp32, contiguous": 1000, "bf16, contiguous": 2000, "bf16, channels_last": 3000, "4 streams": 2500}
    ways = {name: {"images_per_second": speed} for name, speed in speeds.items()}
    head, _rule, row = choices.as_markdown({"table2/squeezenet": ways}).splitlines()
    told = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert told == {"cell": "table2/squeezenet", "fp32": "1,000", "bf16": "2.00", "channels_last": "1.50"} | {
        "tf32": "–",
        "compile": "–",
        "2 processes": "–",
        "4 processes": "–",
        "2 streams": "–",
        "4 streams": "2.50",
    }


def test_all_networks_of_both_tables_are_timed(choices: ModuleType) -> None:
    timed = [cell.row.model for _reference, cell in choices.cells([])]
    assert timed == [row.model for name in ("table2", "table1") for row in find_table(name).rows]


@pytest.mark.skipif(not RECORD.exists(), reason="not measured yet: benchmarks/choices.py")
def test_the_catalog_has_the_faster_memory_format() -> None:
    gains: dict[str, float] = {}  # by network: the sum of log ratios, channels_last to contiguous
    for reference, ways in json.loads(RECORD.read_text())["cells"].items():
        table, row_id = reference.split("/")
        model = next(row.model for row in find_table(table).rows if row.id == row_id)
        for precision in ("tf32", "bf16"):
            speeds = [ways[f"{precision}, {layout}"]["images_per_second"] for layout in ("channels_last", "contiguous")]
            gains[model] = gains.get(model, 0.0) + math.log(speeds[0] / speeds[1])
    for model, gain in gains.items():
        assert NETWORKS[model].cuda_memory_format == ("channels_last" if gain > 0 else "contiguous"), model
