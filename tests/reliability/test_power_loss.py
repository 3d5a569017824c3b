"""After a power cut at any moment of a run's life, the last acknowledged state is there: in every state of the disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import commits
import pytest
from commits import RUN, a_record, commit, conclude, folder_in, found_whole, newest
from disk import Disk, Event, installed
from power import Power, lay_out

from repro.errors import DataError
from repro.results import durable, store, write_failure, write_record, write_weights
from repro.results.ownership import own
from repro.results.weights_file import KeptWeights

Prove = Callable[[str], None]
LOOKED_AT = ("checkpoint.pt", "checkpoint.previous.pt", "weights.safetensors", "run.json")
ATTEMPTS = ((1, 2, 3), (4,), (5, 6))
LAST = 6
RECORD = LAST + 1  # the record counts as one more state


@dataclass
class Verdict:
    """How many states of the disk were looked at, and how many had lost what was acknowledged before."""

    states: int = 0
    lost: int = 0


def life_of_a_run(disk: Disk, results: Path, acknowledge: Callable[[int], None]) -> None:
    """From an empty disk to the record, in several attempts."""
    for numbers in ATTEMPTS:
        with own(folder_in(results)) as ownership:
            for number in numbers:
                commit(folder_in(results), number, ownership.write)
                acknowledge(number)
            if LAST in numbers:
                conclude(folder_in(results), ownership.write)
                acknowledge(RECORD)
            else:
                write_failure(folder_in(results), "killed")


def power_cuts(place: Path, *, until_lost: bool = False) -> Verdict:
    """Cut the power after every call of a run's life, and look at every state that the disk may then be in."""
    root = place / "machine"
    root.mkdir()
    disk = Disk(root)
    acknowledged: dict[int, int] = {0: 0}
    with installed(disk):
        life_of_a_run(disk, root / "new" / "results", lambda number: acknowledged.update({len(disk.events): number}))
    power, verdict = Power(str(root), lambda path: Path(path).name in LOOKED_AT), Verdict()
    known: dict[frozenset[tuple[str, bytes]], int] = {}
    for moment, event in enumerate([None, *disk.events]):
        if event is not None:
            power.happen(event)
        promised = max(number for since, number in acknowledged.items() if since <= moment)
        for tree in power.trees():
            key = frozenset(tree.items())
            if key not in known:
                known[key] = what_is_left(tree, str(root), place / "left")
            verdict.states += 1
            # An attempt under way may have come further than was acknowledged.
            verdict.lost += known[key] < promised
            if until_lost and verdict.lost:
                return verdict
    return verdict


def what_is_left(tree: dict[str, bytes], root: str, place: Path) -> int:
    """The state that a resumed run finds: the record with its weights, else its newest good checkpoint's number."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    lay_out(tree, root, place)
    folder = folder_in(place / "new" / "results")
    try:
        if found_whole(folder) is not None:
            return RECORD
    except DataError:  # damaged, or without its weights: said, and in the way until somebody looks at it
        return -1
    return newest(folder) if folder.path.exists() else 0


def test_the_last_acknowledged_state_survives_in_every_state_of_the_disk(tmp_path: Path, proved: Prove) -> None:
    verdict = power_cuts(tmp_path)
    proved(f"power loss: {verdict.states} states of the disk, {verdict.lost} with an acknowledged state lost")
    assert verdict.states > 200
    assert verdict.lost == 0


def test_it_survives_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    verdict = power_cuts(tmp_path)
    assert verdict.states > 200
    assert verdict.lost == 0


def without_file_sync(patch: pytest.MonkeyPatch) -> None:
    def write(path: Path, data: bytes, *, sync: bool) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, data)
        os.close(descriptor)

    patch.setattr(durable, "create_file", write)


def without_folder_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durable, "sync_folder", lambda folder: None)


def without_the_sync_of_new_folders(patch: pytest.MonkeyPatch) -> None:
    def make(folder: Path, *, below: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    for module in ("repro.results.store", "repro.results.ownership"):
        patch.setattr(f"{module}.make_folder", make)


def without_rename(patch: pytest.MonkeyPatch) -> None:
    def write(path: Path, data: bytes, **options: object) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)
        durable.sync_folder(path.parent)

    patch.setattr("repro.results.ownership.write_durably", write)


def with_the_checkpoint_removed_before_the_record(patch: pytest.MonkeyPatch) -> None:
    real = write_record

    def write(folder: store.RunFolder, record: object, writer: durable.Writer) -> None:
        folder.checkpoint.unlink()
        folder.previous_checkpoint.unlink()
        real(folder, record, writer)  # type: ignore[arg-type]

    patch.setattr(commits, "write_record", write)


def with_the_record_before_its_weights(patch: pytest.MonkeyPatch) -> None:
    def the_other_way(folder: store.RunFolder, writer: durable.Writer) -> None:
        kept = KeptWeights.of(b"final weights")
        write_record(folder, a_record().model_copy(update={"weights": kept}), writer)
        write_weights(folder, b"final weights", writer)

    patch.setitem(globals(), "conclude", the_other_way)


@pytest.mark.parametrize(
    "variant",
    [
        without_file_sync,
        without_folder_sync,
        without_the_sync_of_new_folders,
        without_rename,
        with_the_checkpoint_removed_before_the_record,
        with_the_record_before_its_weights,
    ],
)
def test_a_variant_that_is_less_careful_is_caught(
    variant: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proved: Prove
) -> None:
    variant(monkeypatch)
    verdict = power_cuts(tmp_path, until_lost=True)
    proved(f"power loss, {variant.__name__.replace('_', ' ')}: caught in the {verdict.states}th state")
    assert verdict.lost > 0


def test_the_model_itself_forgets_what_was_not_synced() -> None:
    power = Power("/")
    for event in (Event("create", ("/a",), 1), Event("write", (), 1, b"xy")):
        power.happen(event)
    found = {tuple(sorted(tree.items())) for tree in power.trees()}
    assert found == {(), (("/a", b""),), (("/a", b"x"),), (("/a", b"\0\0"),), (("/a", b"xy"),)}
    power.happen(Event("fsync", (), 1))
    assert {tuple(tree) for tree in power.trees()} == {(), ("/a",)}
    power.happen(Event("open folder", ("/",), 2))
    power.happen(Event("fsync", (), 2))
    power.happen(Event("replace", ("/a", "/b")))
    assert [dict(tree) for tree in power.trees()] == [{"/a": b"xy"}, {"/b": b"xy"}]
    assert RUN.id
