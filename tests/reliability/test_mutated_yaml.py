"""Ten thousand mutated experiment files through the command line: a table, or exit 2 with file, line and column."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import typer

import repro.cli
from repro.experiment.config import builtin_folder

PARTS, FILES_A_PART = 10, 1_000


@pytest.fixture(scope="module")
def mutations(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """The mutations that tests/experiment/test_config_mutations.py makes."""
    return load_file(Path(__file__).parents[1] / "experiment" / "test_config_mutations.py")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_mutated_file_is_a_table_or_exit_2_with_its_place(
    part: int,
    own_text: str,
    mutations: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    proved: Callable[[str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    # Typer makes its commands anew at every call, which would take most of the time.
    monkeypatch.setattr(repro.cli, "app", typer.main.get_command(repro.cli.app))
    longer = [path.read_text() for path in sorted(builtin_folder().glob("*.yaml"))]
    shorter = [own_text, (builtin_folder() / "demo.yaml").read_text()]  # most of the time goes into PyYAML
    codes: Counter[int] = Counter()
    for number in range(FILES_A_PART):
        draw = random.Random(f"{part} {number}")
        raw = mutations.mutated(draw.choice(shorter if number % 8 else longer), draw)
        Path("m.yaml").write_bytes(raw)
        code = repro.cli.run(["status", "m.yaml"])
        codes[code] += 1
        _, err = capfd.readouterr()
        assert code in (0, 2), (part, number, err)
        assert "Traceback" not in err, (part, number, err)
        if code == 2:
            first, *others = err.removeprefix("error: ").splitlines()
            assert re.match(r"m\.yaml:\d+:\d+: \S", first), (part, number, err)
            lines = raw.count(b"\n") + raw.count(b"\r") + 1
            assert int(first.split(":")[1]) <= lines + 1, (part, number, err)
            for line in others:
                assert re.match(r"m\.yaml:\d+:\d+: \S|  \S|\.\.\. and [\d,]+ more problems", line), (part, number, err)
        else:
            assert err == "", (part, number, err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.yaml", "results"]
    assert codes[0] > 20  # else the mutations were too coarse to reach the schema
    proved(f"mutated YAML, part {part}: {codes[2]} refused with their place, {codes[0]} still right, 0 tracebacks")
