from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from repro.results.durable import commit_file, link_new, make_folder, replace_file, sync_folder, write_durably


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_new_bytes_take_the_place_of_the_old(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_durably(file, b"old")
    write_durably(file, b"new" * 1_000_000)
    assert contents(tmp_path) == {"a": b"new" * 1_000_000}


def test_the_file_before_stays_as_the_previous_one(tmp_path: Path) -> None:
    file, previous = tmp_path / "a", tmp_path / "a.previous"
    for data in (b"1", b"2", b"3"):
        write_durably(file, data, keep_previous_as=previous)
    assert contents(tmp_path) == {"a": b"3", "a.previous": b"2"}


@pytest.mark.parametrize("previous", [None, "a.previous"])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_failed_call_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, previous: str | None
) -> None:
    file = tmp_path / "a"
    write_durably(file, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            write_durably(file, b"new", keep_previous_as=tmp_path / previous if previous else None)
    assert contents(tmp_path).pop("a") == b"old"
    assert contents(tmp_path).keys() <= {"a", previous}
    write_durably(file, b"new")
    assert file.read_bytes() == b"new"


def test_an_interruption_in_the_middle_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    write_durably(file, b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_durably(file, b"new")
    assert contents(tmp_path) == {"a": b"old"}


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    write_durably(tmp_path / "a", b"0123456789" * 10)
    assert (tmp_path / "a").read_bytes() == b"0123456789" * 10


def test_a_file_system_without_hard_links_keeps_the_previous_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file, previous = tmp_path / "a", tmp_path / "a.previous"
    for data in (b"1", b"2", b"3"):
        write_durably(file, data, keep_previous_as=previous)
    assert contents(tmp_path) == {"a": b"3", "a.previous": b"2"}


def test_bytes_are_on_disk_before_the_name_is_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append(f"replace {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_durably(tmp_path / "a", b"1")
    assert re.fullmatch(rf"fsync \.a\..*\.part, replace a, fsync {tmp_path.name}", ", ".join(calls))
    calls.clear()
    (tmp_path / "b.part").write_bytes(b"2")
    commit_file(tmp_path / "b.part", tmp_path / "b")
    assert calls == ["fsync b.part", "replace b", f"fsync {tmp_path.name}"]
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_a_replaced_file_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "a", b"old")
    assert contents(tmp_path) == {"a": b"old"}
    monkeypatch.setattr(Path, "replace", lambda *_: None)  # killed right before the rename
    replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_no_temporary_file_s_name_can_be_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / f".a.{os.getpid()}.part").symlink_to("victim")
    replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    monkeypatch.setattr("repro.results.durable.secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".a.guessed.part").symlink_to("victim")
    with pytest.raises(FileExistsError):
        replace_file(tmp_path / "a", b"newer")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_file_in_a_folder_s_place_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            make_folder(folder, below=tmp_path)


def test_a_link_that_nfs_repeats_is_ours(tmp_path: Path) -> None:
    source, target, taken = (tmp_path / name for name in ("source", "target", "taken"))
    source.write_bytes(b"ours")
    os.link(source, target)  # as the first request did, whose answer was lost
    assert link_new(source, target)
    taken.write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        link_new(source, taken)
    assert taken.read_bytes() == b"another's"


@pytest.mark.parametrize(
    ("number", "is_fault"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True), (errno.ENOSPC, True)]
)
def test_a_file_system_that_cannot_sync_folders_is_no_fault_and_one_that_fails_is(
    number: int, is_fault: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if is_fault:
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)
        write_durably(tmp_path / "file", b"content")
        assert (tmp_path / "file").read_bytes() == b"content"
