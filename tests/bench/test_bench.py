"""The benchmark: its arms, its arithmetic, and one small comparison from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.bench.benchmark import Options, benchmark, cell_of
from repro.bench.bound import Bound, Need, need_of
from repro.bench.compare import ArmResult, ratio, whole_run_seconds
from repro.bench.configurations import ARMS, STANDARD_LOOP, Setting, choose_arms, keeps_memory, with_execution
from repro.bench.loops import Loop
from repro.bench.plain import PlainLoop
from repro.data.dataset import random_dataset
from repro.engine.learner import Learner
from repro.errors import ConfigError, RunFailure, UserError
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.models.describe import describe_model

PLUGIN = """\
from torch import nn
from repro.api import network

@network(features="0")
def tiny(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


def options(**changed: object) -> Options:
    usual = {
        "arms": ("plain", "format"),
        "rounds": 2,
        "device": "cpu",
        "threads": 1,
        "workers": 1,
        "image_size": 32,
        "batch_size": 4,
        "batches": 2,
        "precision": "fp32",
    }
    return Options(**{**usual, **changed})


def result(arm: str, *seconds: float, start: float = 0.0, warm_up: float = 0.0) -> ArmResult:
    return ArmResult(arm, 100, seconds, start, warm_up, None, 0, {})


def test_arms_are_those_of_the_device_in_their_order() -> None:
    assert choose_arms(None, "cpu") == ("plain", "resident", "augment", "memory", "format")
    assert choose_arms(None, "cuda") == ("plain", "resident", "augment", "graph", "format")
    assert choose_arms("compile, plain", "cpu") == ("plain", "compile")


@pytest.mark.parametrize(
    ("names", "device", "told"),
    [
        ("plain,fromat", "cpu", "Did you mean 'format'"),
        ("plain,graph", "cpu", "only for cuda"),
        ("plain,memory", "cuda", "only for cpu"),
        ("plain", "cpu", "fewer than two"),
        ("plain,plain", "cpu", "fewer than two"),
    ],
)
def test_arms_that_make_no_comparison_are_refused(names: str, device: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        choose_arms(names, device)
    assert told in str(raised.value)


def test_each_arm_adds_one_thing() -> None:
    run = Run(cell=find_table("table2").cells[0], seed=0)
    executions = {arm: with_execution(run, arm, "bf16").cell.execution for arm in ARMS}
    changed = {
        later: [
            key
            for key, value in executions[later].model_dump().items()
            if value != executions[earlier].model_dump()[key]
        ]
        for earlier, later in [*pairwise(ARMS[:-1]), ("format", ARMS[-1])]
    }
    assert changed == {
        "resident": [],
        "augment": [],
        "memory": [],
        "graph": ["cuda_graph"],
        "format": ["precision", "memory_format"],
        "compile": ["compile"],
        "deterministic": ["deterministic"],  # what it costs beside "format"
    }
    assert [keeps_memory(arm) for arm in ARMS] == [False, False, False, True, True, True, True, True]
    assert executions["plain"].precision == "fp32"  # what torch does by default on the device


@pytest.mark.parametrize("arm", ["plain", "resident"])
def test_the_standard_loop_leaves_torch_as_it_is(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    run = with_execution(Run(cell=cell_of("shufflenetv2_x0_5", options()), seed=0), arm, "bf16")
    loop = Loop(Setting(arm, run, "cpu", 1, 0, 4))
    assert not torch.backends.cudnn.benchmark
    in_force = loop.settings.to_record()
    assert (in_force["precision"], in_force["memory_format"], in_force["cuda_graph"]) == ("fp32", "contiguous", False)


def test_runs_on_streams_take_turns_and_each_trains_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_execution(Run(cell=cell_of("shufflenetv2_x0_5", options()), seed=0), "format", "fp32")
    one = run.cell.recipe.batch_size
    made: list[Learner] = []
    turns: list[Learner] = []

    class Noted(Learner):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

        def train_on_batch(self, step: int) -> int:
            turns.append(self)
            return super().train_on_batch(step)

    monkeypatch.setattr("repro.bench.loops.Learner", Noted)
    for streams in (1, 2):
        Loop(Setting("format", run, "cpu", 1, 0, 2 * one, streams=streams)).epoch()
    alone, first, second = made
    assert turns == [alone, alone, first, second, first, second]
    assert alone.state.hash() == first.state.hash() == second.state.hash()


def test_a_ratio_compares_neighbours_in_time() -> None:
    plain, ours = result("plain", 2.0, 4.0, 6.0), result("format", 1.0, 1.0, 2.0)
    found = ratio(ours, plain)
    assert (found.median, found.least, found.greatest) == (3.0, 2.0, 4.0)
    assert ours.images_per_second == 100.0


def test_warm_up_is_amortized_over_a_run() -> None:
    assert whole_run_seconds(result("plain", 2.0, start=1.0), images=900) == pytest.approx(1 + 18)
    assert whole_run_seconds(result("compile", 1.0, start=1.0, warm_up=8.0), images=900) == pytest.approx(9 + 9)


def test_what_a_step_needs_is_counted_from_the_network() -> None:
    cell = cell_of("squeezenet", options())
    need = need_of(cell)
    assert need.operations == pytest.approx(6e9 * describe_model("squeezenet", 100).gmacs_per_image)
    # The first convolution alone: its 3 x 32 x 32 input and 96 x 32 x 32 output, and both gradients.
    assert need.bytes > 4 * (3 * 3 + 2 * 96) * 32 * 32
    assert Need(10.0, 1.0).images_per_second(Bound(100.0, 100.0)) == (10.0, "arithmetic")
    assert Need(1.0, 10.0).images_per_second(Bound(100.0, 100.0)) == (10.0, "memory")


def test_recomputation_reaches_the_networks_that_have_it() -> None:
    run = Run(cell=cell_of("densenet100_k24", options(recompute=True)), seed=0)
    assert with_execution(run, "format", "fp32").cell.execution.recompute
    assert not cell_of("densenet100_k24", options()).execution.recompute


def test_an_unknown_network_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown network 'squeeznet'") as raised:
        cell_of("squeeznet", options())
    assert "squeezenet" in str(raised.value)


def test_a_network_of_a_plugin_that_is_not_loaded_is_named_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError) as refused:
        cell_of("my_study/tinynet", options())
    assert refused.value.hint == "Give its file: --plugin my_study.py"


@pytest.mark.slow
def test_a_network_of_a_plugin_is_compared(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = ["bench", "mine/tiny", "--plugin", "mine.py", "--device", "cpu", "--arms", "plain,augment", "--rounds", "1"]
    words += ["--batches", "1", "--batch-size", "4", "--workers", "0", "-o", "record.json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-m", "repro", *words], cwd=tmp_path, env=environment, check=True)
    record = json.loads((tmp_path / "record.json").read_text())
    assert set(record["models"]["mine/tiny"]["arms"]) == {"plain", "augment"}


def test_the_setting_crosses_to_another_process() -> None:
    setting = Setting("format", Run(cell=cell_of("squeezenet", options()), seed=0), "cpu", 1, 2, 64)
    assert Setting.from_json(setting.to_json()) == setting


def test_the_plain_loop_learns() -> None:
    cell = cell_of("shufflenetv2_x0_5", options(batch_size=16))
    torch.manual_seed(0)
    loop = PlainLoop(cell, random_dataset(cell.dataset, 16), torch.device("cpu"), workers=0)
    losses = [loop.epoch() for _ in range(4)]
    assert losses[-1] < losses[0]


# Stands for the process of an arm; Ctrl-C is pressed in epoch number INTERRUPT.
ARM = """
import json, os, signal, sys, time
sys.stdin.readline()
first = {"weights": "w", "in_force": {}, "start_seconds": 1.0, "first_epoch_seconds": 2.0}
print(json.dumps(first), flush=True)
for number, line in enumerate(sys.stdin, 1):
    if str(number) == os.environ.get("INTERRUPT"):
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    timed = {"seconds": 1.0} if line == "epoch\\n" else {"feed_seconds": 0.1}
    print(json.dumps({**timed, "peak_memory_bytes": 1}), flush=True)
"""
BOUND = {"operations_per_second": 1.0, "bytes_per_second": 1.0}


def test_a_record_is_saved_after_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.bench.compare.WORKER", (sys.executable, "-c", ARM))
    monkeypatch.setattr("repro.bench.benchmark.measure_bound", lambda *given: BOUND)
    saved: list[dict[str, Any]] = []
    benchmark(["squeezenet"], options(), lambda text: None, lambda record: saved.append(deepcopy(record)))
    assert [record["finished"] for record in saved] == [False, False, False, True]
    results = [record["models"]["squeezenet"] for record in saved]
    assert [result["rounds"] for result in results] == [1, 2, 2, 2]
    assert [result["arms"]["format"]["feed_seconds"] for result in results] == [None, None, 0.1, 0.1]


def test_ctrl_c_leaves_the_record_of_the_rounds_done(tmp_path: Path) -> None:
    program = (
        "import signal, sys; from repro.bench import benchmark, compare; from repro.cli import run; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a job in the background ignores it
        f"compare.WORKER = (sys.executable, '-c', {ARM!r}); benchmark.measure_bound = lambda *given: {BOUND}; "
        "sys.exit(run(sys.argv[1:]))"
    )
    output = tmp_path / "record.json"
    words = ["bench", "squeezenet", "--device", "cpu", "--arms", "plain,format", "--output", str(output)]
    environment = {**os.environ, "INTERRUPT": "3"}
    done = subprocess.run([sys.executable, "-c", program, *words], env=environment, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 130
    assert b"Traceback" not in done.stderr
    record = json.loads(output.read_text())
    assert (record["finished"], record["models"]["squeezenet"]["rounds"]) == (False, 2)
    assert [file.name for file in tmp_path.iterdir()] == [output.name]


@pytest.mark.slow
def test_a_comparison_from_end_to_end() -> None:
    told: list[str] = []
    saved: list[str] = []
    chosen = options(arms=("plain", "resident", "format"))
    record = benchmark(["shufflenetv2_x0_5"], chosen, told.append, lambda record: saved.append(json.dumps(record)))
    assert json.loads(saved[-1]) == json.loads(json.dumps(record))
    arms = record["models"]["shufflenetv2_x0_5"]["arms"]
    assert list(arms) == ["plain", "resident", "format"]
    assert arms["plain"]["ratio"] == {"median": 1.0, "least": 1.0, "greatest": 1.0}
    assert all(len(arm["epoch_seconds"]) == 2 and arm["peak_memory_bytes"] > 0 for arm in arms.values())
    assert arms["format"]["in_force"]["memory_format"] == "channels_last"
    assert arms["format"]["feed_seconds"] > 0
    in_turn = [text.rsplit(" ", 1)[1] for text in told if text.startswith("round")]
    assert in_turn == ["plain", "resident", "format", "format", "resident", "plain"]


@pytest.mark.slow
def test_an_arm_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.bench.compare.WORKER", ("false",))
    with pytest.raises(RunFailure, match="the bound ended with exit code 1"):
        benchmark(["squeezenet"], options(), lambda text: None, lambda record: None)


def test_the_standard_loop_is_not_said_to_recompute() -> None:
    run = Run(cell=cell_of("densenet100_k12", options(recompute=True)), seed=0)
    recomputes = {arm: with_execution(run, arm, "fp32").cell.execution.recompute for arm in ARMS}
    assert recomputes == {arm: arm not in STANDARD_LOOP for arm in ARMS}
