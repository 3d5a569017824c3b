"""A baseline of one's own: every difference, and every sentence on one, is from that column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record

ALPHAS = """\
table: alphas
label: Alphas
title: The strength of the emphasis.
kind: study
dataset: {name: digits}
recipe: {epochs: 2, learning_rate: 0.1}
baseline: bias03
columns:
  - {id: bias03, title: Bias 0.3, loss: bias, weighting: {alpha: 0.3}}
  - {id: bias05, title: Bias 0.5, loss: bias, weighting: {alpha: 0.5}}
rows:
  - {id: squeezenet, title: SqueezeNet, model: squeezenet}
  - {id: mobilenetv2, title: MobileNetV2, model: mobilenetv2_x1_0}
"""
PUBLISHED = "model: squeezenet, published: {parameters_millions: 1.2, top1_percent: {bias03: 60.0, bias05: 62.0}}}"
TOP1 = {"bias03": 60.0, "bias05": 61.5, "ce": 50.0}


@pytest.fixture
def alphas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = Path("alphas.yaml")
    file.write_text(ALPHAS)
    return file


@pytest.fixture
def recorded(alphas: Path, fake_runs: Any) -> Callable[[str], None]:
    """Writes the file, and five runs of each of its cells: 0.5 is 1.5 points above 0.3."""

    def record(text: str = ALPHAS) -> None:
        alphas.write_text(text)
        for cell in find_table(str(alphas)).cells:
            for seed in range(5):
                run = Run(cell=cell, seed=seed)
                top1 = TOP1[cell.column.id] + seed / 10 + (seed % 2) / 20 * (cell.column.id == "bias05")
                epochs = fake_runs.epochs_of(run)
                last = epochs[-1].model_copy(update={"test_top1_percent": top1, "test_top5_percent": 90.0})
                write_record(RunFolder.of(Path("results"), run), fake_runs.record(run, epochs=(*epochs[:-1], last)))

    return record


def test_table_report_and_figures_are_on_differences_from_it(say: Callable[..., Any], recorded: Any) -> None:
    recorded()
    table = say("table", "alphas.yaml", "--verdicts", "words").out
    assert "Δ: ours minus our Bias 0.3, mean" in table
    assert "| +1.52 ± 0.03" in table
    assert "minus our Bias 0.3" in " ".join(say("table", "alphas.yaml", "-f", "latex").out.split())
    cells = json.loads(say("table", "alphas.yaml", "-f", "json").out)["tables"][0]["columns"]
    assert [(column["id"], column["baseline"]) for column in cells] == [("bias03", True), ("bias05", False)]

    summary = say("report", "alphas.yaml", "-f", "markdown").out
    assert "Of 2 differences from Bias 0.3, 2 are significantly positive" in summary
    assert "trained with the same seeds as Bias 0.3" in summary
    assert say("report", "alphas.yaml", "-o", "alphas.html").code == 0
    page = Path("alphas.html").read_text()
    assert "Differences from Bias 0.3" in page
    for answer in (table, summary, page.split("<h2")[0]):
        assert "cross-entropy" not in answer

    for name in ("deltas", "parameters"):
        caption = say("figure", name, "alphas.yaml", "-o", f"{name}.svg").out
        assert "from Bias 0.3, paired by seed" in caption
        assert "Bias 0.3" in Path(f"{name}.svg").read_text()
    assert say("figure", "weights", "alphas.yaml", "-o", "weights.svg").code == 0
    assert "Bias 0.3" in Path("weights.svg").read_text()  # its weights are not 1


def test_plan_and_preregistration_compare_with_it(say: Callable[..., Any], alphas: Path) -> None:
    alphas.write_text(ALPHAS.replace("model: squeezenet}", PUBLISHED))
    planned = say("plan", "alphas.yaml", "--hours-per-run", "1")
    assert "alphas/squeezenet/bias05" in planned.out
    assert "for both the cell and its baseline, Bias 0.3" in planned.out
    assert "--columns bias03,bias05" in planned.out
    assert say("plan", "alphas.yaml", "--looks", "5,10", "--declare").code == 0
    declaration = json.loads(Path("results/alphas/looks.json").read_text())
    assert set(declaration["configurations"]) == {"alphas/squeezenet/bias03", "alphas/squeezenet/bias05"}

    alphas.write_text(alphas.read_text().replace("baseline: bias03", "baseline: bias05"))
    said = say("table", "alphas.yaml", "--verdicts", "words")
    assert said.code == 2
    assert "the preregistration is for differences from another column than bias05" in said.err


def test_recorded_runs_stay_valid_when_the_baseline_changes(say: Callable[..., Any], recorded: Any) -> None:
    recorded()
    Path("alphas.yaml").write_text(ALPHAS.replace("baseline: bias03", "baseline: bias05"))
    table = say("table", "alphas.yaml").out
    assert "Δ: ours minus our Bias 0.5" in table
    assert "−1.52 ± 0.03" in table
    assert "left out" not in table


def test_cross_entropy_may_be_a_column_like_any_other(say: Callable[..., Any], recorded: Any) -> None:
    recorded(ALPHAS.replace("columns:\n", "columns:\n  - {id: ce, title: CE loss, loss: ce}\n"))
    rows = say("table", "alphas.yaml").out.splitlines()
    delta = next(line for line in rows if "Δ" in line and "|" in line)
    assert [part.strip() for part in delta.split("|")[4:7]] == ["−10.00 ± 0.00 (n=5)", "", "+1.52 ± 0.03 (n=5)"]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("baseline: bias03", "baseline: bias3", "alphas.yaml:7:11: baseline: no column is called 'bias3'"),
        ("baseline: bias03\n", "", "alphas.yaml:8:3: columns: no column is called 'ce', the baseline of every"),
        ("baseline: bias03", "baseline: [bias03]", "alphas.yaml:7:11: baseline: must be a text"),
    ],
)
def test_a_baseline_that_is_no_column_is_one_message(
    say: Callable[..., Any], alphas: Path, before: str, after: str, says: str
) -> None:
    alphas.write_text(ALPHAS.replace(before, after))
    said = say("table", "alphas.yaml")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {says}")
    assert said.err.count("alphas.yaml") == 1


def test_config_keeps_it(say: Callable[..., Any], alphas: Path) -> None:
    assert "\nbaseline: bias03\n" in say("config", "alphas.yaml").out
    cell = say("config", "alphas.yaml/squeezenet/bias05").out
    assert "baseline: bias03\n" in cell
    assert "id: bias03" in cell
    assert "baseline" not in say("config", "table2").out


def test_the_built_in_tables_keep_cross_entropy() -> None:
    for name in builtin_names():
        assert find_table(name).baseline == "ce"
        assert find_table(name).baseline_name == "cross-entropy"
