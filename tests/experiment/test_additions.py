"""A network, a loss and a data set from a file of a user's go through every command; nothing else is touched."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from repro import cli
from repro.data.prepare import open_decoded
from repro.errors import ConfigError, DataError
from repro.experiment.catalog import DATASETS, LOSSES, NETWORKS, DatasetFacts, Loss, Network, imported, register
from repro.results import load_records

HERE = Path(__file__).parent
TABLE = """\
table: added
label: Added
title: A network, a loss and a data set of a user's own
kind: study
seeds: 1
dataset: {name: stripes}
recipe: {epochs: 2, batch_size: 16, learning_rate: 0.1, augmentation: {crop_padding_pixels: 0}}
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: focal, title: Focal loss, loss: focal}
rows:
  - {id: tiny, title: Tiny network, model: tiny_cnn}
"""


@pytest.fixture
def additions(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The file of additions, its entries registered for one test."""
    monkeypatch.syspath_prepend(str(HERE))
    module = importlib.import_module("additions")
    for entry in (module.NETWORK, module.LOSS, module.DATASET):
        register(entry)
    yield module
    del NETWORKS["tiny_cnn"], LOSSES["focal"], DATASETS["stripes"]


@pytest.fixture
def table(additions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of the additions, beside an empty results folder and the archive of the data set."""
    file = tmp_path / "added.yaml"
    file.write_text(TABLE)
    additions.write_archive(tmp_path / "data")
    monkeypatch.setenv("BIASREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BIASREPRO_RESULTS", str(tmp_path / "results"))
    return file


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed, and returns what it printed."""

    def run(*arguments: object) -> str:
        code = cli.run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    return run


def test_they_are_trained_and_shown_by_every_command(table: Path, say: Callable[..., str], tmp_path: Path) -> None:
    for column in ("ce", "focal"):
        say("train", f"{table}/tiny/{column}", "--device", "cpu", "--threads", 1)
    records = {found.record.column: found.record for found in load_records(tmp_path / "results") if found.record}
    assert set(records) == {"ce", "focal"}
    assert records["focal"].status == "completed"
    assert records["focal"].parameters == 3 * 8 * 9 + 8 + 8 * 3 + 3
    assert records["focal"].epochs[-1].weight_mean == 1.0
    assert records["focal"].epochs[0].train_loss < records["ce"].epochs[0].train_loss
    assert records["focal"].configuration["weighting"] is None

    assert "stripes" in say("data", "info")
    assert "Stripes" in say("data", "info", "stripes")
    assert "added/tiny/focal" in say("sweep", table, "--dry-run", "--seeds", 2, "--no-measure")
    assert "0 to train, 2 finished" in say("sweep", table, "--dry-run")
    assert say("status", table).count("1 chance level") == 2  # after two epochs
    shown = json.loads(say("table", table, "--format", "json"))
    assert "Focal loss" in json.dumps(shown)
    for figure in ("curves", "deltas", "parameters", "weights"):
        assert say("figure", figure, table, "-o", tmp_path / f"{figure}.svg").startswith("Added.")
    say("report", table, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Focal loss" in page
    assert "2 of 2 planned runs recorded" in page
    say("export", table, "-o", tmp_path / "runs.csv")
    assert "stripes" in (tmp_path / "runs.csv").read_text()


def test_a_loss_that_takes_the_mean_is_one_message(
    table: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(LOSSES, "focal", Loss("focal", "additions:MeanLoss", {"gamma": 2.0}))
    assert cli.run(["train", f"{table}/tiny/focal", "--device", "cpu", "--threads", "1"]) == 2
    assert capfd.readouterr().err.splitlines()[-2:] == [
        "error: the loss MeanLoss returned () for 16 samples",
        "  It must return one loss per sample, shape (16,), or a pair of losses and weights. "
        "Do not take the mean: training does.",
    ]


@pytest.mark.slow
def test_a_sweep_trains_them(
    table: Path, say: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = (sys.executable, str(HERE / "additions.py"))
    monkeypatch.setattr("repro.sweep.local.executor.WORKER_COMMAND", worker)
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[1]))
    say("sweep", table, "--seeds", 1, "--device", "cpu", "--progress", "plain")
    found = load_records(tmp_path / "results")
    assert [each.record.status for each in found if each.record] == ["completed", "completed"]


@pytest.mark.usefixtures("additions")
def test_a_misspelt_name_finds_an_added_one(refusal: Callable[..., str]) -> None:
    assert "unknown network 'tiny_cmm'. Did you mean 'tiny_cnn'?" in refusal(TABLE.replace("tiny_cnn", "tiny_cmm"))
    assert "unknown loss 'fokal'. Did you mean 'focal'?" in refusal(TABLE.replace("loss: focal", "loss: fokal"))
    assert "unknown data set 'stripe'. Did you mean 'stripes'?" in refusal(
        TABLE.replace("name: stripes", "name: stripe")
    )


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ConfigError, match="the name 'resnet18' is taken"):
        register(Network("resnet18", "additions:TinyNetwork"))
    register(NETWORKS["resnet18"])


def test_a_data_set_without_a_decoder_is_an_error_that_names_it(tmp_path: Path) -> None:
    facts = DatasetFacts("undecoded", "Undecoded", 2, 8, 4, 2, archives=DATASETS["tiny_imagenet"].archives)
    (tmp_path / "tiny-imagenet-200").mkdir()
    with pytest.raises(DataError, match="the data set 'undecoded' has no decoder"):
        open_decoded(facts, tmp_path)


@pytest.mark.parametrize("path", ["no_such_module:f", "repro.models.resnet:resnet19", "resnet18"])
def test_code_that_cannot_be_imported_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot import '{path}'"):
        imported(path)


def test_every_entry_names_code_that_is_there() -> None:
    for entry in (*NETWORKS.values(), *LOSSES.values()):
        assert callable(imported(entry.builder))
    for facts in DATASETS.values():
        assert callable(imported(facts.decoder))
