"""Every guard removed in turn from a copy of the package: a test must notice each time, by what the package then does.

``python tests/reliability/mutations.py`` runs all of them and prints the score; ``--only WORD`` picks by the guard's
name or file. A mutation that is no program any more, or whose tests fail over a name that it took away, counts as
broken, not as killed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# How Python says that a program is none: a guard's absence must show in what the program does.
_NO_PROGRAM = re.compile(
    r"\b(SyntaxError|IndentationError|NameError|UnboundLocalError|ImportError|ModuleNotFoundError)"
)
_OPTION = re.compile(r" (-[km]) ")


@dataclass(frozen=True)
class Mutation:
    """A guard, the source that is it, what stands there without it, and the tests that must then fail."""

    guard: str
    file: str
    source: str
    without: str
    tests: str

    def applied_to(self, text: str) -> str:
        """The module's text without the guard. Raises ValueError where its source is not there exactly once."""
        if text.count(self.source) != 1:
            raise ValueError(f"{self.guard}: {self.file} has its source {text.count(self.source)} times, not once")
        mutated = text.replace(self.source, self.without)
        compile(mutated, self.file, "exec")
        return mutated


def all_mutations() -> list[Mutation]:
    """What mutations.toml lists."""
    groups = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["group"]
    return [
        Mutation(file=one["file"], tests=one["tests"], **mutation) for one in groups for mutation in one["mutation"]
    ]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="run the mutations whose guard or file holds this")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = options.parse_args()
    wanted = [one for one in all_mutations() if chosen.only in one.guard or chosen.only in one.file]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(chosen.jobs) as workers:
        sound = copy_package(Path(folder))
        selections = sorted({mutation.tests for mutation in wanted})
        for tests, (code, said) in zip(
            selections, workers.map(lambda it: run_tests(sound, it), selections), strict=True
        ):
            if code:
                print(f"these tests fail without any mutation: {tests}\n{said}")
                return 2
        outcomes = Counter(workers.map(lambda mutation: outcome(mutation, Path(folder)), wanted))
    print(f"{outcomes['killed']} of {len(wanted)} mutations killed, {time.monotonic() - began:.0f} s")
    return int(outcomes["killed"] < len(wanted))


def outcome(mutation: Mutation, folder: Path) -> str:
    """What becomes of the mutation: ``killed``, ``SURVIVED``, or ``BROKEN`` where it proves nothing; says so."""
    place = copy_package(folder)
    module = place / "repro" / mutation.file
    module.write_text(mutation.applied_to(module.read_text(encoding="utf-8")), encoding="utf-8")
    undefined = check(module)
    code, said = (2, undefined) if undefined else run_tests(place, mutation.tests)
    shutil.rmtree(place)
    reasons = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    reason = reasons[-1].partition(" - ")[2] if reasons else ""
    if code not in (0, 1) or _NO_PROGRAM.search(reason):
        word, reason = "BROKEN", reason or said
    else:
        word = "killed" if code else "SURVIVED"
    print(f"{word:<9} {mutation.file}: {mutation.guard}{f' ({reason[:90]})' if reason else ''}", flush=True)
    return word


def check(module: Path) -> str:
    """What the linter says of names that are not there; nothing where all are."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E9,F821,F822,F823", str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode else ""


def copy_package(folder: Path) -> Path:
    """A copy of the package, with what it reads beside it, in a folder of its own."""
    place = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(ROOT / "repro", place / "repro", ignore=shutil.ignore_patterns("__pycache__"))
    for folder_beside in ("experiments", "docs"):
        shutil.copytree(ROOT / folder_beside, place / folder_beside)
    return place


def run_tests(place: Path, tests: str) -> tuple[int, str]:
    """Run tests against the package in ``place``: pytest's exit code, and the end of what it said."""
    files, *options = _OPTION.split(tests)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "--timeout", "120"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command += [*(str(ROOT / file) for file in files.split()), *options]
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


if __name__ == "__main__":
    sys.exit(main())
