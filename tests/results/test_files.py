"""What is read is a file: no pipe is waited for, no device read without end, no huge file taken into memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro.results.files import read_file


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
