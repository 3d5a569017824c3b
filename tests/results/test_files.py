"""Only regular files of limited size are read, many at a time; the file server's time and the version of a file."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from repro.results import files
from repro.results.files import (
    ITEMS_AT_ONCE,
    READERS,
    file_lock,
    file_time,
    file_version,
    make_private,
    open_log,
    open_plain,
    read_each,
    read_file,
)

MANY = 3 * READERS * ITEMS_AT_ONCE + 1


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "file", largest_bytes=5) == b"bytes"
    assert read_file(tmp_path / "link") == b"bytes"


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(OSError, match="a pipe or a device"):
            read_file(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "absent")


def test_what_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room
    with pytest.raises(OSError, match="1,099,511,627,776 bytes"):
        read_file(tmp_path / "large")


@pytest.mark.parametrize("count", [0, 1, ITEMS_AT_ONCE, ITEMS_AT_ONCE + 1, MANY])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    assert list(read_each(str, iter(range(count)))) == [str(number) for number in range(count)]


def test_several_are_read_at_a_time() -> None:
    all_there = threading.Barrier(READERS, timeout=30)

    def read(number: int) -> int:
        if number % ITEMS_AT_ONCE == 0:  # the first that a reader is given
            all_there.wait()  # breaks, and raises, unless as many wait as there are readers
        return number

    count = READERS * ITEMS_AT_ONCE
    assert list(read_each(read, range(count))) == list(range(count))


def test_no_more_is_read_ahead_than_the_readers_hold_at_a_time() -> None:
    read, too_many = itertools.count(1), threading.Event()
    most = (READERS + 2) * ITEMS_AT_ONCE

    def count(number: int) -> int:
        if next(read) > most:
            too_many.set()
        return number

    reading = read_each(count, range(4 * most))
    assert next(reading) == 0
    assert not too_many.wait(0.2)
    assert list(reading) == list(range(1, 4 * most))


@pytest.mark.parametrize("count", [3, MANY])
def test_what_a_reader_raises_is_raised_here(count: int) -> None:
    def read(number: int) -> int:
        if number == 2:
            raise OSError("the disk is gone")
        return number

    with pytest.raises(OSError, match="the disk is gone"):
        list(read_each(read, range(count)))


def test_no_reader_thread_is_left_after_an_early_stop() -> None:
    reading = read_each(str, range(MANY))
    assert next(reading) == "0"
    reading.close()  # type: ignore[attr-defined]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")] == []


def test_the_servers_time_leaves_no_file_behind(tmp_path: Path) -> None:
    assert abs(file_time(tmp_path) - time.time()) < 60
    assert list(tmp_path.iterdir()) == []
    assert abs(file_time(tmp_path / "absent") - time.time()) < 60


def test_a_replaced_file_has_another_version(tmp_path: Path) -> None:
    assert file_version(tmp_path / "file") is None
    (tmp_path / "file").write_text("one")
    before = file_version(tmp_path / "file")
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").replace(tmp_path / "file")
    assert None is not file_version(tmp_path / "file") != before


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    program = f"""
import time
from pathlib import Path
from repro.results.files import file_lock
with file_lock(Path({str(lock)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    taken = threading.Event()

    def take() -> None:
        with file_lock(lock):
            taken.set()

    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=take)
        waiting.start()
        assert not taken.wait(0.3)
        holder.kill()
    waiting.join(30)
    assert taken.is_set()


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


@pytest.mark.timeout(20)
def test_what_is_opened_is_a_file_and_nothing_is_waited_for(tmp_path: Path, victim: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "device"):
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND | os.O_CREAT):
            with pytest.raises(files.NoPlainFile, match="it is a pipe or a"):
                open_plain(tmp_path / name, flags)
        with pytest.raises(files.NoPlainFile), file_lock(tmp_path / name):
            pass
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)
    (tmp_path / "link").symlink_to(victim)
    with os.fdopen(open_plain(tmp_path / "link"), "rb") as file:
        assert file.read() == b"precious"


def test_no_link_is_followed_to_what_is_written(tmp_path: Path, victim: Path) -> None:
    for name, target in (("link", victim), ("dangling", tmp_path / "new")):
        (tmp_path / name).symlink_to(target)
        for attempt in (open_log, lambda path: file_lock(path).__enter__()):
            with pytest.raises(files.NoPlainFile, match="symbolic link"):
                attempt(tmp_path / name)
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "new").exists()


def test_a_lock_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock"), pytest.raises(TimeoutError, match="has held its lock for under 1 s"):
        file_lock(tmp_path / "lock", seconds=0.1).__enter__()
    with file_lock(tmp_path / "lock", seconds=0.1):
        pass


def test_a_private_folder_is_this_user_s_alone_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "private"
    make_private(folder)
    make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    make_private(folder)  # nobody else could have written to it
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for refused in (folder, tmp_path / "link"):
        with pytest.raises(PermissionError, match="is a link, another user's, or open to others"):
            make_private(refused)
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError):
        make_private(folder)
