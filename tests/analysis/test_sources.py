"""Records of a plugin that this machine does not have: they are shown, and versions are never averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.analysis.preregistration import declare, read_declaration
from repro.analysis.runs import count_runs, equal_cells
from repro.analysis.stats.alpha_spending import Looks
from repro.errors import ConfigError, DataError
from repro.experiment.catalog import builder_of, loss, network
from repro.experiment.config import load_table
from repro.experiment.plugins import PLUGINS, Plugin
from repro.experiment.schema import Run, Table
from repro.losses import build_loss
from repro.models import build_model
from repro.results import RunFolder, RunRecord, write_record
from repro.sweep.survey import Stage, survey

FIRST, SECOND = "1" * 64, "2" * 64


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Makes this machine know a version of the plugin, or none."""

    def know(sha256: str | None) -> None:
        if sha256 is None:
            monkeypatch.delitem(PLUGINS, "my_study", raising=False)
        else:
            monkeypatch.setitem(PLUGINS, "my_study", Plugin("my_study", Path("my_study.py"), sha256))

    return know


@pytest.fixture
def table(own: Path) -> Table:
    text = own.read_text().replace("model: squeezenet", "model: my_study/tinynet")
    own.write_text(text)
    return load_table(own)


def recorded(table: Table, fake_runs: Any, version: Callable[..., None], versions: list[str]) -> list[RunRecord]:
    records: list[RunRecord] = []
    for seed, sha256 in enumerate(versions):
        version(sha256)
        for cell in table.cells:
            records.append(fake_runs.record(Run(cell=cell, seed=seed)))
    version(None)
    return records


def test_the_configuration_names_the_version_that_is_known(table: Table, version: Callable[..., None]) -> None:
    run = Run(cell=table.cells[0], seed=0)
    assert "sources" not in run.configuration()
    unknown = run.hash
    version(FIRST)
    assert run.configuration()["sources"] == {"my_study": FIRST}
    known = run.hash
    version(SECOND)
    assert len({unknown, known, run.hash}) == 3


def test_records_count_where_the_plugin_is_unknown(table: Table, fake_runs: Any, version: Callable[..., None]) -> None:
    records = recorded(table, fake_runs, version, [FIRST, FIRST])
    counted, _ = count_runs([table], records)
    assert [runs.n for runs in counted.values()] == [2] * len(table.cells)
    version(FIRST)
    counted, _ = count_runs([table], records)
    assert [runs.n for runs in counted.values()] == [2] * len(table.cells)
    version(SECOND)
    counted, _ = count_runs([table], records)
    for runs in counted.values():
        assert runs.n == 0
        (reason,) = {entry.reason for entry in runs.left_out}
        assert reason.startswith("recorded under another configuration: sources.my_study is ")


def test_versions_are_never_averaged(
    table: Table, fake_runs: Any, version: Callable[..., None], tmp_path: Path
) -> None:
    records = recorded(table, fake_runs, version, [FIRST, SECOND, SECOND])
    why = "recorded with another version of the plugin my_study than most: --plugin my_study.py says which counts"
    counted, _ = count_runs([table], records)
    for runs in counted.values():
        assert runs.seeds == (1, 2)
        assert [(entry.seed, entry.why, entry.detail) for entry in runs.left_out] == [(0, "configuration", why)]
    for record in records:
        write_record(RunFolder(tmp_path / record.id), record)
    runs = [Run(cell=cell, seed=seed) for cell in table.cells for seed in range(4)]
    states = survey(tmp_path, runs)
    first = [states[f"{table.cells[0].id}/seed-{seed}"] for seed in range(4)]
    assert [state.stage for state in first] == [Stage.FOREIGN, Stage.COMPLETED, Stage.COMPLETED, Stage.MISSING]
    assert first[0].detail == why


def test_any_other_difference_still_counts(
    table: Table, fake_runs: Any, version: Callable[..., None], own: Path
) -> None:
    records = recorded(table, fake_runs, version, [FIRST])
    changed = load_table(own, ["recipe.learning_rate=0.7"]).model_copy(update={"overrides": ()})
    counted, _ = count_runs([changed], records)
    assert [runs.n for runs in counted.values()] == [0] * len(table.cells)


def test_a_cell_of_an_unknown_version_borrows_nothing(table: Table, version: Callable[..., None]) -> None:
    other = table.model_copy(update={"table": "other"})
    assert equal_cells(table, [other]) == {}
    version(FIRST)
    assert len(equal_cells(table, [other])) == len(table.cells)


def test_a_preregistration_holds_without_the_plugin(table: Table, version: Callable[..., None], tmp_path: Path) -> None:
    version(FIRST)
    declare(tmp_path, table, Looks((5, 10), "pocock"))
    version(None)
    assert read_declaration(tmp_path, table) is not None
    version(SECOND)
    with pytest.raises(DataError, match="for a different configuration"):
        read_declaration(tmp_path, table)


def test_what_is_built_needs_the_file(version: Callable[..., None]) -> None:
    for build, what in ((lambda: build_model("my_study/x", 10), "network"), (lambda: build_loss("my_study/x"), "loss")):
        with pytest.raises(ConfigError) as caught:
            build()
        assert str(caught.value) == f"the {what} my_study/x comes from a plugin\n  Give its file: --plugin my_study.py"
    version(FIRST)
    with pytest.raises(ConfigError, match=r"my_study.py: the plugin my_study registers no network 'x'"):
        builder_of(network("my_study/x"))
    with pytest.raises(ConfigError, match="unknown loss 'bais'"):
        loss("bais")
