from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from repro.progress import Progress
from repro.results import RunFolder
from repro.results.progress_file import Publisher, read_progress


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "demo" / "a" / "ce" / "seed-0")
    made.path.mkdir(parents=True)
    return made


def said(epoch: int) -> Progress:
    return Progress("demo/a/ce/seed-0", "training", epoch=epoch, epochs=9, step=1, steps=2, train_loss=0.5)


def test_what_a_run_says_is_in_its_folder_until_its_end(folder: RunFolder) -> None:
    with closing(Publisher(folder)) as live:
        live.hear(said(3))
        found = read_progress(folder)
        assert found is not None
        assert found.progress == said(3)
        assert found.place
    assert list(folder.path.iterdir()) == []


def test_it_is_replaced_at_most_every_two_seconds(folder: RunFolder) -> None:
    now = 100.0
    publisher = Publisher(folder, clock=lambda: now)
    publisher.hear(said(1))
    publisher.hear(said(2))
    assert (found := read_progress(folder)) is not None
    assert found.progress.epoch == 1
    now = 102.0
    publisher.hear(said(3))
    assert (found := read_progress(folder)) is not None
    assert found.progress.epoch == 3


def test_who_said_nothing_leaves_the_word_of_another(folder: RunFolder) -> None:
    Publisher(folder).hear(said(1))
    with closing(Publisher(folder)):
        pass
    assert read_progress(folder) is not None


GOOD: dict[str, Any] = {"run_id": "a", "phase": "training", "epoch": 1, "epochs": 2, "step": 0, "steps": 0}
UNKNOWN = ("train_loss", "train_top1_percent", "test_top1_percent", "images_per_second", "eta_seconds")
NONES: dict[str, Any] = dict.fromkeys((*UNKNOWN, "message", "trouble"))


@pytest.mark.parametrize(
    "changed",
    [{"epoch": "1"}, {"epoch": True}, {"phase": "sleeping"}, {"train_loss": "x"}, {"more": 1}, {"trouble": "none"}],
)
def test_a_file_of_other_fields_or_types_is_nobody_s_word(folder: RunFolder, changed: dict[str, Any]) -> None:
    folder.progress.write_text(json.dumps({"place": "here", "progress": {**GOOD, **NONES}}))
    assert read_progress(folder) is not None
    folder.progress.write_text(json.dumps({"place": "here", "progress": {**GOOD, **NONES, **changed}}))
    assert read_progress(folder) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"place": 1, "progress": {}}', b"[" * 30_000])
def test_a_damaged_file_is_nobody_s_word(folder: RunFolder, content: bytes) -> None:
    folder.progress.write_bytes(content)
    assert read_progress(folder) is None


@pytest.mark.parametrize("place", ["node\x1b[2J", "node\nrun completed", "n" * 201])
def test_a_place_that_no_publisher_writes_is_not_shown(folder: RunFolder, place: str) -> None:
    Publisher(folder).hear(said(1))
    fields = json.loads(folder.progress.read_text())
    assert read_progress(folder) is not None
    folder.progress.write_text(json.dumps({**fields, "place": place}))
    assert read_progress(folder) is None
