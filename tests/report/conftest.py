from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from repro.analysis.evidence import Evidence
from repro.analysis.runs import Metric
from repro.experiment.config import find_table
from repro.report.contents import Report, report_on
from repro.results import Found

HOSTILE = "</script><script>alert(1)</script><b onmouseover=alert(2)>&amp;`x` {{ 7 * 7 }} '\""


@pytest.fixture(scope="session")
def report_of(fake_runs: Any) -> Callable[..., Report]:
    """The report on ``found``, with sections for the paper's tables and for ``more``."""

    def make(found: Sequence[Found] = (), more: Sequence[str] = (), *, metric: Metric = "last") -> Report:
        papers = [find_table("table1"), find_table("table2")]
        sections = [*papers, *map(find_table, more)]
        return report_on(papers, sections, find_table("product"), Evidence(list(found), metric=metric))

    return make


@pytest.fixture(scope="session")
def some_found(fake_runs: Any) -> list[Found]:
    """Part of both tables, the demo, a changed protocol, and every kind of trouble."""
    table1, table2, demo = map(find_table, ("table1", "table2", "demo"))
    changed = find_table("table1+recipe.epochs=3")
    found = [one for one in fake_runs.of(table1, range(4)) if one.record.row in ("shufflenetv2", "resnet18")]
    found += [
        one
        for one in fake_runs.of(table2, range(3))
        if one.record.row == "squeezenet" and one.record.column in ("ce", "bias")
    ]
    first = found.pop(0).record
    found += fake_runs.of(demo, range(2))
    found += fake_runs.of(changed, [0])[:2]
    lost = {"status": "diverged", "reason": f"the loss is nan {HOSTILE}", "last_top1_percent": None}
    found.append(fake_runs.found(first.model_copy(update=lost)))
    resumed = found[0].record
    provenance = {"git_dirty": True, "resumptions": 2, "changes_accepted": ("torch 2.14 -> 2.15",), "host": "node-b"}
    provenance["device_name"] = "a lone ` <b onmouseover=alert(3)>"
    found[0] = fake_runs.found(
        resumed.model_copy(update={"provenance": resumed.provenance.model_copy(update=provenance)})
    )
    return found
