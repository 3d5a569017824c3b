"""``biasrepro import``: all or nothing, marked wherever it is shown, in no verdict on the paper unless asked."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import repro
from repro.experiment.config import builtin_folder, load_table
from repro.experiment.schema import Run
from repro.results import RunFolder, load_records, write_record
from repro.results.store import write_failure

Say = Callable[..., Any]
RUNS = "row,column,seed,top1\n" + "".join(
    f"squeezenet,{column},{seed},{90 + seed / 4 + len(column)}\n" for column in ("ce", "bias") for seed in range(3)
)
PAPERS = RUNS.replace("9", "6")
DOCUMENT = Path(repro.__file__).parents[1] / "docs" / "compare-and-import.md"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "runs.csv"
    file.write_text(RUNS)
    return file


def records(results: Path) -> list[Path]:
    return sorted(results.rglob("run.json"))


def test_a_study_counts_them_with_a_mark_everywhere(say: Say, own: Path, runs: Path) -> None:
    done = say("import", runs, "--table", own)
    assert (done.code, done.err) == (0, "")
    assert "6 runs imported into results/mine" in done.out
    assert "claimed by the file, not verified" in done.out
    table = say("table", own, "--verdicts", "words")
    assert re.search(r"ours +\| – +\| 92\.25 ± 0\.25 \(n=3\) \[a\]", table.out)
    assert "[a] 6 runs imported from `runs.csv`, not trained by biasrepro" in table.out
    cells = json.loads(say("table", own, "-f", "json").out)["tables"][0]["rows"][0]["cells"]
    assert [cell["imported_seeds"] for cell in cells] == [[0, 1, 2], [0, 1, 2]]
    assert "imported_seeds" in say("table", own, "-f", "csv").out
    assert "imported from `runs.csv`" in say("report", own, "-f", "markdown").out
    assert "Imported: 6 runs, not trained by biasrepro, from runs.csv (6)" in say("report", own, "-f", "markdown").out
    assert "0/5, 3 imported" in say("status", own).out
    assert "6 records imported" in say("verify", "results").out
    exported = list(csv.DictReader(io.StringIO(say("export", "--level", "runs").out)))
    assert [row["imported"] for row in exported] == ["runs.csv"] * 6
    unknown = ("device_name", "biasrepro", "started_at", "finished_at", "resumptions", "duration_seconds")
    assert {row[name] for row in exported for name in unknown} == {""}
    assert "6 runs imported, not trained by biasrepro: in it." in say("figure", "deltas", own, "-o", "deltas.svg").out


def test_the_paper_counts_them_only_if_asked(say: Say, runs: Path) -> None:
    runs.write_text(PAPERS)
    assert "--count-imported" in say("import", runs, "--table", "table2").out
    shown = say("table", "table2", "--verdicts", "words")
    assert "(n=3)" not in shown.out
    assert "6 runs trained elsewhere: left out" in shown.out
    assert "6 runs trained elsewhere left out: --count-imported counts them" in shown.err
    asked = say("table", "table2", "--verdicts", "words", "--count-imported", "-f", "json").out
    [row] = [row for row in json.loads(asked)["tables"][0]["rows"] if row["id"] == "squeezenet"]
    assert row["cells"][-1]["judgement"]["verdict"] is not None
    assert "table2 --format json --metric last --verdicts words --count-imported" in asked
    assert "0 of" in (page := say("report", "-f", "markdown").out)
    assert "6 records: trained elsewhere and imported." in page
    page = say("report", "-f", "markdown", "--count-imported").out
    assert "6 runs behind these answers imported, not trained by biasrepro" in page


def test_where_all_places_are_taken_no_sweep_is_said_to_train_the_rest(say: Say, runs: Path) -> None:
    runs.write_text(PAPERS)
    say("import", runs, "--table", "table2")
    part = ("--rows", "squeezenet", "--columns", "ce")
    said = say("table", "table2", *part).err
    assert "0 of 5 runs recorded; `biasrepro sweep table2" in said  # two seeds are left
    assert "--count-imported counts them" in said
    for seed in (3, 4):
        runs.write_text(f"row,column,seed,top1\nsqueezenet,ce,{seed},61\n")
        assert say("import", runs, "--table", "table2").code == 0
    assert "sweep" not in say("table", "table2", *part).err
    best = say("table", "table2", *part, "--metric", "best", "--count-imported").err
    assert "--count-imported counts them" not in best


def test_images_of_another_size_are_decoded_by_the_command_of_the_hint(
    say: Say, own: Path, own_text: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIASREPRO_DATA", "data")
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (runs.parent / "birds" / place).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(runs.parent / "birds" / place / "0.png")
    own.write_text(own_text.replace("{name: digits}", "{name: folder, path: birds, image_size: 32}"))
    words = ("import", runs, "--table", own, "--set", "dataset.image_size=64")
    [command] = re.findall(r"Decode the images first: `biasrepro (.+?)`", say(*words).err)
    decoded = say(*shlex.split(command))
    assert (decoded.code, "of 64x64 pixels" in decoded.out) == (0, True)
    assert f"Next: biasrepro sweep {own}+dataset.image_size=64 --dry-run" in decoded.out
    assert say(*words).code == 0


def test_nothing_is_written_if_one_place_is_taken(say: Say, own: Path, runs: Path, fake_runs: Any) -> None:
    cell = load_table(own).cells[1]
    trained = fake_runs.record(Run(cell=cell, seed=2))
    write_record(RunFolder(Path("results") / trained.id), trained)
    refused = say("import", runs, "--table", own)
    assert refused.code == 2
    assert "1 run is here already:\n  mine/squeezenet/bias/seed-2 (line 7): done" in refused.err
    assert "Nothing was imported." in refused.err
    assert len(records(Path("results"))) == 1
    shutil.rmtree("results")
    write_failure(RunFolder(Path("results") / trained.id), "out of memory")
    assert "seed-2 (line 7): failed (out of memory)" in say("import", runs, "--table", own).err
    assert records(Path("results")) == []


def test_a_failure_takes_back_what_was_written(
    say: Say, own: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(folder: RunFolder, record: Any) -> None:
        if folder.path.name == "seed-2":
            raise OSError(28, "No space left on device")
        write_record(folder, record)

    monkeypatch.setattr("repro.results.write_record", failing)
    assert say("import", runs, "--table", own).code == 2
    assert records(Path("results")) == []


def test_importing_twice_changes_nothing_and_another_file_is_refused(say: Say, own: Path, runs: Path) -> None:
    say("import", runs, "--table", own)
    before = [path.read_bytes() for path in records(Path("results"))]
    assert (
        "0 runs imported into results/mine; 6 of this file were there already"
        in say("import", runs, "--table", own).out
    )
    runs.write_text(RUNS.replace("squeezenet,ce,0,92.0", "squeezenet,ce,0,93.0"))
    assert "seed-0 (line 2): imported (from runs.csv)" in say("import", runs, "--table", own).err
    assert [path.read_bytes() for path in records(Path("results"))] == before


def test_the_printed_command_undoes_it(say: Say, own: Path, runs: Path) -> None:
    done = say("import", runs, "--table", own)
    [undo] = re.findall(r"^undo +(.*)$", done.out, flags=re.MULTILINE)
    subprocess.run(["sh", "-c", undo], check=True)
    assert records(Path("results")) == []
    assert say("import", runs, "--table", own).code == 0


def test_fractions_are_warned_of(say: Say, own: Path, runs: Path) -> None:
    runs.write_text("row,column,seed,top1\nsqueezenet,ce,0,0.43\n")
    assert "0.43 is 0.43 %, not 43 %" in say("import", runs, "--table", own).err


def test_a_sweep_leaves_them_alone(say: Say, own: Path, runs: Path) -> None:
    say("import", runs, "--table", own)
    plan = say("sweep", own, "--seeds", "3", "--dry-run", "--device", "cpu").out
    assert "0 to train, 6 finished" in plan
    assert "6 finished ones are imported, not trained here" in plan


def test_no_table_borrows_them(say: Say, runs: Path) -> None:
    runs.write_text("row,column,seed,top1\nshufflenetv2,ce,0,43\n")
    assert say("import", runs, "--table", "tiny20").code == 0
    own = Path("again.yaml")
    own.write_text((builtin_folder() / "tiny20.yaml").read_text().replace("table: tiny20", "table: again"))
    assert "again/" not in say("status", own).out
    assert "recorded under tiny20" not in say("status", own).out
    assert "recorded under" not in say("table", own).out


def test_a_table_with_imported_runs_is_not_preregistered(say: Say, runs: Path) -> None:
    runs.write_text(PAPERS)
    assert say("import", runs, "--table", "table2").code == 0
    refused = say("plan", "table2", "--looks", "3,5", "--declare", "--unseen")
    assert refused.code == 2
    assert "a preregistered table takes no imported runs, and here 6 are there" in refused.err
    assert not Path("results/table2/looks.json").exists()


def test_a_preregistered_table_takes_none(say: Say, runs: Path) -> None:
    runs.write_text(PAPERS)
    assert say("plan", "table2", "--looks", "5,10", "--declare").code == 0
    refused = say("import", runs, "--table", "table2")
    assert (refused.code, records(Path("results"))) == (2, [])
    assert "looks.json: table2 is preregistered" in refused.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.csv", "--table", "demo"], "none.csv: cannot be read"),
        (["runs.csv", "--table", "demos"], "demos"),
        (["runs.csv"], "Missing option '--table'"),
        (["runs.csv", "--table", "demo", "--set", "recipe"], "'recipe' is not a setting"),
    ],
)
def test_what_is_wrong_is_one_message(say: Say, runs: Path, arguments: list[str], why: str) -> None:
    refused = say("import", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert why in refused.err


@pytest.mark.skipif(not DOCUMENT.exists(), reason="installed, not checked out")
def test_the_documented_conversions_give_files_that_are_imported(say: Say, own: Path, runs: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    text = DOCUMENT.read_text()
    files = re.findall(r"```csv\n(.*?)```", text, flags=re.DOTALL)
    wandb, tensorboard = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    Path("wandb_export.csv").write_text(files[2])
    Path("scalars").mkdir()
    Path("scalars/squeezenet-ce-1.csv").write_text(files[3])
    for number, (content, code) in enumerate(zip(files, (None, None, wandb, tensorboard), strict=True)):
        if code is None:
            runs.write_text(content)
        else:
            exec(compile(code, str(DOCUMENT), "exec"), {})
        assert say("import", runs, "--table", own, "--results", f"r{number}").code == 0
        expected = (1, 2, 3, 4), (61.5, 75.0, 88.75, 90.25)
        [first, *_] = (found.record for found in load_records(Path(f"r{number}")) if found.record)
        assert first.curve() == (expected if number else ((), ()))
        assert first.last_top1_percent == (90.25 if number else 91.5)
