"""A node's copy of the decoded images: made once, whole or not at all, and never a reason for a run to fail."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro.data import load_dataset, node_copy
from repro.data.cache import write_cache
from repro.data.node_copy import open_on_node
from repro.data.prepare import cache_path, open_decoded
from repro.errors import DataError
from repro.experiment.catalog import DATASETS, DatasetFacts


@pytest.fixture
def facts(small_cifar: Any) -> DatasetFacts:
    return small_cifar.facts


@pytest.fixture
def root(small_cifar: Any, tmp_path: Path) -> Path:
    """A shared folder with decoded images, and no archive to make them from again."""
    path = cache_path(small_cifar.facts, tmp_path / "shared")
    path.parent.mkdir(parents=True)
    write_cache(path, "cifar100", small_cifar.images, "here")
    return tmp_path / "shared"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "node"


def copies(node: Path) -> list[Path]:
    return sorted((node / "cifar100").glob("decoded*"))


def everything(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (folder, *folder.rglob("*"))}


def test_the_copy_is_made_once_and_opened_in_place_of_the_shared_file(
    root: Path, node: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch, small_cifar: Any
) -> None:
    before = everything(root)
    first = open_on_node(facts, root, node)
    (copy,) = copies(node)
    made = copy.stat().st_ino
    monkeypatch.setattr(node_copy, "open_decoded", lambda *_: pytest.fail("the shared file was opened"))
    second = open_on_node(facts, root, node)
    assert copy.stat().st_ino == made
    assert np.array_equal(second.images.train_images, small_cifar.images.train_images)
    assert first.fingerprint == second.fingerprint == open_decoded(facts, root).fingerprint
    assert everything(root) == before


def test_training_gets_the_copy(root: Path, node: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "cifar100", facts)
    monkeypatch.setenv("SCRATCH", str(node))
    assert load_dataset("cifar100", root, node_data=Path("$SCRATCH")).source == "here"
    assert len(copies(node)) == 1


COPIER = """
import json, sys
from pathlib import Path
from repro.experiment.catalog import Archive, DatasetFacts
from repro.data import node_copy
fields = json.loads(sys.argv[1])
facts = DatasetFacts(**fields | {"archives": tuple(Archive(**one) for one in fields["archives"])})
copy = node_copy.shutil.copyfileobj
def slowly(source, target, length):
    print("copies", flush=True)
    copy(source, target, length) if sys.argv[4] == "whole" else target.write(source.read(1000))
    target.flush()
    sys.stdin.readline()
node_copy.shutil.copyfileobj = slowly
node_copy.open_on_node(facts, Path(sys.argv[2]), Path(sys.argv[3]))
print("opened", flush=True)
"""


def copier(facts: DatasetFacts, root: Path, node: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COPIER, json.dumps(asdict(facts)), str(root), str(node), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_jobs_of_a_node_copy_once(root: Path, node: Path, facts: DatasetFacts) -> None:
    with copier(facts, root, node, "whole") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "copies\n"
        with copier(facts, root, node, "whole") as second:
            time.sleep(1.0)  # time to do it wrong: the second has to wait for the first
            assert copies(node)[0].suffix == ".part"
            said, _ = first.communicate("go on\n", timeout=30)
            assert said == "opened\n"
            said, _ = second.communicate("go on\n", timeout=30)
            assert said == "opened\n"  # and nothing was copied
    assert [path.suffix for path in copies(node)] == [".bin"]


def test_what_a_killed_copier_leaves_is_not_taken_for_a_copy(root: Path, node: Path, facts: DatasetFacts) -> None:
    with copier(facts, root, node, "part") as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "copies\n"
        killed.send_signal(signal.SIGKILL)
    assert [path.suffix for path in copies(node)] == [".part"]
    opened = open_on_node(facts, root, node, say=lambda text: pytest.fail(text))
    assert opened.fingerprint == open_decoded(facts, root).fingerprint
    assert [path.suffix for path in copies(node)] == [".bin"]


def test_a_copy_that_was_damaged_since_is_made_again(root: Path, node: Path, facts: DatasetFacts) -> None:
    open_on_node(facts, root, node)
    (copy,) = copies(node)
    content = bytearray(copy.read_bytes())
    content[1000] ^= 1
    copy.write_bytes(content)
    open_on_node(facts, root, node, say=lambda text: pytest.fail(text))
    assert copy.read_bytes() == cache_path(facts, root).read_bytes()


@pytest.mark.timeout(30)
def test_a_copy_that_is_a_pipe_is_not_waited_for(root: Path, node: Path, facts: DatasetFacts) -> None:
    open_on_node(facts, root, node)
    (copy,) = copies(node)
    copy.unlink()
    os.mkfifo(copy)
    assert open_on_node(facts, root, node, say=lambda text: pytest.fail(text)).source == "here"
    assert copy.is_file()


def test_images_decoded_anew_are_copied_anew(root: Path, node: Path, facts: DatasetFacts, small_cifar: Any) -> None:
    open_on_node(facts, root, node)
    write_cache(cache_path(facts, root), "cifar100", small_cifar.images, "elsewhere")
    assert open_on_node(facts, root, node).source == "elsewhere"


def too_full(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    monkeypatch.setattr("repro.data.prepare.free_bytes", lambda folder: 100)


def filled_up_meanwhile(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    def fill(source: Any, target: Any, length: int) -> None:
        target.write(source.read(1000))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fill)


def a_file_in_the_way(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    node.touch()


def copied_wrong(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    monkeypatch.setattr(
        shutil, "copyfileobj", lambda source, target, length: target.write(source.read()[:1000] + source.read())
    )


def folder_of(node: Path) -> Path:
    node.mkdir()
    return node / "cifar100"


def a_folder_open_to_all(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    folder = folder_of(node)
    folder.mkdir()
    folder.chmod(0o777)


def a_link_to_elsewhere(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    elsewhere = node.with_name("elsewhere")
    elsewhere.mkdir()
    folder_of(node).symlink_to(elsewhere)


def another_user_s_folder(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    folder_of(node).mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def a_held_lock(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    folder_of(node).mkdir(mode=0o700)
    monkeypatch.setattr(node_copy, "_LOCK_SECONDS", 0.1)

    def held(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", held)


def a_pipe_for_a_lock(monkeypatch: pytest.MonkeyPatch, node: Path) -> None:
    folder_of(node).mkdir(mode=0o700)
    os.mkfifo(node / "cifar100" / ".lock")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (a_folder_open_to_all, "is a link, another user's, or open to others"),
        (a_link_to_elsewhere, "is a link, another user's, or open to others"),
        (another_user_s_folder, "is a link, another user's, or open to others"),
        (a_held_lock, "another process has held its lock for under 1 s"),
        (a_pipe_for_a_lock, "it is a pipe or a device"),
        (too_full, "not enough disk space"),
        (filled_up_meanwhile, "No space left on device"),
        (a_file_in_the_way, "Not a directory"),
        (copied_wrong, "the decoded images are damaged"),
    ],
)
def test_where_there_can_be_no_copy_the_shared_file_is_opened_and_that_is_said(
    trouble: Callable[[pytest.MonkeyPatch, Path], None],
    said: str,
    root: Path,
    node: Path,
    facts: DatasetFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble(monkeypatch, node)
    heard: list[str] = []
    opened = open_on_node(facts, root, node, say=heard.append)
    assert opened.source == "here"
    (text,) = heard
    assert said in text
    assert text.endswith(f"reading them from {cache_path(facts, root)}")
    assert copies(node) == [] if node.is_dir() else True


def test_a_variable_that_the_node_does_not_have_is_said(
    root: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_SCRATCH", raising=False)
    heard: list[str] = []
    open_on_node(facts, root, Path("$NO_SUCH_SCRATCH/data"), say=heard.append)
    assert "its name has a variable that is not set here" in heard[0]


def test_missing_data_are_missing_as_ever(tmp_path: Path, node: Path, facts: DatasetFacts) -> None:
    with pytest.raises(DataError, match="is not here"):
        open_on_node(facts, tmp_path / "nothing", node)
    assert not node.exists()


READER = """
import json, os, sys
from pathlib import Path
from repro.experiment.catalog import Archive, DatasetFacts
from repro.data.prepare import open_decoded
root = sys.argv[2]
def watch(event, arguments):
    inside = arguments and str(arguments[0]).startswith(root)
    if event == "open":
        changes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    else:
        changes = event.startswith(("os.", "shutil.")) and event not in ("os.listdir", "os.scandir")
    if inside and changes:
        print(event, arguments, file=sys.stderr)
        os._exit(1)
fields = json.loads(sys.argv[1])
facts = DatasetFacts(**fields | {"archives": tuple(Archive(**one) for one in fields["archives"])})
sys.addaudithook(watch)
cached = open_decoded(facts, Path(root))
cached.images.train_images[:] = 0  # reaches this process's memory, and not the file
"""


def test_the_shared_file_is_opened_read_only_and_nothing_is_written_beside_it(root: Path, facts: DatasetFacts) -> None:
    before = everything(root), cache_path(facts, root).read_bytes()
    for path in (cache_path(facts, root), cache_path(facts, root).parent, root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        command = [sys.executable, "-c", READER, json.dumps(asdict(facts)), str(root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        for path in (root, cache_path(facts, root).parent):
            path.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert (everything(root), cache_path(facts, root).read_bytes()) == before
