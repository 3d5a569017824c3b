"""Archives that nobody vouches for: what is read, and that everything suspicious is refused with one message."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.data.archives import ReadLimits, read_members
from repro.errors import DataError

LIMITS = ReadLimits(member_bytes=10_000, total_bytes=50_000, members=20)
MEMBERS = {"top/a.bin": bytes(range(256)) * 4, "top/b.txt": b"second", "top/unwanted": b"?" * 600, "top/empty": b""}
WANTED = {"top/a.bin", "top/b.txt", "top/empty"}
FORMS = ("zip", "tar.gz", "tar.xz")
Pack = Callable[[str, dict[str, bytes]], bytes]


def read(path: Path, content: bytes, limits: ReadLimits = LIMITS) -> dict[str, bytes]:
    path.write_bytes(content)
    return dict(read_members(path, WANTED.__contains__, limits))


def tar_with(header: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_wanted_members_are_read_and_nothing_else(form: str, tmp_path: Path, pack: Pack) -> None:
    assert read(tmp_path / "x", pack(form, MEMBERS)) == {name: MEMBERS[name] for name in WANTED}


def test_a_leading_dot_is_not_part_of_the_name(tmp_path: Path, pack: Pack) -> None:
    content = pack("tar.gz", {f"./{name}": content for name, content in MEMBERS.items()})
    assert set(read(tmp_path / "x", content)) == WANTED


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["../top/a.bin", "/top/a.bin", "top/../../a.bin", "top\\..\\a.bin"])
def test_a_name_that_leads_outside_refuses_the_archive(form: str, name: str, tmp_path: Path, pack: Pack) -> None:
    with pytest.raises(DataError, match="leads out of the archive's folder"):
        read(tmp_path / "x", pack(form, {**MEMBERS, name: b"x"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_refuse_the_archive(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("top/a.bin")
    header.type, header.linkname = kind, "/etc/passwd"
    with pytest.raises(DataError, match="is a link or a device"):
        read(tmp_path / "x", tar_with(header))


def test_a_link_in_a_zip_refuses_the_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo("top/a.bin")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device"):
        read(tmp_path / "x", buffer.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_a_member_larger_than_the_limit_is_refused(form: str, tmp_path: Path, pack: Pack) -> None:
    with pytest.raises(DataError, match=r"'top/unwanted' is larger than"):
        read(tmp_path / "x", pack(form, {"top/unwanted": bytes(10_001)}))


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(form: str, tmp_path: Path, pack: Pack) -> None:
    with pytest.raises(DataError, match="it unpacks to more than"):
        read(tmp_path / "x", pack(form, {f"top/{i}": bytes(9_000) for i in range(6)}))


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_with_too_many_members_is_refused(form: str, tmp_path: Path, pack: Pack) -> None:
    with pytest.raises(DataError, match="more than 20 members"):
        read(tmp_path / "x", pack(form, {f"top/{i}": b"" for i in range(21)}))


def test_a_tar_header_of_many_megabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    # A pax header may have any length; tarfile would hold all of it.
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    content = gzip.compress(header.tobuf() + bytes(3 << 20))
    limits = ReadLimits(member_bytes=10_000, total_bytes=1 << 30, members=20)
    with pytest.raises(DataError, match="a header is larger"):
        read(tmp_path / "x", content, limits)


def test_a_zip_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path, pack: Pack) -> None:
    honest = pack("zip", {"top/a.bin": bytes(9_000)})
    assert honest.count(struct.pack("<I", 9_000)) == 2  # in the local header and in the directory
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "x", honest.replace(struct.pack("<I", 9_000), struct.pack("<I", 9)))


def test_an_encrypted_or_oddly_compressed_zip_is_refused(tmp_path: Path, pack: Pack) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("top/a.bin", b"x" * 100)
    with pytest.raises(DataError, match="compressed in an unexpected way"):
        read(tmp_path / "x", buffer.getvalue())
    plain = bytearray(pack("zip", {"top/a.bin": b"x"}))
    directory = plain.index(b"PK\x01\x02")
    plain[directory + 8] |= 1
    with pytest.raises(DataError, match=r"member 'top/a\.bin' is encrypted"):
        read(tmp_path / "x", bytes(plain))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_member_that_comes_twice_is_refused(form: str, tmp_path: Path, pack: Pack) -> None:
    if form == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("top/a.bin", b"one")
            archive.writestr("top/a.bin", b"two")
        content = buffer.getvalue()
    else:
        content = pack("tar.gz", {"top/a.bin": b"one", "./top/a.bin": b"two"})
    with pytest.raises(DataError, match="occurs twice"):
        read(tmp_path / "x", content)


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_cut_anywhere_is_an_error(form: str, tmp_path: Path, pack: Pack) -> None:
    content = pack(form, MEMBERS)
    for length in range(0, len(content), 7):
        with pytest.raises(DataError):
            read(tmp_path / "x", content[:length])


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_byte_is_an_error_or_without_meaning(form: str, tmp_path: Path, pack: Pack) -> None:
    content = pack(form, MEMBERS)
    expected = {name: MEMBERS[name] for name in WANTED}
    noticed = 0
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 0x55
        try:
            found = read(tmp_path / "x", bytes(changed))
        except DataError:
            noticed += 1
        else:  # times and permissions; a changed name is a missing member, which the data set's reader notices
            assert all(found[name] == expected[name] for name in found)
    assert noticed > len(content) / 3 / 2


def test_something_else_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a \.zip, \.tar\.gz or \.tar\.xz"):
        read(tmp_path / "x", b"<!DOCTYPE html>")
