"""From archive to opened images: found or fetched, decoded once, rebuilt when damaged, shared by processes."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro.data import tiny_imagenet
from repro.data.cache import CACHE_FILE
from repro.data.fetch import fetch
from repro.data.prepare import cache_path, find_source, folder_lock, open_decoded, require_images, verify
from repro.errors import DataError, Unreadable
from repro.experiment.catalog import DATASETS, Archive, DatasetFacts


@pytest.fixture
def facts(small_cifar: Any) -> DatasetFacts:
    return small_cifar.facts


@pytest.fixture
def root(small_cifar: Any, tmp_path: Path) -> Path:
    """A data folder with the archive in it."""
    (tmp_path / "cifar100").mkdir()
    (tmp_path / "cifar100" / "cifar-100-binary.tar.gz").write_bytes(small_cifar.binary_archive)
    return tmp_path


def flip_byte(path: Path, position: int = 1000) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_the_archive_is_decoded_once_and_then_only_opened(root: Path, facts: DatasetFacts, small_cifar: Any) -> None:
    decoded = open_decoded(facts, root)
    assert np.array_equal(decoded.images.train_images, small_cifar.images.train_images)
    assert "as published" in decoded.source
    (root / "cifar100" / "cifar-100-binary.tar.gz").unlink()
    before = {path: path.stat().st_mtime_ns for path in (root / "cifar100").iterdir()}
    opened = open_decoded(facts, root)
    assert opened.fingerprint == decoded.fingerprint
    assert {path: path.stat().st_mtime_ns for path in (root / "cifar100").iterdir()} == before


def test_an_archive_is_also_found_where_torchvision_puts_it(tmp_path: Path, small_cifar: Any) -> None:
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(small_cifar.python_archive)
    assert find_source(small_cifar.facts, tmp_path) == tmp_path / "cifar-100-python.tar.gz"
    opened = open_decoded(small_cifar.facts, tmp_path)
    assert np.array_equal(opened.images.test_labels, small_cifar.images.test_labels)


@pytest.mark.parametrize("name", ["cifar100", "tiny_imagenet"])
def test_missing_data_say_what_how_and_how_large(name: str, tmp_path: Path) -> None:
    for opening in (open_decoded, verify, require_images):
        with pytest.raises(DataError) as error:
            opening(DATASETS[name], tmp_path)
        message = str(error.value)
        assert f"{DATASETS[name].title} is not here" in message
        assert f"biasrepro data fetch {name} --root {tmp_path}" in message
        assert {"cifar100": "168.5 MB to download", "tiny_imagenet": "248.1 MB to download"}[name] in message
        assert {"cifar100": "184.8 MB decoded", "tiny_imagenet": "1.4 GB decoded"}[name] in message
    assert list(tmp_path.iterdir()) == []


def test_damaged_images_are_decoded_again_from_the_archive(root: Path, facts: DatasetFacts) -> None:
    fingerprint = open_decoded(facts, root).fingerprint
    path = cache_path(facts, root)
    whole = path.read_bytes()
    flip_byte(path)
    damaged = path.read_bytes()
    with pytest.raises(DataError, match="the decoded images are damaged"):
        verify(facts, root)
    assert open_decoded(facts, root).fingerprint == fingerprint
    assert path.read_bytes() == whole
    assert path.with_suffix(".damaged").read_bytes() == damaged


def test_damage_without_an_archive_is_an_error_that_says_so(root: Path, facts: DatasetFacts) -> None:
    open_decoded(facts, root)
    (root / "cifar100" / "cifar-100-binary.tar.gz").unlink()
    flip_byte(cache_path(facts, root))
    with pytest.raises(DataError, match=r"damaged: bytes 0 to \d+ do not match") as error:
        open_decoded(facts, root)
    assert "biasrepro data fetch cifar100" in str(error.value)
    assert cache_path(facts, root).exists()


def test_damage_with_a_damaged_archive_names_both(root: Path, facts: DatasetFacts) -> None:
    open_decoded(facts, root)
    flip_byte(cache_path(facts, root))
    flip_byte(root / "cifar100" / "cifar-100-binary.tar.gz")
    with pytest.raises(DataError, match=r"damaged: bytes 0 .*rebuilding failed.*not a published archive"):
        open_decoded(facts, root)


def test_a_cache_of_another_data_set_is_refused(root: Path, facts: DatasetFacts) -> None:
    open_decoded(facts, root)
    with pytest.raises(DataError, match=r"train_images is uint8 \(20, 3, 32, 32\), not uint8 \(21,"):
        open_decoded(replace(facts, train_count=21), root)


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path: Path, small_cifar: Any) -> None:
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(small_cifar.binary_archive)
    (tmp_path / "cifar100").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot write to this folder") as error:
        fetch(small_cifar.facts, tmp_path / "cifar100", [tmp_path / "cifar-100-binary.tar.gz"])
    assert "--root" in str(error.value)


def test_a_full_disk_is_a_data_error_before_and_during(
    root: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("repro.data.prepare.write_cache", no_space)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        open_decoded(facts, root)
    with pytest.raises(DataError, match="not enough disk space"):
        open_decoded(replace(facts, train_count=10**12), root)


def test_what_a_killed_process_left_is_cleared_away(root: Path, facts: DatasetFacts) -> None:
    left_over = root / "cifar100" / f"{CACHE_FILE}.0badf00d.tmp"
    left_over.write_bytes(b"half")
    open_decoded(facts, root)
    assert not left_over.exists()


def test_fetch_from_a_local_file_reads_it_where_it_lies(tmp_path: Path, small_cifar: Any) -> None:
    local = tmp_path / "elsewhere.tgz"
    local.write_bytes(small_cifar.python_archive)
    stages: list[tuple[str, int, int]] = []
    fetch(small_cifar.facts, tmp_path / "data", [local], lambda *seen: stages.append(seen))
    assert sorted(path.name for path in (tmp_path / "data" / "cifar100").iterdir()) == [".lock", CACHE_FILE]
    assert verify(small_cifar.facts, tmp_path / "data").source.startswith("elsewhere.tgz, MD5 ")
    with pytest.raises(DataError, match="no such file or folder"):
        fetch(small_cifar.facts, tmp_path / "data", [tmp_path / "nowhere"])


def test_a_local_file_is_decoded_once_and_another_one_anew(tmp_path: Path, small_cifar: Any) -> None:
    local = tmp_path / "copy.tgz"
    local.write_bytes(small_cifar.python_archive)
    cache = cache_path(small_cifar.facts, tmp_path / "data")

    def fetched() -> bool:
        """Whether it was decoded."""
        before = cache.stat().st_ino if cache.exists() else None
        fetch(small_cifar.facts, tmp_path / "data", [local])
        return cache.stat().st_ino != before

    assert [fetched(), fetched()] == [True, False]
    for name in (b"other.tgz", b"no utf-8 \xe9.tgz"):
        local = local.rename(tmp_path / os.fsdecode(name))
        assert [fetched(), fetched()] == [True, False]
    cache.write_bytes(b"damaged")
    assert fetched()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_a_device_is_no_copy_of_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a file or a folder"):
        fetch(DATASETS["cifar100"], tmp_path, [Path("/dev/zero")])


def test_fetch_of_a_tiny_imagenet_folder_with_another_checksum(
    tmp_path: Path,
    tiny_members: dict[str, bytes],
    tiny_facts: DatasetFacts,
    write_folder: Callable[[dict[str, bytes]], Path],
) -> None:
    folder = write_folder(tiny_members) / "tiny-imagenet-200"
    stages: list[tuple[str, int, int]] = []
    cached = fetch(tiny_facts, tmp_path / "data", [folder], lambda *seen: stages.append(seen))
    assert cached.source == "folder tiny-imagenet-200"
    assert stages[-1] == ("decoding", 18, 18)


@pytest.mark.parametrize("content", ["half", "page", "folder"])
def test_what_is_left_of_an_archive_blocks_a_fetch_and_says_how_to_go_on(
    content: str, tmp_path: Path, tiny_members: dict[str, bytes], tiny_facts: DatasetFacts, pack: Callable[..., bytes]
) -> None:
    place = tmp_path / tiny_facts.name / ("tiny-imagenet-200" if content == "folder" else "tiny-imagenet-200.zip")
    place.parent.mkdir()
    whole = pack("zip", tiny_members)
    if content == "folder":
        place.mkdir()
    else:
        place.write_bytes(whole[: len(whole) // 2] if content == "half" else b"<html>")
    with pytest.raises(DataError) as caught:
        fetch(tiny_facts, tmp_path)
    assert caught.value.where == str(place)
    assert f"Move {place} away, and the same command downloads the data." in str(caught.value.hint)


def test_a_killed_decoding_process_says_nothing_of_the_archive(
    tmp_path: Path,
    tiny_members: dict[str, bytes],
    tiny_facts: DatasetFacts,
    pack: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / tiny_facts.name / "tiny-imagenet-200.zip"
    place.parent.mkdir()
    place.write_bytes(pack("zip", tiny_members))

    def killed(*_: object) -> int:
        raise Unreadable("a decoding process was killed", hint="The same command decodes again.")

    monkeypatch.setattr(tiny_imagenet, "decode_into", killed)
    with pytest.raises(Unreadable) as caught:
        fetch(tiny_facts, tmp_path)
    assert caught.value.hint == "The same command decodes again."


@pytest.mark.timeout(20)
def test_a_pipe_in_an_archive_s_place_is_named_and_not_waited_for(tmp_path: Path) -> None:
    facts = DATASETS["tiny_imagenet"]
    (tmp_path / facts.name).mkdir()
    for archive in facts.archives:
        place = tmp_path / facts.name / archive.file_name
        os.mkfifo(place)
        for ask in (fetch, find_source, open_decoded, require_images):
            with pytest.raises(DataError, match="not a file or a folder") as caught:
                ask(facts, tmp_path)
            assert caught.value.where == str(place)
        place.unlink()


@pytest.fixture
def served(small_cifar: Any, tmp_path: Path) -> Iterator[tuple[DatasetFacts, list[str]]]:
    """The facts with the address of a server on this machine, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *args: object) -> None:
            asked.append(self.path)

    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "cifar.tar.gz").write_bytes(small_cifar.binary_archive)
    handler = functools.partial(Handler, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/cifar.tar.gz"
        first, *others = small_cifar.facts.archives
        yield replace(small_cifar.facts, archives=(replace(first, urls=(url,)), *others)), asked
        server.shutdown()
        thread.join()


def test_fetch_downloads_decodes_and_does_neither_twice(served: tuple[DatasetFacts, list[str]], tmp_path: Path) -> None:
    facts, asked = served
    stages: list[tuple[str, int, int]] = []
    first = fetch(facts, tmp_path / "data", report=lambda *seen: stages.append(seen))
    assert (tmp_path / "data" / "cifar100" / "cifar-100-binary.tar.gz").exists()
    size = facts.archives[0].size_bytes
    assert stages[0][0] == "downloading"
    assert ("downloading", size, size) in stages
    assert fetch(facts, tmp_path / "data").fingerprint == first.fingerprint
    (tmp_path / "data" / "cifar100" / "cifar-100-binary.tar.gz").unlink()
    fetch(facts, tmp_path / "data")
    assert len(asked) == 1
    flip_byte(cache_path(facts, tmp_path / "data"))
    assert fetch(facts, tmp_path / "data").fingerprint == first.fingerprint
    assert len(asked) == 2


def test_an_address_is_tried_after_those_before_it_failed(
    served: tuple[DatasetFacts, list[str]], tmp_path: Path, small_cifar: Any
) -> None:
    facts, asked = served
    (url,), others = facts.archives[0].urls, facts.archives[1:]
    wrong = url.replace("cifar.tar.gz", "missing.tar.gz")
    (tmp_path / "server" / "other.tar.gz").write_bytes(b"\x1f\x8b" + bytes(len(small_cifar.binary_archive) - 2))
    other = url.replace("cifar", "other")
    first = replace(facts.archives[0], urls=(wrong, other, url))
    fetched = fetch(replace(facts, archives=(first, *others)), tmp_path / "data")
    assert np.array_equal(fetched.images.train_images, small_cifar.images.train_images)
    assert asked == ["/missing.tar.gz", "/other.tar.gz", "/cifar.tar.gz"]
    with pytest.raises(DataError) as failed:
        fetch(replace(facts, archives=(replace(first, urls=(wrong, other)), *others)), tmp_path / "none")
    assert f"none of 2 addresses gave the file: {wrong}: the server answers 404" in failed.value.what
    assert f"{other}: the server sent another file than expected" in failed.value.what


def test_the_user_s_own_address_is_the_only_one_and_its_file_is_verified(
    served: tuple[DatasetFacts, list[str]], tmp_path: Path, small_cifar: Any
) -> None:
    facts, asked = served
    (url,) = facts.archives[0].urls
    (tmp_path / "server" / "cifar-100-python.tar.gz").write_bytes(small_cifar.python_archive)
    elsewhere = url.replace("cifar.tar.gz", "cifar-100-python.tar.gz")
    fetched = fetch(facts, tmp_path / "data", url=elsewhere)
    assert fetched.source.startswith("cifar-100-python.tar.gz, MD5 ")
    assert asked == ["/cifar-100-python.tar.gz"]
    unknown = fetch(facts, tmp_path / "unknown", url=url)
    assert unknown.source.endswith("as published")
    (tmp_path / "server" / "cifar.tar.gz").write_bytes(b"\x1f\x8b" + bytes(1000))
    with pytest.raises(DataError, match="not a published archive of CIFAR-100"):
        fetch(facts, tmp_path / "changed", url=url)


def test_another_process_that_prepares_the_data_is_waited_for_so_long_and_that_is_said(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with (
        folder_lock(tmp_path),
        pytest.raises(DataError, match="another process has held its lock for under 1 s") as refused,
    ):
        folder_lock(tmp_path, lambda *seen: told.append(seen), seconds=0.1).__enter__()
    assert told == [(f"waiting for another process that prepares {tmp_path}", 0, 0)]
    assert refused.value.where == str(tmp_path / ".lock")
    with folder_lock(tmp_path, lambda *seen: told.append(seen)):
        assert len(told) == 1


def test_bundled_data_need_no_fetching(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="included in biasrepro"):
        fetch(DATASETS["digits"], tmp_path)


OPEN_IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from repro.experiment.catalog import Archive, DatasetFacts
from repro.data.prepare import open_decoded
facts = json.loads(sys.argv[2])
archives = tuple(Archive(**archive) for archive in facts.pop("archives"))
print("ready", flush=True)
import repro.data.prepare as prepare
decoder_of, decoded = prepare.decoder_of, []
prepare.decoder_of = lambda facts: decoded.append(1) or decoder_of(facts)
cached = open_decoded(DatasetFacts(**facts, archives=archives), Path(sys.argv[1]))
print(len(decoded), cached.fingerprint)
"""


def test_of_two_processes_at_once_one_decodes_and_both_open(root: Path, facts: DatasetFacts) -> None:
    command = [sys.executable, "-c", OPEN_IN_ANOTHER_PROCESS, str(root), json.dumps(asdict(facts))]
    with folder_lock(root / "cifar100"):
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)  # both have found no cache and wait for the lock
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(int(decoded) for decoded, _ in answers) == [0, 1]
    assert answers[0][1] == answers[1][1] == verify(facts, root).fingerprint


def test_the_expected_archive_is_the_first_that_can_be_downloaded() -> None:
    assert DATASETS["digits"].download is None
    assert DATASETS["cifar100"].download == DATASETS["cifar100"].archives[0]
    assert replace(DATASETS["digits"], archives=(Archive("x"),)).download is None
