"""Archives, pickles, checkpoints and records meant to harm: refused in words, nothing run, nothing written outside."""

from __future__ import annotations

import builtins
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commits import RUN, a_record, folder_in, state

import repro.cli
from repro.data.cifar100 import _ArrayUnpickler
from repro.engine import checkpoint
from repro.errors import DataError
from repro.results import load_records, read_record
from repro.results.checkpoint_file import Header, seal
from repro.results.record import to_bytes

Prove = Callable[[str], None]
CANARY = "canary"
REFUSALS = (pickle.UnpicklingError, ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError)
# Checkpoints that are read and hold nothing: what they lack is noticed when the run is to go on from them.
EMPTY = ("torch file with a memo that grows",)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def pickles(canary: Path) -> dict[str, bytes]:
    """Pickles that would leave a file behind if they were run."""
    touch = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w')"
    harmful: dict[str, Any] = {
        "os.system": Calls(os.system, touch),
        "subprocess": Calls(subprocess.Popen, ["touch", str(canary)]),
        "eval": Calls(builtins.eval, python),
        "exec": Calls(builtins.exec, python),
        "open": Calls(open, str(canary), "w"),
        "import": Calls(__import__, "antigravity"),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "inside a dict": {b"data": Calls(os.system, touch)},
        "inside a tensor's place": {"model": {"weight": Calls(builtins.eval, python)}, "epoch": 1},
        "bytes as code": Calls(builtins.compile, python, "x", "exec"),
    }
    made = {name: pickle.dumps(one, protocol=2) for name, one in harmful.items()}
    made["by hand"] = b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR."
    made["stack global"] = (
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(touch)]) + touch.encode() + b"\x85R."
    )
    made["a byte array"] = pickle.dumps({"model": Calls(bytearray, 1 << 20)}, protocol=2)
    made["nested"] = b"(" * 100_000
    made["a memo that grows"] = b"\x80\x02}r\xff\xff\xff\x7f."
    made["a string of 2 GiB"] = b"\x80\x04\x8d" + struct.pack("<Q", 2**31) + b"x."
    made["empty"] = b""
    return made


def torch_zip(pickled: bytes) -> bytes:
    """What ``torch.save`` writes, around another pickle."""
    buffer = io.BytesIO()
    torch.save(state(1), buffer)
    made = io.BytesIO()
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(made, "w") as other:
        for member in whole.infolist():
            content = pickled if member.filename.endswith("data.pkl") else whole.read(member)
            other.writestr(member.filename, content)
    return made.getvalue()


def packed(compression: int, copies: int = 1) -> bytes:
    """A torch file that is larger inside than outside; nothing else is wrong with it."""
    buffer, made = io.BytesIO(), io.BytesIO()
    torch.save({"zeros": torch.zeros(25_000_000 // copies)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(made, "w", compression) as other:
        for member in whole.infolist():
            other.writestr(member.filename, whole.read(member))
        other.filelist += [other.getinfo("archive/data/0")] * (copies - 1)
    return made.getvalue()


def scripted() -> bytes:
    """A TorchScript archive, whose code torch.load would hand on to the interpreter."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/code/__torch__.py", "print('run')")
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


def test_no_checkpoint_runs_anything(tmp_path: Path, proved: Prove) -> None:
    canary = tmp_path / CANARY
    folder = folder_in(tmp_path)
    folder.path.mkdir(parents=True)
    harmful = pickles(canary)
    payloads = {f"torch file with {name}": torch_zip(raw) for name, raw in harmful.items()}
    payloads |= {f"bare {name}": raw for name, raw in harmful.items()}
    payloads |= {
        "TorchScript": scripted(),
        "no dict": saved([1, 2, 3]),
        "100 MB of zeros, deflated": packed(zipfile.ZIP_DEFLATED),
        "100 MB of zeros, the same 1 MB in 100 places": packed(zipfile.ZIP_STORED, copies=100),
        "a module": b"PK\x03\x04" + bytes(100),
        "a torch file cut short": saved(state(1))[:-30],
        "an old torch file": old_torch_file({"a": 1}),
        "an old torch file that calls": old_torch_file(Calls(os.system, f"touch {canary}")),
    }
    for name, payload in payloads.items():
        # Whole and sealed as one of ours: only what is inside is not.
        folder.checkpoint.write_bytes(seal(Header(RUN.id, 1, 1, 0), payload))
        loaded = checkpoint.load(folder, RUN.id)
        assert loaded.state is None or name in EMPTY, name
        assert not canary.exists(), name
    for name, payload in payloads.items():  # and without a seal it is not even looked into
        folder.checkpoint.write_bytes(payload)
        assert checkpoint.load(folder, RUN.id).state is None, name
        assert not canary.exists(), name
    proved(f"crafted checkpoints: {2 * len(payloads)} refused, 0 executed")


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def old_torch_file(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_no_pickle_of_a_data_set_runs_anything(tmp_path: Path, proved: Prove) -> None:
    canary = tmp_path / CANARY
    refused = 0
    for name, raw in pickles(canary).items():
        with pytest.raises(REFUSALS):
            raise ValueError(f"{name} gave {_ArrayUnpickler(raw).load()}")
        assert not canary.exists(), name
        refused += 1
    proved(f"crafted pickles: {refused} refused, 0 executed")


Pack = Callable[[dict[str, bytes]], bytes]


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for header, content in members:
            header.size = header.size or len(content)
            made.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, link
    return header


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def zip_link(name: str, target: str) -> bytes:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((member, target.encode()))


def huge(name: str) -> bytes:
    header = named(name)
    header.size = 1 << 40
    return header.tobuf() + bytes(1024)


def sparse() -> bytes:
    header = named("tiny-imagenet-200/words.txt")
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    return tar((header, b"1\n0\n0\n" + bytes(506)))


def archives(outside: Path) -> dict[str, bytes]:
    """Archives that would write, read or fill up what they must not."""
    inside = "tiny-imagenet-200/train/n01443537/images/x.JPEG"
    plain = {
        "climbing": tar((named(f"../../{outside.name}"), b"x")),
        "climbing inside": tar((named(f"tiny-imagenet-200/../../{outside.name}"), b"x")),
        "absolute": tar((named(str(outside)), b"x")),
        "a symbolic link": tar((named(inside, tarfile.SYMTYPE, "/etc/passwd"), b"")),
        "a hard link": tar((named(inside, tarfile.LNKTYPE, "../../etc/passwd"), b"")),
        "a link and a file through it": tar(
            (named("tiny-imagenet-200/train", tarfile.SYMTYPE, str(outside.parent)), b""),
            (named(f"tiny-imagenet-200/train/{outside.name}"), b"x"),
        ),
        "a device": tar((named(inside, tarfile.CHRTYPE), b"")),
        "a pipe": tar((named(inside, tarfile.FIFOTYPE), b"")),
        "a terabyte": huge(inside),
        "a sparse terabyte": sparse(),
        "a backslash": tar((named("..\\..\\windows"), b"x")),
        "twice the same": tar((named(inside), b"x"), (named(inside), b"y")),
        "no member": tar(),
        "garbage in a header": bytes(range(256)) * 8,
    }
    made = {f"tar.gz, {name}": gzip.compress(raw) for name, raw in plain.items()}
    made |= {f"tar.xz, {name}": lzma.compress(raw) for name, raw in plain.items()}
    made |= {
        "zip, climbing": zipped((f"../../{outside.name}", b"x")),
        "zip, absolute": zipped((str(outside), b"x")),
        "zip, a link": zip_link(inside, "/etc/passwd"),
        "zip, no member": zipped(),
        "zip, cut": zipped((inside, bytes(1000)))[:-40],
        "zip, a bomb that lies about its size": zipped((inside, bytes(5_000))).replace(
            struct.pack("<I", 5_000), struct.pack("<I", 5)
        ),
        "gzip, cut": gzip.compress(tar((named(inside), bytes(5_000))))[:-20],
        "gzip of nothing": gzip.compress(b""),
        "a bare pickle": pickle.dumps(Calls(os.system, f"touch {outside}")),
        "an empty file": b"",
        "a text": b"this is no archive",
        "a script": f"#!/bin/sh\ntouch {outside}\n".encode(),
    }
    return made


def test_no_archive_escapes(tmp_path: Path, capfd: pytest.CaptureFixture[str], proved: Prove) -> None:
    outside = tmp_path / CANARY
    root = tmp_path / "deep" / "data"
    crafted = archives(outside)
    for name, raw in crafted.items():
        file = tmp_path / "crafted"
        file.write_bytes(raw)
        code = repro.cli.run(["data", "fetch", "tiny_imagenet", "--from", str(file), "--root", str(root)])
        said = "".join(capfd.readouterr())
        assert code == 2, (name, said)
        assert "Traceback" not in said, (name, said)
        assert str(file) in said or "tiny-imagenet" in said, (name, said)
        assert not outside.exists(), name
        left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
        assert left <= {"crafted", ".lock"}, (name, left)
        assert file.read_bytes() == raw
    assert len(crafted) >= 20
    proved(f"crafted archives: {len(crafted)} refused with exit 2, 0 escapes")


def resealed(**fields: Any) -> bytes:
    """A record with other fields under a seal that is right."""
    whole = json.loads(to_bytes(a_record()))
    del whole["seal"]
    body = json.dumps(whole | fields).encode()
    return sealed(body)


def sealed(body: bytes) -> bytes:
    body = body.removesuffix(b"}")
    return body + b',\n  "seal": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


CRAFTED_RECORDS: dict[str, bytes] = {
    "another version": resealed(schema_version=2),
    "a version that is a text": resealed(schema_version="1"),
    "an accuracy above 100": resealed(last_top1_percent=100.5),
    "an accuracy that is a text": resealed(last_top1_percent="61"),
    "not a number": sealed(to_bytes(a_record()).rpartition(b',\n  "seal"')[0].replace(b"61.25", b"NaN") + b"}"),
    "infinity": sealed(to_bytes(a_record()).rpartition(b',\n  "seal"')[0].replace(b"61.25", b"1e999") + b"}"),
    "an unknown key": resealed(extra=1),
    "another run's id": resealed(id="demo/shufflenetv2/bias/seed-1"),
    "an id that climbs": resealed(id="../../../../etc/passwd"),
    "no epochs' list": resealed(epochs={}),
    "an epoch that is none": resealed(epochs=[1]),
    "nested without end": sealed(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a list": sealed(b"[]"),
    "nothing": b"",
    "a seal alone": sealed(b""),
    "not UTF-8": sealed(b'{"id": "\xff\xfe"}'),
    "a pickle": pickle.dumps(Calls(os.system, "true")),
}


@pytest.mark.parametrize("name", CRAFTED_RECORDS)
def test_no_crafted_record_is_counted(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = folder_in(tmp_path)
    folder.path.mkdir(parents=True)
    folder.record.write_bytes(CRAFTED_RECORDS[name])
    with pytest.raises(DataError):
        read_record(folder.record)
    [found] = load_records(tmp_path)
    assert found.record is None
    for command in ("status", "table", "verify"):
        arguments = [str(tmp_path)] if command == "verify" else ["demo", "--results", str(tmp_path)]
        code = repro.cli.run([command, *arguments])
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said, (command, said)
        # What a newer version wrote may be whole: every command says that it was not counted, by its exit code too.
        assert code == (1 if command == "verify" or name == "another version" else 0), (command, said)
        assert "61.25" not in said
        assert "61.2" not in said
    assert folder.record.read_bytes() == CRAFTED_RECORDS[name]
