"""What file systems answer oddly, and what of it is no fault."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from repro.results.durable import link_new, sync_folder, write_durably


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
