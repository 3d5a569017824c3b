"""From the results folder to a table: what is on disk, damaged files and odd folder names included."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from repro.experiment.config import find_table
from repro.results import RunFolder, load_records, write_record
from repro.results.record import Epochs
from repro.tables import gather, modified_siblings


def record_on_disk(fakes: ModuleType, results: Path, reference: str, row: str, column: str, seed: int) -> Path:
    run = fakes.run_of(find_table(reference), row, column, seed)
    folder = RunFolder.of(results, run)
    write_record(folder, fakes.fake_record(run))
    return folder.record


def test_records_are_found_and_damaged_ones_named_by_their_path(fakes: ModuleType, tmp_path: Path) -> None:
    paths = [record_on_disk(fakes, tmp_path, "table1", "resnet18", "ce", seed) for seed in range(4)]
    record_on_disk(fakes, tmp_path, "table1_variants", "resnet18_stride1", "bias", 0)
    paths[0].write_bytes(paths[0].read_bytes().replace(b'"last_top1_percent": 5', b'"last_top1_percent": 9'))
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    paths[2].write_bytes(paths[3].read_bytes())  # another seed's record, copied here, would count twice
    shown = gather(find_table("table1"), tmp_path)
    resnet = next(row for row in shown.rows if row.id == "resnet18")
    assert resnet.cells[0].ours is not None
    assert resnet.cells[0].ours.seeds == (3,)
    assert [one.path for one in shown.left_out] == [str(path) for path in paths[:3]]
    assert {one.why for one in shown.left_out} == {"unusable"}
    text = " ".join(note.text for note in shown.notes)
    assert all("`" + "/".join(path.parts[-6:]) + "`" in text for path in paths[:3])
    assert str(tmp_path) not in text  # a table may be shown to anybody
    assert [row.id for row in shown.rows if row.variant] == ["resnet18_stride1"]


def test_a_results_folder_whose_name_would_be_a_pattern_is_a_folder(fakes: ModuleType, tmp_path: Path) -> None:
    reference = "table1+recipe.decay_epochs=[3, 6]"
    results = tmp_path / "[results]*"
    record_on_disk(fakes, results, reference, "resnet18", "ce", 0)
    table = find_table(reference)
    assert "[" in table.id
    assert gather(table, results).recorded_runs == 1
    assert gather(find_table("table1"), results).recorded_runs == 0
    assert modified_siblings(find_table("table1"), results) == [(table.id, 1)]
    assert find_table(table.id) == table


def test_siblings_are_only_those_of_the_same_table_with_records(fakes: ModuleType, tmp_path: Path) -> None:
    assert modified_siblings(find_table("table1"), tmp_path / "absent") == []
    record_on_disk(fakes, tmp_path, "table1", "resnet18", "ce", 0)
    record_on_disk(fakes, tmp_path, "table1_variants+recipe.epochs=2", "resnet18_stride1", "ce", 0)
    (tmp_path / "table1+recipe.epochs=3").mkdir()
    assert modified_siblings(find_table("table1"), tmp_path) == []


def test_records_without_their_epochs_are_otherwise_the_same(fakes: ModuleType, tmp_path: Path) -> None:
    for seed in range(2):
        record_on_disk(fakes, tmp_path, "table1", "resnet18", "ce", seed)
    whole, short = (load_records(tmp_path, ["table1"], epochs=epochs) for epochs in (True, False))
    for one, other in zip(whole, short, strict=True):
        assert one.record is not None
        assert len(one.record.epochs) == 90
        assert other.record == one.record.model_copy(update={"epochs": Epochs()})


def test_tables_need_nothing_heavy() -> None:
    program = (
        "import sys; from pathlib import Path; from repro.experiment.config import find_table; "
        "from repro.tables import RENDERERS, gather; tables = [gather(find_table('table1'), Path('absent'))]; "
        "[RENDERERS[name](tables, '') for name in RENDERERS if name != 'csv']; "
        "print({'torch', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == "set()"


def test_a_table_reads_each_record_once(fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [
        record_on_disk(fakes, tmp_path, "table1", "resnet18", column, seed)
        for column in ("ce", "bias")
        for seed in range(3)
    ]
    read: Counter[Path] = Counter()
    read_bytes = Path.read_bytes

    def counting(path: Path) -> bytes:
        read[path] += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    assert gather(find_table("table1"), tmp_path).recorded_runs == len(paths)
    assert read == dict.fromkeys(paths, 1)
