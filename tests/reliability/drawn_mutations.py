"""Mutations drawn by chance over whole modules with cosmic-ray's operators: how many do the tests notice?

``pip install cosmic-ray``, then ``python tests/reliability/drawn_mutations.py --count 200 --seed 1`` prints each
outcome and the score. Lines are drawn evenly, then one operator that applies to the line, so that arithmetic, for which
there are most operators, is not drawn most. What changes only annotations, docstrings or the text of messages is not
drawn.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from mutations import ROOT, copy_package, run_tests

from repro.engine.code_hash import _text

# What is drawn from, and the tests that must notice.
PARTS = {
    "results/*.py": "tests/results tests/reliability/test_damage.py tests/reliability/test_ownership.py "
    "tests/reliability/test_verify_command.py tests/sweep/test_survey.py tests/cli/test_unread_records.py -m not slow",
    "analysis/stats/*.py": "tests/analysis -m not slow",
    "losses.py": "tests/test_losses.py -m not slow",
    "tables/*.py": "tests/tables -m not slow",
}


def positions(source: str) -> dict[int, list[tuple[str, int]]]:
    """The mutations of a module by line: the name of an operator, and which of its occurrences."""
    nodes = list(ast_nodes(get_ast(source)))
    found = defaultdict(list)
    for name in sorted(operator_names()):
        if get_operator(name).arguments():
            continue
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            for (line, _), _ in operator.mutation_positions(node):
                found[line].append((name, occurrence))
                occurrence += 1
    return found


def drawn(count: int, seed: int, parts: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """File, mutated text, the change in words, and tests; each mutation once."""
    draw, seen = random.Random(seed), set()
    modules = [(path, tests) for part, tests in PARTS.items() if part in parts for path in ROOT.glob(f"repro/{part}")]
    sources = {path: path.read_text(encoding="utf-8") for path, _ in modules}
    places = {path: positions(source) for path, source in sources.items()}
    lines = sorted((path, line, tests) for path, tests in modules for line in places[path])
    while len(seen) < count:
        path, line, tests = draw.choice(lines)
        name, occurrence = draw.choice(places[path][line])
        mutated = mutate_code(sources[path], get_operator(name)(), occurrence)
        if mutated is None or mutated in seen or says_the_same(sources[path], mutated):
            continue
        seen.add(mutated)
        changed = [
            text.strip()
            for text in difflib.ndiff(sources[path].splitlines(), mutated.splitlines())
            if text.startswith(("- ", "+ "))
        ]
        yield path.relative_to(ROOT / "repro").as_posix(), mutated, f"{line}: {'  '.join(changed)}", tests


def says_the_same(source: str, mutated: str) -> bool:
    """Whether a mutation changes annotations, docstrings or texts alone, or is no program."""
    try:
        return _text(ast.parse(source)) == _text(ast.parse(mutated))
    except SyntaxError:
        return True


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--jobs", type=int, default=2)
    chosen = options.parse_args()
    began = time.monotonic()
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(chosen.jobs) as workers:

        def outcome(mutation: tuple[str, str, str, str]) -> None:
            file, mutated, change, tests = mutation
            place = copy_package(Path(folder))
            (place / "repro" / file).write_text(mutated, encoding="utf-8")
            code, _ = run_tests(place, tests)
            shutil.rmtree(place)
            word = "killed" if code else "SURVIVED"
            outcomes[file.partition("/")[0]][word] += 1
            print(f"{word:<9} {file}:{change}", flush=True)

        list(workers.map(outcome, drawn(chosen.count, chosen.seed, chosen.parts)))
    for part, counts in sorted(outcomes.items()):
        print(f"{part}: {counts['killed']} of {counts.total()} killed")
    print(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
