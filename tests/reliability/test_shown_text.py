"""Texts of others (records, notes, names of folders) control no terminal, and forge no line of what is shown."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commits import a_record, a_run, folder_in
from rich.live import Live
from rich.text import Text

import repro.cli
from repro.cli.console import _FilteringConsole
from repro.results import write_failure, write_record
from repro.results.record import from_bytes, sealed, to_bytes
from repro.wording import one_line, printable, shell_line

EVIL = "x\x1b[2J\x9b1A\u202e\x07\nFORGED: done\r\u2028FORGED\udcff"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder whose name, records and notes are hostile."""
    folder = tmp_path / EVIL.replace("/", "")
    provenance = a_record().provenance.model_dump()
    texts = dict.fromkeys(("device_name", "driver", "host", "command", "platform", "data_source"), EVIL)
    texts |= {"changes_accepted": (EVIL,), "packages": {EVIL: EVIL}, "started_at": EVIL}
    for seed in (0, 1):
        run = a_run(seed=seed)
        raw = to_bytes(a_record(run)).rpartition(b',\n  "seal"')[0]
        for name, value in texts.items():
            raw = raw.replace(_field(name, provenance[name]), _field(name, value))
        write_record(folder_in(folder, run), a_record(run))
        folder_in(folder, run).record.write_bytes(sealed(raw))
    foreign = folder_in(folder, a_run(seed=1)).path.parent / "seed-7"
    foreign.mkdir()
    (foreign / "run.json").write_bytes(folder_in(folder, a_run(seed=1)).record.read_bytes())
    write_failure(folder_in(folder, a_run(seed=2)), EVIL.encode("utf-8", "replace").decode())
    (folder / f"mine{EVIL}" / "a" / "b" / "seed-0").mkdir(parents=True)
    (folder / f"mine{EVIL}" / "a" / "b" / "seed-0" / "run.json").write_text("{}")
    (folder / "demo" / EVIL).mkdir()
    return folder


def _field(name: str, value: Any) -> bytes:
    from json import dumps

    return f'"{name}": {dumps(value, ensure_ascii=False)}'.encode(errors="replace")


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "demo"],
        ["table", "demo"],
        *(["table", "demo", "-f", name] for name in ("json", "html", "csv", "latex")),
        ["report", "demo", "-f", "markdown"],
        ["export"],
        ["train", "demo", "--seed", "7"],
        ["sweep", "demo", "--dry-run", "--no-measure", "--device", "cpu"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_no_command_shows_control_characters_or_forged_lines(
    command: list[str], results: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    code = repro.cli.run([*command, str(results)] if command == ["verify"] else [*command, "--results", str(results)])
    out, err = capfdbinary.readouterr()
    said = (out + err).decode()
    assert "Traceback" not in said, said
    assert code in (0, 1, 2)
    assert "FORGED" in said
    for line in said.split("\n"):
        assert line.isprintable() or printable(line) == line, ascii(line)
        assert not line.startswith("FORGED"), line


@pytest.mark.parametrize("name", ["json", "html", "csv", "latex", "markdown"])
def test_files_are_written_from_a_folder_whose_name_is_no_text(name: str, results: Path, tmp_path: Path) -> None:
    output = tmp_path / "table"
    assert repro.cli.run(["table", "demo", "-f", name, "-o", str(output), "--results", str(results)]) == 0
    assert "\x1b" not in output.read_text()


def test_a_record_holds_no_control_character() -> None:
    record = a_record().model_copy(update={"reason": EVIL})
    assert from_bytes(to_bytes(record), where="").reason == one_line(EVIL.encode(errors="replace").decode())


def test_the_live_display_shows_none_either() -> None:
    file = io.StringIO()
    console = _FilteringConsole(file=file, force_terminal=True, width=200, color_system="truecolor", markup=False)
    with Live(Text(f"live {EVIL}"), console=console, refresh_per_second=1):
        console.print(Text(f"above {EVIL}", style="bold"))
    said = file.getvalue()
    is_styled, is_escaped = "\x1b[1m" in said, r"\x1b[2J" in said
    controls = [ascii(text) for text in ("\x1b[2J", "\x9b", "\u202e", "\x07", "\u2028") if text in said]
    assert (is_styled, is_escaped, controls) == (True, True, [])


@pytest.mark.parametrize("word", [EVIL, "it's\\n\n", "\x9b\U000e0001é😀", "plain", "a b"])
def test_a_shell_reads_back_the_words_of_a_command(word: str) -> None:
    line = shell_line(["printf", "%s", word])
    assert printable(line) == line
    assert "\n" not in line
    said = subprocess.run(["bash", "-c", line], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert os.fsdecode(said) == word


def test_joined_letters_and_emoji_are_shown() -> None:
    for text in ("می\N{ZERO WIDTH NON-JOINER}خواهم", "👩\N{ZERO WIDTH JOINER}💻", "a\N{NO-BREAK SPACE}b", "日本"):
        assert one_line(text) == text


def test_control_characters_become_escapes() -> None:
    assert one_line("a\x1b[2J\x9b\u202e\u2028\ufeff\nb") == r"a\x1b[2J\u009b\u202e\u2028\ufeff\nb"
    assert one_line("b\udcff") == r"b\xff"
    assert printable("a\n\tb\x07") == "a\n\tb\\x07"
