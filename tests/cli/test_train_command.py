from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.engine.recording import Recording
from repro.errors import DataError, Interrupted
from repro.experiment.config import find_cell
from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results import RunFolder, RunRecord
from repro.results.checkpoint_file import Header, seal

Say = Callable[..., Any]


class FakeEngine(ModuleType):
    """Takes the place of ``repro.engine.training``: notes how it is called, speaks two epochs, and returns a record."""

    def __init__(self, make_record: Callable[..., RunRecord]) -> None:
        super().__init__("repro.engine.training")
        self.make_record = make_record
        self.called: dict[str, Any] = {}
        self.ends_in: Exception | None = None
        self.signals: list[int] = []
        self.status = "completed"

    def train_run(self, run: Run, **options: Any) -> RunRecord:
        self.called = {"run": run, **options}
        listen = options["listen"]
        listen(Progress(run.id, "starting", epochs=2, message="a fake processor"))
        for number in self.signals:
            os.kill(os.getpid(), number)
        if options["should_stop"]():
            raise Interrupted(f"{run.id}: checkpoint saved at epoch 1, step 7")
        if self.ends_in is not None:
            raise self.ends_in
        for epoch in (1, 2):
            listen(
                Progress(
                    run.id,
                    "epoch_done",
                    epoch=epoch,
                    epochs=2,
                    step=12,
                    steps=12,
                    train_loss=1 / epoch,
                    train_top1_percent=80.0,
                    test_top1_percent=90.0,
                    images_per_second=2140.4,
                    eta_seconds=12.0 / epoch,
                )
            )
        if self.status == "diverged":
            return self.make_record(run, status="diverged", reason="not finite at step 3", last_top1_percent=None)
        return self.make_record(run)


@pytest.fixture
def engine(fake_worker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(fake_worker.record_of)
    monkeypatch.setitem(sys.modules, "repro.engine.training", engine)
    return engine


@pytest.fixture
def messages(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[Progress]]:
    """The messages on standard output."""
    return lambda: [Progress.from_line(line) for line in capfd.readouterr().out.splitlines()]


def test_without_an_argument_the_demo_s_bias_cell_is_trained(say: Say, engine: FakeEngine, results: Path) -> None:
    said = say("train", "--results", results)
    assert said.code == 0
    assert engine.called["run"] == Run(cell=find_cell("demo/shufflenetv2/bias"), seed=0)
    lines = said.out.splitlines()
    run = "demo/shufflenetv2/bias/seed-0"
    assert lines == [
        f"{run}: a fake processor",
        f"{run}: epoch 1/2  loss 1.000  train 80.0 %  test 90.0 %  2,140 images/s  12 s left",
        f"{run}: epoch 2/2  loss 0.500  train 80.0 %  test 90.0 %  2,140 images/s  6 s left",
        f"{run}: 90.0 % top-1 after the last epoch (best 90.0 % at epoch 1, selected on the test set)",
        f"record  {results}/{run}/run.json",
        f"next    biasrepro sweep demo --results {results}",
        f"        biasrepro table demo --results {results}",
    ]


@pytest.mark.parametrize(
    ("target", "cell"),
    [
        ("table2/squeezenet/inverse_bias", "table2/squeezenet/inverse_bias"),
        ("table2", "table2/shufflenetv2/bias"),
        ("normalization", "normalization/shufflenetv2/bias"),
        ("table2+recipe.epochs=3/squeezenet/ce", "table2+recipe.epochs=3/squeezenet/ce"),
        ("table2+recipe.epochs=3", "table2+recipe.epochs=3/shufflenetv2/bias"),
    ],
)
def test_a_cell_or_a_table_is_trained(say: Say, engine: FakeEngine, results: Path, target: str, cell: str) -> None:
    assert say("train", target, "--results", results).code == 0
    assert engine.called["run"].cell.id == cell


def test_a_file_stands_for_its_first_row_under_the_bias_loss(
    say: Say, engine: FakeEngine, results: Path, own: Path
) -> None:
    for target in (own, f"{own}/squeezenet/bias"):
        said = say("train", target, "--results", results)
        assert engine.called["run"].cell.id == "mine/squeezenet/bias"
        assert f"biasrepro sweep {own} --results" in said.out


@pytest.mark.parametrize("target", ["table2/squeezenet/ce", "table2"])
def test_settings_go_into_the_run(say: Say, engine: FakeEngine, results: Path, target: str) -> None:
    settings = ["--set", "recipe.epochs=2", "--set", "recipe.decay_epochs=[1]"]
    assert say("train", target, *settings, "--results", results).code == 0
    run = engine.called["run"]
    assert (run.cell.recipe.epochs, run.cell.recipe.decay_epochs) == (2, (1,))
    assert run.cell.table == "table2+recipe.decay_epochs=[1]+recipe.epochs=2"


def test_deterministic_is_a_setting_like_any_other(say: Say, engine: FakeEngine, results: Path) -> None:
    assert say("train", "table2/squeezenet/ce", "--deterministic", "--results", results).code == 0
    run = engine.called["run"]
    assert run.cell.execution.deterministic
    assert run.cell.table == "table2+execution.deterministic=true"
    said = say("train", "table2", "--deterministic", "--set", "execution.deterministic=false", "--results", results)
    assert (said.code, "both --deterministic and --set" in said.err) == (2, True)


def test_options_reach_the_engine(say: Say, engine: FakeEngine, results: Path, tmp_path: Path) -> None:
    options = ["--seed", 7, "--device", "cuda:1", "--threads", 3, "--root", tmp_path, "--allow-changed"]
    say("train", *options, "--anonymous", "--keep-weights", "--results", results)
    called = engine.called
    assert called["run"].seed == 7
    assert (called["device"], called["threads"]) == ("cuda:1", 3)
    assert (called["allow_changed"], called["recording"]) == (True, Recording(anonymous=True, keep_weights=True))
    assert (called["results"], called["data_root"]) == (results, tmp_path)


def test_what_is_next_finds_the_data(say: Say, engine: FakeEngine, results: Path, tmp_path: Path) -> None:
    said = say("train", "--root", tmp_path, "--results", results)
    assert f"next    biasrepro sweep demo --results {results} --root {tmp_path}\n" in said.out
    assert f"        biasrepro table demo --results {results}\n" in said.out, "it opens no images"


def test_folders_come_from_the_environment(
    say: Say, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIASREPRO_RESULTS", str(tmp_path / "r"))
    monkeypatch.setenv("BIASREPRO_DATA", str(tmp_path / "d"))
    said = say("train")
    assert (engine.called["results"], engine.called["data_root"]) == (tmp_path / "r", tmp_path / "d")
    assert "next    biasrepro sweep demo\n" in said.out, "the environment says it already"


def test_programs_get_every_message_and_nothing_else(
    engine: FakeEngine, results: Path, messages: Callable[[], list[Progress]]
) -> None:
    from repro import cli

    assert cli.run(["train", "--progress", "json", "--results", str(results)]) == 0
    assert [message.phase for message in messages()] == ["starting", "epoch_done", "epoch_done"]


def test_programs_are_told_why_a_run_failed(
    engine: FakeEngine, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from repro import cli

    engine.ends_in = DataError("CIFAR-100 is not here", hint="Fetch it.")
    assert cli.run(["train", "--progress", "json", "--results", str(results)]) == 2
    out, err = capfd.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert (last["phase"], last["message"]) == ("failed", "CIFAR-100 is not here\n  Fetch it.")
    assert err == "error: CIFAR-100 is not here\n  Fetch it.\n"


def test_programs_are_told_the_kind_of_a_defect(
    engine: FakeEngine, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from repro import cli

    engine.ends_in = KeyError("pixels")
    assert cli.run(["train", "--progress", "json", "--results", str(results)]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out.splitlines()[-1])["message"] == "KeyError: 'pixels'"
    assert "Traceback" in err, "the log has nowhere else to get it from"


def test_a_person_is_told_once_why_a_run_failed(say: Say, engine: FakeEngine, results: Path) -> None:
    engine.ends_in = DataError("CIFAR-100 is not here", hint="Fetch it.")
    said = say("train", "--results", results)
    assert (said.out + said.err).count("CIFAR-100 is not here") == 1


def test_a_gpu_without_room_is_nobody_s_defect(say: Say, engine: FakeEngine, results: Path) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's is called."""

    engine.ends_in = OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB …")
    said = say("train", "--results", results)
    assert said.code == 1
    assert "the GPU's memory ran out" in said.err
    assert "--jobs-per-gpu" in said.err
    assert "Traceback" not in said.err


def test_a_diverged_run_is_exit_code_1_with_its_reason(say: Say, engine: FakeEngine, results: Path) -> None:
    engine.status = "diverged"
    said = say("train", "--results", results)
    assert said.code == 1
    assert "demo/shufflenetv2/bias/seed-0 diverged: not finite at step 3" in said.out


def test_a_run_trained_before_says_so(say: Say, engine: FakeEngine, results: Path, finish: Callable[..., None]) -> None:
    finish(Run(cell=find_cell("demo/shufflenetv2/bias"), seed=0))
    assert "was trained before, on 2026-01-01" in say("train", "--results", results).out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_resume(
    say: Say, engine: FakeEngine, results: Path, number: int, code: int
) -> None:
    engine.signals = [number]
    before = signal.getsignal(number)
    said = say("train", "demo", "--seed", 3, "--threads", 1, "--results", results)
    assert said.code == code
    assert "checkpoint saved at epoch 1, step 7" in said.err
    assert f"resume with  biasrepro train demo --seed 3 --threads 1 --results {results}\n" in said.err
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [
        ((), "training had not started"),
        (("checkpoint.pt",), "training had not resumed; its checkpoint is at epoch 3, step 12"),
        (("checkpoint.previous.pt",), "training had not resumed; its checkpoint is at epoch 3, step 12"),
    ],
)
def test_a_run_that_is_stopped_while_it_starts_says_from_where_it_resumes(
    say: Say,
    engine: FakeEngine,
    results: Path,
    checkpoints: tuple[str, ...],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = "demo/shufflenetv2/bias/seed-0"
    for name in checkpoints:
        (results / run_id).mkdir(parents=True)
        (results / run_id / name).write_bytes(seal(Header(run_id, 2, 3, 12), b"state"))
    monkeypatch.setattr("repro.interruption.StopRequests.asked", lambda self: True)
    monkeypatch.setattr("repro.interruption.StopRequests.exit_code", 130, raising=False)
    said = say("train", "demo", "--results", results)
    assert f"interrupted; {run_id}: {expected}\n" in said.err
    assert "resume with  biasrepro train demo" in said.err


@pytest.mark.parametrize("where", ["before the run", "in the run"])
@pytest.mark.parametrize("stopped", [True, False])
def test_where_a_signal_ends_the_decoding_too_it_is_the_interruption_that_is_reported(
    say: Say, engine: FakeEngine, results: Path, where: str, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object, **__: object) -> None:
        if stopped:
            os.kill(os.getpid(), signal.SIGTERM)
        raise DataError("a decoding process was killed")

    if where == "before the run":
        monkeypatch.setattr("repro.cli.train.prepare_images", decode)
    else:
        monkeypatch.setattr(engine, "train_run", decode)
    said = say("train", "demo", "--results", results)
    assert said.code == (143 if stopped else 2)
    assert ("error: a decoding process was killed" in said.err) is not stopped
    assert ("interrupted; demo/shufflenetv2/bias/seed-0: training had not started\n" in said.err) is stopped


def test_a_worker_whose_decoding_a_signal_ended_did_not_fail(
    engine: FakeEngine, messages: Callable[[], list[Progress]], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repro import cli

    def decode(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        raise DataError("a decoding process was killed")

    monkeypatch.setattr(engine, "train_run", decode)
    assert cli.run(["train", "--progress", "json", "--results", str(results)]) == 143
    assert messages() == []


def test_a_recorded_run_that_is_stopped_while_it_starts_says_that_it_is_recorded(
    say: Say, engine: FakeEngine, results: Path, finish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(Run(cell=find_cell("demo/shufflenetv2/bias"), seed=0))
    monkeypatch.setattr("repro.interruption.StopRequests.asked", lambda self: True)
    assert "seed-0: it has a record already" in say("train", "demo", "--results", results).err


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("epochs=2", "Did you mean 'recipe.epochs=2'?"),
        ("alpha=0.5", "Did you mean 'weighting.alpha=0.5'?"),
        ("recipe.epochs", "Write KEY=VALUE"),
        ("nothing=2", "Write KEY=VALUE"),
    ],
)
def test_a_setting_without_its_section_is_completed(say: Say, setting: str, hint: str) -> None:
    said = say("train", "demo", "--set", setting)
    assert (said.code, said.out) == (2, "")
    assert f"'{setting}' is not a setting\n  {hint}" in said.err


PROGRAM = """
import os, signal, sys, time, types
import repro.cli

class Engine(types.ModuleType):
    def train_run(self, run, *, should_stop, **options):
        print("training", flush=True)
        while not should_stop() or os.environ.get("DEAF"):
            time.sleep(0.01)
        raise repro.errors.Interrupted("checkpoint saved")

import repro.errors
sys.modules["repro.engine.training"] = Engine("repro.engine.training")
sys.exit(repro.cli.run(sys.argv[1:]))
"""


def start(results: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A real process that trains on and on, once it does so."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", "--results", str(results), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    return process


def test_a_second_interruption_leaves_at_once(results: Path) -> None:
    process = start(results, DEAF="1")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_the_end_of_standard_input_stops_a_run_that_is_told_so(results: Path) -> None:
    process = start(results, "--stop-at-eof")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "checkpoint saved" in err


def test_the_end_of_standard_input_is_nothing_to_other_runs(results: Path) -> None:
    process = start(results)
    assert process.stdin is not None
    process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.kill()
    process.wait()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()


@pytest.mark.slow
def test_the_real_engine_trains_stops_and_goes_on(results: Path) -> None:
    """The whole way of one small run, as a worker: a message that nobody reads any more, a stop, a resume, a record."""
    command = [sys.executable, "-m", "repro", "train", "demo", "--set", "recipe.epochs=2", "--threads", "1"]
    settings = ["--set", "recipe.decay_epochs=[1]", "--results", str(results), "--progress", "json", "--stop-at-eof"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [*command, *settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert first.stdout is not None
    assert first.stdin is not None
    while Progress.from_line(first.stdout.readline()).phase != "training":
        pass
    first.stdout.close()
    first.stdin.close()
    assert first.wait(120) == 143
    again = subprocess.run(
        [*command, *settings[:-1]], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    told = [Progress.from_line(line) for line in again.stdout.splitlines()]
    assert any(message.message and "resumed at epoch" in message.message for message in told)
    assert told[-1].phase == "completed"
    run = Run(cell=find_cell("demo+recipe.decay_epochs=[1]+recipe.epochs=2/shufflenetv2/bias"), seed=0)
    assert RunFolder.of(results, run).record.exists()


def test_a_last_batch_of_one_that_a_network_cannot_take_is_one_message(say: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "table: mine\nlabel: Mine\ntitle: One image is left over\nkind: study\ndataset: {name: digits}\n"
        "recipe: {epochs: 1, batch_size: 131, learning_rate: 0.1}\n"  # 1,442 images are 11 batches and one image
        "columns: [{id: ce, title: CE, loss: ce}]\n"
        "rows: [{id: net, title: Net, model: torchvision/mobilenet_v3_small}]\n"
    )
    said = say("train", tmp_path / "mine.yaml", "--results", tmp_path / "r", "--threads", 1, "--progress", "plain")
    assert said.code == 2
    assert "torchvision/mobilenet_v3_small takes no batch of one image" in said.err
    assert "Set recipe.drop_last to true" in said.err
