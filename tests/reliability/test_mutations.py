"""The list of mutations does not rot: each guard is still there once, still a program without it, and has its tests."""

from __future__ import annotations

from collections import Counter

import pytest
from mutations import ROOT, Mutation, all_mutations

MUTATIONS = all_mutations()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.file}: {mutation.guard}")
def test_a_guard_can_be_taken_out(mutation: Mutation) -> None:
    text = (ROOT / "repro" / mutation.file).read_text(encoding="utf-8")
    assert mutation.applied_to(text) != text
    for file in mutation.tests.partition(" -")[0].split():
        path, _, test = file.partition("::")
        assert (ROOT / path).exists()
        assert not test or f"def {test}" in (ROOT / path).read_text(encoding="utf-8")


def test_no_guard_is_listed_twice() -> None:
    twice = [guard for guard, count in Counter((one.file, one.guard) for one in MUTATIONS).items() if count > 1]
    assert not twice
