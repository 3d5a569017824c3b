from __future__ import annotations

import os
import random
import re
from pathlib import Path

from repro.errors import UserError
from repro.experiment.config import builtin_folder, find_table, load_table

SHARDS = [
    *(
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "? ",
        "<<: ",
        "&a ",
        "*a",
        "!",
        "!!python/name:os.system ",
        "|",
        ">",
        '"',
        "'",
    ),
    *("\t", "\r", "\n", "\0", "\ufeff", "\u2028", "---\n", "...\n", "%YAML 9.9\n", "#", "@", "`", ",", "  ", "\\"),
    *("null", "~", "true", "-1", "1.0", "-0.0", ".nan", ".inf", "1e999", "1e-999", "0x10", "010", "1:30", "9" * 5000),
    *(
        "[" * 30,
        "{a: " * 30,
        '"\\ud800"',
        '"\\ud800": 1\n',
        '"\\x1b[31m"',
        '"\\U00110000"',
        "é中\U0001f600",
        "interval: 3\n",
        '"a\\tb": ',
    ),
]


def mutated(text: str, draw: random.Random) -> bytes:
    """``text`` with one to eight edits: shards put in, pieces cut, repeated, moved, indentation and bytes changed."""
    for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
        start = draw.randrange(len(text) + 1)
        end = start + draw.choice([0, 1, 3, 10, 100])
        lines = text.split("\n")
        line, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        values = list(re.finditer(r"[:,\[] *([^\s,{}\[\]:]+)", text))
        match draw.randrange(6):
            case 0:
                text = text[:start] + draw.choice(SHARDS) + text[end:]
            case 1:
                text = text[:start] + text[end:]
            case 2:
                text = text[:end] + text[start:]
            case 3:
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
            case 4:
                lines[line] = " " * draw.randrange(4) + lines[line].lstrip()
                text = "\n".join(lines)
            case 5 if values:
                value = draw.choice(values)
                text = text[: value.start(1)] + draw.choice(SHARDS) + text[value.end(1) :]
    raw = bytearray(text.encode())
    if raw and draw.random() < 0.1:
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    return bytes(raw)


def test_a_mutated_file_is_a_table_or_a_readable_refusal(tmp_path: Path) -> None:
    texts = [path.read_text() for path in sorted(builtin_folder().glob("*.yaml"))]
    file = tmp_path / "mutated.yaml"
    accepted = 0
    for seed in range(int(os.environ.get("BIASREPRO_MUTATIONS", "500"))):
        draw = random.Random(seed)
        file.write_bytes(mutated(draw.choice(texts), draw))
        try:
            table = load_table(file)
        except UserError as error:
            told = str(error)
            assert told.startswith(str(file)), (seed, told)
            assert all(line.isprintable() for line in told.split("\n")), (seed, told)
            assert len(told) < 4_000, (seed, told)
        else:
            accepted += 1
            assert find_table(table.reference) == table, seed
            assert all(len(cell.hash) == 64 for cell in table.cells), seed
    assert accepted > 20, "most mutations should be small enough to reach the schema"
