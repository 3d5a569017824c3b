"""The worked example of docs/your-own.md, from nothing to the report, as a reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import repro

DOCUMENT = Path(repro.__file__).parent.parent / "docs" / "your-own.md"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not DOCUMENT.is_file(), reason="installed, not checked out")
def test_the_worked_example_gives_its_report(tmp_path: Path) -> None:
    example = DOCUMENT.read_text("utf-8").partition("## A worked example")[2].partition("\n## ")[0]
    blocks = re.findall(r"```(python|yaml|console)\n(.*?)```", example, flags=re.DOTALL)
    for kind, text in blocks[:2]:
        name = text.splitlines()[0].removeprefix("# ")
        assert Path(name).suffix == {"python": ".py", "yaml": ".yaml"}[kind]
        (tmp_path / name).write_text(text, "utf-8")
    commands = ["python digits.py", *blocks[2][1].splitlines()]
    for command in commands:
        words = command.partition(" #")[0].split()
        program = [sys.executable, "-m", "repro"] if words[0] == "biasrepro" else [sys.executable]
        done = subprocess.run([*program, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=800)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    page = (tmp_path / "my_images.html").read_text("utf-8")
    assert "15 of 15 planned runs recorded" in page
    assert "What the controls tell" in page
    assert "AdamW, learning rate 0.002, falling to 0 along a cosine" in page
