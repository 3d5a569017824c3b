"""Ten thousand damaged checkpoints and records: every one is noticed, none is loaded, none is averaged in."""

from __future__ import annotations

import hashlib
import json
import random
import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from commits import RUN, a_record, a_run, commit, folder_in, newest

from repro.engine import checkpoint
from repro.errors import DataError, Unreadable
from repro.experiment.schema import Run
from repro.results import load_records, read_record, write_record
from repro.results.checkpoint_file import MAGIC, Header, check_checkpoint, unseal
from repro.results.record import from_bytes, to_bytes
from repro.results.weights_file import KeptWeights, read_weights

Prove = Callable[[str], None]
Damage = Callable[[bytes, random.Random], bytes]
CHECKPOINTS = 5_000
RECORDS = 5_000
_SECTOR, _PAGE = 512, 4096
_HUGE_BYTES = 5 << 30  # of zeros that were never written: they take no room on the disk


def bit_flip(raw: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(raw))
    return raw[:position] + bytes([raw[position] ^ (1 << chance.randrange(8))]) + raw[position + 1 :]


def several_flips(raw: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randrange(2, 9)):
        raw = bit_flip(raw, chance)
    return raw


def truncation(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))]


def zeroed_block(raw: bytes, chance: random.Random) -> bytes:
    size = chance.choice((_SECTOR, _PAGE))
    start = chance.randrange(0, len(raw), size)
    return raw[:start] + bytes(len(raw[start : start + size])) + raw[start + size :]


def all_zeros(raw: bytes, chance: random.Random) -> bytes:
    return bytes(len(raw))


def swapped_blocks(raw: bytes, chance: random.Random) -> bytes:
    size = chance.choice((16, 64, _SECTOR))
    one, other = sorted(chance.sample(range(0, max(2 * size, len(raw) - size), size), 2))
    blocks = raw[one : one + size], raw[other : other + size]
    return raw[:one] + blocks[1] + raw[one + size : other] + blocks[0] + raw[other + size :]


def more_at_the_end(raw: bytes, chance: random.Random) -> bytes:
    return raw + chance.randbytes(chance.randrange(1, 100))


def more_in_the_middle(raw: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(raw))
    return raw[:position] + chance.randbytes(chance.randrange(1, 100)) + raw[position:]


def less_in_the_middle(raw: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(raw) - 1)
    return raw[:position] + raw[position + chance.randrange(1, 100) :]


def other_bytes(raw: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(len(raw))


DAMAGES: tuple[Damage, ...] = (
    bit_flip,
    several_flips,
    truncation,
    zeroed_block,
    all_zeros,
    swapped_blocks,
    more_at_the_end,
    more_in_the_middle,
    less_in_the_middle,
    other_bytes,
)


def damaged(raw: bytes, number: int, chance: random.Random) -> bytes:
    """``raw`` with the damage of this number; another one where that happened to change nothing."""
    while True:
        changed = DAMAGES[number % len(DAMAGES)](raw, chance)
        if changed != raw:
            return changed


def edited_digit(raw: bytes, chance: random.Random) -> bytes:
    """A record in which somebody typed another digit."""
    position = chance.choice([match.start() for match in re.finditer(rb"[0-9]", raw)])
    digit = chance.choice([one for one in b"0123456789" if one != raw[position]])
    return raw[:position] + bytes([digit]) + raw[position + 1 :]


def seal_of_another(raw: bytes, chance: random.Random) -> bytes:
    other = to_bytes(a_record(a_run(seed=chance.randrange(1, 99))))
    return raw[: raw.rindex(b'"seal"')] + other[other.rindex(b'"seal"') :]


@pytest.fixture
def page_of_another_commit(tmp_path: Path) -> Damage:
    """A write that went to the wrong place: part of an earlier state of the same run."""
    commit(folder_in(tmp_path / "earlier"), 1)
    earlier = folder_in(tmp_path / "earlier").checkpoint.read_bytes()

    def damage(raw: bytes, chance: random.Random) -> bytes:
        start = chance.randrange(0, len(raw), _SECTOR)
        return raw[:start] + earlier[start : start + _SECTOR] + raw[start + _SECTOR :]

    return damage


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_damaged_checkpoints_are_noticed_and_the_previous_one_is_taken(tmp_path: Path, proved: Prove) -> None:
    chance, folder, seen = random.Random(0), folder_in(tmp_path), Counter[int]()
    commit(folder, 1)
    commit(folder, 2)
    whole, previous = folder.checkpoint.read_bytes(), folder.previous_checkpoint.read_bytes()
    for number in range(CHECKPOINTS):
        folder.checkpoint.write_bytes(damaged(whole, number, chance))
        with pytest.raises(DataError):
            check_checkpoint(folder.checkpoint)
        loaded = checkpoint.load(folder, RUN.id)
        assert loaded.state is not None
        seen[loaded.state["number"]] += 1
        [problem] = loaded.problems
        aside = folder.checkpoint.with_name("checkpoint.pt.damaged")
        assert str(aside) in problem
        aside.unlink()
        assert folder.previous_checkpoint.read_bytes() == previous
    proved(f"damaged checkpoints: {seen[1]:,} of {CHECKPOINTS:,} noticed, {seen[2]} loaded")
    assert seen == {1: CHECKPOINTS}


def test_parts_of_an_earlier_commit_in_a_checkpoint_are_noticed(tmp_path: Path, page_of_another_commit: Damage) -> None:
    chance, folder = random.Random(0), folder_in(tmp_path)
    commit(folder, 2)
    whole = folder.checkpoint.read_bytes()
    for _ in range(100):
        changed = page_of_another_commit(whole, chance)
        if changed != whole:
            folder.checkpoint.write_bytes(changed)
            assert newest(folder) == 0


@pytest.mark.slow
def test_damaged_records_are_noticed_and_never_averaged_in(tmp_path: Path, proved: Prove) -> None:
    chance, folder = random.Random(0), folder_in(tmp_path)
    write_record(folder, a_record())
    whole = folder.record.read_bytes()
    kinds = (edited_digit, edited_digit, seal_of_another)
    noticed = 0
    for number in range(RECORDS):
        changed = damaged(whole, number, chance) if number % 2 else kinds[number % len(kinds)](whole, chance)
        folder.record.write_bytes(changed)
        with pytest.raises(DataError):
            from_bytes(changed, where="here", epochs=False)
        with pytest.raises(DataError):
            read_record(folder.record)
        [found] = load_records(tmp_path)
        assert found.record is None
        assert found.problem
        noticed += 1
    proved(f"damaged records: {noticed:,} of {RECORDS:,} noticed, {RECORDS - noticed} loaded")


@pytest.mark.parametrize(("more_header", "more_state"), [(0, 1), (1, 0), (-1, 0), (0, -1), (2**31, 0), (0, 2**62)])
def test_lengths_that_do_not_fill_it_do_not_pass_under_a_right_checksum(more_header: int, more_state: int) -> None:
    head, state = json.dumps(asdict(Header(RUN.id, 1, 1, 0))).encode(), b"state"
    rest = struct.pack(">IQ", len(head) + more_header, len(state) + more_state) + head + state
    with pytest.raises(DataError):
        unseal(MAGIC + hashlib.sha256(rest).digest() + rest, where="here")


@pytest.mark.parametrize("length", range(12))
def test_what_is_too_short_for_its_lengths_does_not_pass_under_a_right_checksum(length: int) -> None:
    with pytest.raises(DataError, match="cut short"):
        unseal(MAGIC + hashlib.sha256(bytes(length)).digest() + bytes(length), where="here")


@pytest.mark.parametrize(
    "fields", [{}, {"run_id": 3}, {"commit": "1"}, {"epoch": None}, {"step": 1.5}, {"step": True}, {"more": 1}, []]
)
def test_headers_that_are_none_are_noticed_under_a_right_checksum(fields: Any) -> None:
    whole = asdict(Header(RUN.id, 1, 1, 0))
    head = json.dumps({**whole, **fields} if fields else fields).encode()
    rest = struct.pack(">IQ", len(head), 0) + head
    with pytest.raises(DataError, match="header cannot be read"):
        unseal(MAGIC + hashlib.sha256(rest).digest() + rest, where="here")


def huge_checkpoint(path: Path, missing_bytes: int = 0) -> None:
    head = json.dumps(asdict(Header(RUN.id, 1, 1, 0))).encode()
    with path.open("wb") as file:
        file.write(MAGIC + bytes(32) + struct.pack(">IQ", len(head), _HUGE_BYTES) + head)
        file.truncate(file.tell() + _HUGE_BYTES - missing_bytes)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.stat().st_size > _HUGE_BYTES // 2:
            raise MemoryError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)


def test_a_checkpoint_that_is_a_link_to_nowhere_is_not_taken_for_none(tmp_path: Path) -> None:
    """The run would begin again, and its next checkpoint would replace the link."""
    folder = folder_in(tmp_path)
    commit(folder, 1)
    folder.checkpoint.unlink()
    folder.checkpoint.symlink_to("/annex/objects/checkpoint")
    with pytest.raises(Unreadable, match="it is a link to /annex/objects/checkpoint, which is not there"):
        checkpoint.load(folder, RUN.id)
    assert folder.checkpoint.is_symlink()


@pytest.mark.usefixtures("little_memory")
def test_a_checkpoint_that_is_too_large_for_the_memory_is_left_alone(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    commit(folder, 1)
    commit(folder, 2)
    huge_checkpoint(folder.checkpoint)
    with pytest.raises(Unreadable, match=r"checkpoint\.pt: cannot be read: not enough memory\n.*Free memory"):
        newest(folder)
    assert {path.name for path in folder.path.iterdir()} == {"checkpoint.pt", "checkpoint.previous.pt"}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("head", ["of another size", "none"])
def test_what_is_no_whole_checkpoint_is_put_aside_unread_whatever_its_size(head: str, tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    commit(folder, 1)
    commit(folder, 2)
    huge_checkpoint(folder.checkpoint, missing_bytes=1)
    if head == "none":
        with folder.checkpoint.open("r+b") as file:
            file.write(bytes(len(MAGIC)))
    assert newest(folder) == 1
    assert (folder.path / "checkpoint.pt.damaged").exists()


@pytest.mark.usefixtures("little_memory")
def test_weights_of_any_size_can_be_recorded_and_are_no_damage(tmp_path: Path) -> None:
    with (tmp_path / "weights.safetensors").open("wb") as file:
        file.truncate(_HUGE_BYTES)
    with pytest.raises(Unreadable, match="not enough memory"):
        read_weights(tmp_path / "weights.safetensors", KeptWeights(sha256="0" * 64, size_bytes=_HUGE_BYTES))


def swap(one: Path, other: Path) -> None:
    raw = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(raw)


@pytest.mark.parametrize(
    "other", [a_run(seed=1), a_run(column="ce"), a_run(seed=1, column="ce")], ids=lambda run: run.id
)
def test_the_checkpoint_of_another_run_is_put_aside(other: Run, tmp_path: Path) -> None:
    for run in (RUN, other):
        commit(folder_in(tmp_path, run), 1, run=run)
        commit(folder_in(tmp_path, run), 2, run=run)
    swap(folder_in(tmp_path).checkpoint, folder_in(tmp_path, other).checkpoint)
    loaded = checkpoint.load(folder_in(tmp_path), RUN.id)
    assert loaded.state is not None
    assert loaded.state["number"] == 1
    assert f"the checkpoint of another run, {other.id}" in loaded.problems[0]
    assert newest(folder_in(tmp_path, other), other) == 1


def test_of_swapped_checkpoints_the_newer_one_is_taken(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    commit(folder, 1)
    commit(folder, 2)
    swap(folder.checkpoint, folder.previous_checkpoint)
    assert newest(folder) == 2


def test_where_both_are_damaged_both_are_put_aside_and_the_run_begins_again(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    for _ in range(2):
        commit(folder, 1)
        commit(folder, 2)
        for path in (folder.checkpoint, folder.previous_checkpoint):
            path.write_bytes(path.read_bytes()[:-1])
        assert newest(folder) == 0
    assert {path.name for path in folder.path.iterdir()} == {
        f"{name}.damaged{number}" for name in ("checkpoint.pt", "checkpoint.previous.pt") for number in ("", "-2")
    }


def test_a_record_of_another_run_is_never_taken_for_this_one(tmp_path: Path) -> None:
    runs = [a_run(seed=0), a_run(seed=1), a_run(column="ce")]
    for run in runs:
        write_record(folder_in(tmp_path, run), a_record(run))
    for other in runs[1:]:
        swap(folder_in(tmp_path).record, folder_in(tmp_path, other).record)
        found = {str(one.path.relative_to(tmp_path)): one.problem for one in load_records(tmp_path)}
        assert "another run" in (found[f"{RUN.id}/run.json"] or "")
        assert "another run" in (found[f"{other.id}/run.json"] or "")
        swap(folder_in(tmp_path).record, folder_in(tmp_path, other).record)
