"""Faults stay where they are: each is injected into a real run or sweep, and must do what is promised, no more.

``FAULTS`` is the table: what goes wrong, what is promised then, and the function that injects it and looks.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from commits import a_record
from killing import EXPERIMENT, without_times

import repro.cli
from repro.engine import checkpoint, learner, provenance, step
from repro.engine import training as train
from repro.errors import ConfigError, Interrupted
from repro.experiment.config import load_table
from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results import RunFolder, durable, read_record, write_record
from repro.results import ownership as ownership_module
from repro.results.checkpoint_file import Header, seal
from repro.results.ownership import OwnedElsewhere, own

SHORT = ("recipe.epochs=3", "recipe.batch_size=97", "recipe.decay_epochs=[1]", "recipe.warmup_epochs=0")


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[Progress]:
        return [Progress.from_line(line) for line in self.out.splitlines() if line.startswith("{")]


class Stage:
    """A small real run in a folder of its own, and the means to disturb it."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], whole: bytes
    ) -> None:
        self.results = folder / "results"
        self.patch = patch
        self.whole = whole
        self._capfd = capfd
        self.experiment = folder / "tiny.yaml"
        self.experiment.write_text(EXPERIMENT)
        self.run = self.run_with()
        self.files = RunFolder.of(self.results, self.run)

    def run_with(self, *settings: str, seed: int = 0) -> Run:
        """The run, with settings that take no part in its name."""
        named = load_table(self.experiment, SHORT)
        other = load_table(self.experiment, (*SHORT, *settings))
        cell = other.cell(other.rows[0], other.columns[1])
        return Run(cell=cell.model_copy(update={"table": named.id}), seed=seed)

    def train(self, run: Run | None = None, *, stop_after: int | None = None, **options: Any) -> Any:
        """Train in this process, stopping at the so many-th question."""
        asked = itertools.count(1)
        stop = (lambda: False) if stop_after is None else (lambda: next(asked) >= stop_after)
        return train.train_run(
            run or self.run, results=self.results, data_root=self.results, device="cpu", threads=1,
            should_stop=stop, **options,
        )  # fmt: skip

    def begin(self) -> int:
        """Interrupt the run twice, so that there are two checkpoints; returns the commits so far."""
        for _ in range(2):
            with pytest.raises(Interrupted):
                self.train(stop_after=2)
        return checkpoint.load(self.files, self.run.id).commit

    def command(self, *more: str) -> Said:
        """``biasrepro train`` for this run, as a worker says it."""
        self._capfd.readouterr()
        settings = [word for setting in SHORT for word in ("--set", setting)]
        shared = ["--device", "cpu", "--threads", "1", "--results", str(self.results), "--progress", "json"]
        code = repro.cli.run(["train", f"{self.experiment}/shufflenetv2/bias", *settings, *shared, *more])
        out, err = self._capfd.readouterr()
        assert "Traceback" not in err, err
        return Said(code, out, err)

    def table(self) -> str:
        """The table of these runs, as Markdown."""
        self._capfd.readouterr()
        settings = [word for setting in SHORT for word in ("--set", setting)]
        shared = ["--format", "markdown", "--results", str(self.results)]
        assert repro.cli.run(["table", str(self.experiment), *settings, *shared]) == 0
        return self._capfd.readouterr().out

    def ends_as_if_nothing_had_happened(self) -> None:
        assert without_times(self.train()) == self.whole

    def snapshot(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.files.path.iterdir() if path.is_file()}

    def failing_step(self, error: Exception, at: int = 3) -> None:
        """The ``at``-th step of training raises ``error``, once."""
        real, steps = learner.Learner.train_on_batch, itertools.count(1)

        def take(stepper: learner.Learner, step: int) -> int:
            if next(steps) == at:
                raise error
            return real(stepper, step)

        self.patch.setattr(learner.Learner, "train_on_batch", take)

    def undo(self) -> None:
        self.patch.undo()


Prove = Callable[[Stage], None]
FAULTS: dict[str, tuple[str, Prove]] = {}


def fault(what: str, promise: str) -> Callable[[Prove], Prove]:
    def note(prove: Prove) -> Prove:
        assert what not in FAULTS
        FAULTS[what] = (promise, prove)
        return prove

    return note


# --- the device -------------------------------------------------------------------------------------------------------


def fails_on_the_gpu(stage: Stage, error: Exception, trouble: str, *words: str) -> None:
    """The run fails with a plain message for people and a word for programs, and resumes once the fault is gone.

    Every batch has the size that the experiment says, before and after; the epoch's last is what is left.
    """
    sizes: list[int] = []
    real = step.train_step

    def noting(*arguments: Any, targets: torch.Tensor, **options: Any) -> None:
        sizes.append(len(targets))
        real(*arguments, targets=targets, **options)

    stage.patch.setattr(learner, "train_step", noting)
    stage.failing_step(error)
    said = stage.command()
    assert said.code == 1
    assert said.messages[-1].phase == "failed"
    assert said.messages[-1].trouble == trouble
    for word in words:
        assert word in (said.messages[-1].message or "")
        assert word in said.err
    stage.undo()
    stage.patch.setattr(learner, "train_step", noting)
    stage.ends_as_if_nothing_had_happened()
    assert read_record(stage.files.record).configuration["recipe"]["batch_size"] == 97
    of_an_epoch = sizes[-3:]
    assert of_an_epoch[:2] == [97, 97]
    assert 0 < of_an_epoch[2] < 97
    assert sizes == [97, 97, *3 * of_an_epoch]  # the third step failed before it was taken


@fault("CUDA out of memory", "the run fails with advice; the batch size stays; it can resume later")
def _(stage: Stage) -> None:
    fails_on_the_gpu(
        stage, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory",
        "the GPU's memory ran out", "--jobs-per-gpu", "recompute", "The batch size is part of the experiment",
    )  # fmt: skip


@fault("CUDA out of memory, as older kernels say it", "the same")
def _(stage: Stage) -> None:
    fails_on_the_gpu(stage, RuntimeError("CUDA out of memory"), "out_of_memory", "the GPU's memory ran out")


@fault("a lost GPU", "the run fails as the GPU's fault, which the sweep tries again")
def _(stage: Stage) -> None:
    error = torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with ...")
    fails_on_the_gpu(stage, error, "device_lost", "the GPU failed: CUDA error: unspecified launch failure")


@fault("an error inside cuDNN", "the same")
def _(stage: Stage) -> None:
    error = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
    fails_on_the_gpu(stage, error, "device_lost", "the GPU failed: cuDNN error")


@fault("a loss that is not finite", "a record that says diverged and where; exit 1; never tried again")
def _(stage: Stage) -> None:
    real = learner.Learner.train_on_batch

    def poison(stepper: learner.Learner, step: int) -> int:
        if stepper.state.epoch == 2:
            with torch.no_grad():
                next(iter(stepper.state.model.parameters())).fill_(float("nan"))
        return real(stepper, step)

    stage.patch.setattr(learner.Learner, "train_on_batch", poison)
    said = stage.command()
    assert said.code == 1
    assert said.messages[-1].phase == "diverged"
    assert "not finite at epoch 2" in (said.messages[-1].message or "")
    stage.undo()
    assert stage.train().status == "diverged"


# --- the disk ---------------------------------------------------------------------------------------------------------


def fails_to_write(stage: Stage, number: int, code: int, *words: str, at_record: bool = False) -> None:
    """A commit fails with ``number``: one plain message, the state before is whole, and the run can resume later."""
    commits = stage.begin()
    real = os.write
    sizes = itertools.count()

    def write(descriptor: int, data: Any) -> int:
        if (len(data) < 100_000) == at_record and len(data) > 2_000:
            if next(sizes) == 0:
                return real(descriptor, data[: len(data) // 2])
            raise OSError(number, os.strerror(number))
        return real(descriptor, data)

    stage.patch.setattr(os, "write", write)
    said = stage.command()
    assert said.code == code
    for word in words:
        assert word in said.err, said.err
    stage.undo()
    assert not list(stage.files.path.glob(".*.part"))
    loaded = checkpoint.load(stage.files, stage.run.id)
    assert loaded.commit >= commits
    assert not loaded.problems
    stage.ends_as_if_nothing_had_happened()


@fault("a disk that fills up in the middle of a checkpoint", "the last state is there; the message says what to free")
def _(stage: Stage) -> None:
    fails_to_write(
        stage,
        errno.ENOSPC,
        1,
        "the disk is full: the checkpoint at epoch",
        "it needs about 2.8 MB",
        "free on the disk",
        "biasrepro verify",
    )


@fault("a quota that is used up in the middle of a checkpoint", "the same, and it is called a quota")
def _(stage: Stage) -> None:
    fails_to_write(stage, errno.EDQUOT, 1, "the disk quota is exceeded: the checkpoint at epoch", "biasrepro verify")


@fault("a disk that fills up in the middle of the record", "the last checkpoint is there, and the record comes later")
def _(stage: Stage) -> None:
    fails_to_write(stage, errno.ENOSPC, 1, "the disk is full: the record could not be written", at_record=True)


@fault("a disk that fails", "the run fails, and the disk is named as the reason")
def _(stage: Stage) -> None:
    fails_to_write(stage, errno.EIO, 1, "could not be written: Input/output error", "Check the disk")


@fault("a results folder that turns read-only", "the run fails, and resumes once it can be written again")
def _(stage: Stage) -> None:
    fails_to_write(stage, errno.EROFS, 1, "could not be written: Read-only file system")


@fault("too little space to begin", "nothing is begun; exit 2 with what is needed and what is free")
def _(stage: Stage) -> None:
    real = os.statvfs

    def nearly_full(path: Any) -> Any:
        found = list(real(path))
        found[4] = 100  # blocks that this user may take
        return os.statvfs_result(found)

    stage.patch.setattr(os, "statvfs", nearly_full)
    said = stage.command()
    assert said.code == 2
    assert "not enough disk space for this run: its checkpoints need" in said.err
    assert not list(stage.files.path.glob("checkpoint*"))
    stage.undo()
    stage.ends_as_if_nothing_had_happened()


@fault("results that this user may not write", "exit 2 with the folder and the way out")
def _(stage: Stage) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    stage.patch.setattr(os, "mkdir", refuse)
    said = stage.command()
    assert said.code == 2
    assert "cannot be written: Permission denied" in said.err
    assert "--results" in said.err


@fault("no memory left to serialize a state", "the run fails; the state before is whole")
def _(stage: Stage) -> None:
    commits = stage.begin()

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", refuse)
        with pytest.raises(MemoryError):
            stage.train()
    assert checkpoint.load(stage.files, stage.run.id).commit == commits
    stage.ends_as_if_nothing_had_happened()


@fault("an exception in the middle of a commit", "the state before is whole and nothing half written stays")
def _(stage: Stage) -> None:
    commits = stage.begin()

    real, calls = durable.create_file, itertools.count()

    def interrupt(path: Path, data: bytes, *, sync: bool) -> None:
        if next(calls) == 0:
            path.write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        real(path, data, sync=sync)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "create_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.train()
    assert checkpoint.load(stage.files, stage.run.id).commit == commits
    assert not list(stage.files.path.glob(".*.part"))
    stage.ends_as_if_nothing_had_happened()


@fault("files that killed writers left half written", "they go when the run is taken up")
def _(stage: Stage) -> None:
    stage.begin()
    for name in (".checkpoint.pt.0123456789abcdef.part", ".run.json.0123456789abcdef.part"):
        (stage.files.path / name).write_bytes(b"half")
    stage.ends_as_if_nothing_had_happened()
    assert [path.name for path in stage.files.path.iterdir()] == ["run.json"]


# --- damage and files from elsewhere ----------------------------------------------------------------------------------


def harm(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 4
    path.write_bytes(raw)


@fault("a damaged checkpoint", "it is quarantined and reported, and the previous one is used")
def _(stage: Stage) -> None:
    stage.begin()
    harm(stage.files.checkpoint)
    said = stage.command()
    assert said.code == 0
    assert any("quarantined as" in (message.message or "") for message in said.messages)
    assert any("resumed at epoch 2, step 0" in (message.message or "") for message in said.messages)
    assert (stage.files.path / "checkpoint.pt.damaged").exists()
    assert without_times(read_record(stage.files.record)) == stage.whole


@fault("two damaged checkpoints", "both are quarantined and reported, and the run starts over")
def _(stage: Stage) -> None:
    stage.begin()
    harm(stage.files.checkpoint)
    harm(stage.files.previous_checkpoint)
    said = stage.command()
    assert said.code == 0
    assert sum("quarantined as" in (message.message or "") for message in said.messages) == 2
    assert without_times(read_record(stage.files.record)) == stage.whole


@fault("the checkpoint of another run", "it is quarantined and reported, and the run's own previous one is used")
def _(stage: Stage) -> None:
    stage.begin()
    other = stage.run_with(seed=7)
    with pytest.raises(Interrupted):
        stage.train(other, stop_after=2)
    shutil.copy(RunFolder.of(stage.results, other).checkpoint, stage.files.checkpoint)
    said = stage.command()
    assert any("the checkpoint of another run" in (message.message or "") for message in said.messages)
    assert without_times(read_record(stage.files.record)) == stage.whole


@fault("an older checkpoint of the same run in the newer one's place", "the run takes longer and ends the same")
def _(stage: Stage) -> None:
    stage.begin()
    shutil.copy(stage.files.previous_checkpoint, stage.files.checkpoint)
    stage.ends_as_if_nothing_had_happened()


@fault("a whole checkpoint without what a state holds", "exit 2: it does not fit; nothing is overwritten")
def _(stage: Stage) -> None:
    stage.begin()
    buffer = io.BytesIO()
    torch.save({"epoch": 1, "configuration": stage.run.configuration(), "fingerprint": {}}, buffer)
    for path in (stage.files.checkpoint, stage.files.previous_checkpoint):
        path.write_bytes(seal(Header(stage.run.id, 9, 1, 0), buffer.getvalue()))
    before = stage.snapshot()
    said = stage.command("--allow-changed")
    assert said.code == 2
    assert "the checkpoint does not fit this run" in said.err
    assert {name: raw for name, raw in stage.snapshot().items() if "owner" not in name} == before_without_owner(before)


def before_without_owner(before: dict[str, bytes]) -> dict[str, bytes]:
    return {name: raw for name, raw in before.items() if "owner" not in name}


@fault("a damaged record", "exit 2: nothing is trained, nothing is overwritten")
def _(stage: Stage) -> None:
    stage.train()
    harm(stage.files.record)
    before = stage.snapshot()
    said = stage.command()
    assert said.code == 2
    assert "the seal is broken" in said.err
    assert stage.snapshot() == before


@fault("the record of another configuration", "exit 2: nothing is trained, nothing is overwritten")
def _(stage: Stage) -> None:
    stage.train(stage.run_with("recipe.momentum=0.5"))
    before = stage.snapshot()
    said = stage.command()
    assert said.code == 2
    assert "another configuration is recorded here" in said.err
    assert stage.snapshot() == before


# --- the owner --------------------------------------------------------------------------------------------------------


@fault("another process that trains the run", "exit 75 with its name; nothing is touched")
def _(stage: Stage) -> None:
    stage.begin()
    with own(stage.files):
        before = stage.snapshot()
        said = stage.command()
        assert said.code == 75
        assert f"in training by process {os.getpid()}" in said.err
        assert stage.snapshot() == before
    stage.ends_as_if_nothing_had_happened()


@fault("another process that finishes the run just before this one owns it", "its record is taken; nothing is trained")
def _(stage: Stage) -> None:
    real = own

    @contextmanager
    def late(files: RunFolder) -> Iterator[Any]:
        with real(files) as ownership:
            write_record(files, a_record(stage.run), ownership.write)
        with real(files) as ownership:
            yield ownership

    stage.patch.setattr(train, "own", late)
    assert stage.train() == a_record(stage.run)
    assert not list(stage.files.path.glob("checkpoint*"))


@fault("a successor, while this process slept", "exit 75 at the next commit; the successor's files stay as they are")
def _(stage: Stage) -> None:
    taken: list[dict[str, bytes]] = []

    def lose(progress: Progress) -> None:
        if progress.phase == "epoch_done" and not taken:
            [path] = stage.files.path.glob("owner-*.json")
            path.rename(path.with_name("owner-9.json"))
            path.with_name("owner-9.json").write_bytes(path.with_name("owner-9.json").read_bytes().replace(b"0", b"1"))
            taken.append(stage.snapshot())

    with pytest.raises(OwnedElsewhere, match="taken over"):
        stage.train(listen=lose)
    assert stage.snapshot() == taken[0]


@fault("heartbeats that cannot be written for a while", "the run continues")
def _(stage: Stage) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    stage.patch.setattr(ownership_module, "HEARTBEAT_SECONDS", 0.01)
    stage.patch.setattr(os, "utime", refuse)
    stage.ends_as_if_nothing_had_happened()


@fault("a clock that is set back a year while the run trains", "the run continues, and ends the same")
def _(stage: Stage) -> None:
    stage.patch.setattr(time, "time", lambda: 1.7e9)
    stage.begin()
    stage.patch.setattr(time, "time", lambda: 1.7e9 - 3e7)
    stage.ends_as_if_nothing_had_happened()


# --- what changed between two halves ----------------------------------------------------------------------------------


def changed(stage: Stage, line: str) -> None:
    """The change is refused with its line, and marks the record where it is accepted."""
    before = stage.snapshot()
    said = stage.command()
    assert said.code == 2
    assert line in said.err, said.err
    assert "--allow-changed" in said.err
    assert before_without_owner(stage.snapshot()) == before_without_owner(before)
    accepted = stage.command("--allow-changed")
    assert accepted.code == 0, accepted.err
    marks = read_record(stage.files.record).provenance.changes_accepted
    assert any(line in mark for mark in marks)
    footnotes = [told for told in stage.table().splitlines() if "Resumed with changes that were accepted" in told]
    assert any(line in told for told in footnotes), footnotes


@fault("code that changed between two halves", "refused with a line; accepted on demand, and the record says so")
def _(stage: Stage) -> None:
    stage.begin()
    stage.patch.setattr(provenance, "code_hash", lambda *_: "another")
    changed(stage, "is another")


@fault("another torch between two halves", "the same")
def _(stage: Stage) -> None:
    stage.begin()
    stage.patch.setattr(torch, "__version__", "9.9")
    changed(stage, "is 9.9")


@fault("another processor between two halves", "the same")
def _(stage: Stage) -> None:
    stage.begin()
    stage.patch.setattr(provenance, "device_name", lambda device: "another processor")
    changed(stage, "is another processor")


@fault("another number of threads between two halves", "the same")
def _(stage: Stage) -> None:
    with pytest.raises(Interrupted):
        train.train_run(
            stage.run, results=stage.results, data_root=stage.results, device="cpu", threads=2, should_stop=lambda: True
        )
    changed(stage, "threads: was 2, is 1")


@fault("another learning rate between two halves", "the same, key by key")
def _(stage: Stage) -> None:
    with pytest.raises(Interrupted):
        stage.train(stage.run_with("recipe.learning_rate=0.02", "recipe.nesterov=true"), stop_after=2)
    before = stage.snapshot()
    said = stage.command()
    assert said.code == 2
    assert "recipe.learning_rate: was 0.02, is 0.01" in said.err
    assert "recipe.nesterov: was true, is false" in said.err
    assert before_without_owner(stage.snapshot()) == before_without_owner(before)
    changed(stage, "recipe.learning_rate: was 0.02, is 0.01")


@fault("another batch size between two halves", "refused, whatever is accepted")
def _(stage: Stage) -> None:
    with pytest.raises(Interrupted):
        stage.train(stage.run_with("recipe.batch_size=72"), stop_after=2)
    for flag in ((), ("--allow-changed",)):
        said = stage.command(*flag)
        assert said.code == 2
        assert "recipe.batch_size: was 72, is 97" in said.err
        assert "belongs to another run" in said.err


@fault("fewer epochs than were trained already", "refused, whatever is accepted")
def _(stage: Stage) -> None:
    with pytest.raises(Interrupted):
        stage.train(stage.run_with("recipe.epochs=9"), stop_after=11)
    with pytest.raises(ConfigError, match=r"recipe.epochs: 3, but the checkpoint is at epoch [4-9]"):
        stage.train(allow_changed=True)


# --- the surroundings -------------------------------------------------------------------------------------------------


@fault("a data set that is gone at the second half", "exit 2: what is missing and the command that gets it")
def _(stage: Stage) -> None:
    stage.begin()
    said_before = stage.snapshot()
    named = stage.experiment.read_text().replace("name: digits, classes: 2", "name: cifar100, classes: 2")
    stage.experiment.write_text(named)
    said = stage.command("--root", str(stage.results / "data"))
    assert said.code == 2
    assert "biasrepro data fetch cifar100" in said.err
    assert before_without_owner(stage.snapshot()) == before_without_owner(said_before)


@fault("a reader of the messages that has exited", "the run continues to its end")
def _(stage: Stage) -> None:
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        if b'"phase"' in bytes(data[:200]):
            raise BrokenPipeError
        return real(descriptor, data)

    stage.patch.setattr(os, "write", write)
    said = stage.command()
    assert said.code == 0
    stage.undo()
    assert without_times(read_record(stage.files.record)) == stage.whole


def test_there_are_as_many_faults_as_are_said(proved: Callable[[str], None]) -> None:
    assert len(FAULTS) >= 25
    proved(f"faults injected into a run: {len(FAULTS)}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """The record of the run that nothing disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(tmp_path_factory.mktemp("whole"), patch, None, b"")  # type: ignore[arg-type]
        yield without_times(stage.train())


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], whole: bytes) -> Stage:
    monkeypatch.setattr(train, "EPOCH_CHECKPOINT_SECONDS", 0.0)  # these epochs take a second
    return Stage(tmp_path, monkeypatch, capfd, whole)


@pytest.mark.slow
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_in_a_run_does_what_is_promised(what: str, stage: Stage, proved: Callable[[str], None]) -> None:
    promise, prove = FAULTS[what]
    prove(stage)
    proved(f"fault: {what}: {promise}")
