"""Each figure says what its records say, to the number."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

from repro.analysis.evidence import Evidence
from repro.experiment.catalog import LOSSES
from repro.experiment.config import find_table, runs_of
from repro.experiment.schema import Run
from repro.figures import Recorded, draw_figure, recorded
from repro.figures.curves import by_epoch
from repro.figures.deltas import delta_text
from repro.figures.drawing import Drawing
from repro.figures.inverse_function import inverse_weight
from repro.figures.parameters import spread_out
from repro.figures.weights import spread_by_epoch
from repro.results.record import Epochs


def points(drawing: Drawing, panel: str, trace: str) -> dict[str, tuple[float, float, str]]:
    """What can be read off a trace, by where."""
    found = [one for one in drawing.panels if one.title == panel]
    return {p.group: (p.x, p.y, p.text) for one in found for t in one.traces if t.label == trace for p in t.points}


def test_figure_1_is_the_function_of_equation_1() -> None:
    assert inverse_weight(np.array([0.0, 1.0]), 0.3, 0.3) == pytest.approx([1 / 0.7, 1 / (math.e**0.3 - 0.3)])
    drawing = draw_figure("1", [])
    read = points(drawing, "Weight by scaled variance", "α = 0.7, β = 0.6")
    assert read["v = 0.00"] == (0, pytest.approx(2.5), "z = 2.500")
    assert len(read) == 101


def test_figure_1_says_that_its_constants_come_from_a_damaged_scan(texts_of: Callable[..., str]) -> None:
    assert "damaged scan" in texts_of("1")
    assert "damaged scan" in draw_figure("1", []).caption


def test_a_curve_is_the_mean_of_the_seeds_with_their_spread(recorded_of: Callable[..., Recorded]) -> None:
    table = recorded_of("table1", range(3), rows=["resnet18"])
    read = points(draw_figure("curves", [table]), "Table 1, ResNet 18", "Bias loss")
    row, column = table.table.rows[2], table.table.columns[1]
    values = [record.epochs[79].test_top1_percent for record in table.completed(row, column)]
    assert len(values) == 3
    x, y, text = read["Epoch 80"]
    assert (x, y) == (80, pytest.approx(statistics.fmean(values)))
    assert text == f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f} (n = 3)"


def test_epochs_that_some_runs_lack_are_averaged_over_the_others(fake_runs: Any) -> None:
    cell = find_table("demo").cells[0]
    short = fake_runs.record(Run(cell=cell, seed=0), epochs=fake_runs.epochs_of(Run(cell=cell, seed=0), until=4))
    whole = fake_runs.record(Run(cell=cell, seed=1))
    assert [(mean.epoch, mean.n, mean.std is None) for mean in by_epoch([short, whole])] == [
        *((epoch, 2, False) for epoch in range(1, 5)),
        *((epoch, 1, True) for epoch in range(5, len(whole.epochs) + 1)),
    ]


@pytest.mark.parametrize("name", ["curves", "weights"])
def test_no_band_leaves_what_was_measured(fake_runs: Any, name: str) -> None:
    # one run of three learns, and one weight of many is large: a standard deviation reaches below zero and the least
    table, found = find_table("demo"), []
    for run in runs_of(table.cells, range(3)):
        weights = {"weight_mean": 0.72, "weight_std": 0.1, "weight_min": 0.7, "weight_max": 1.05}
        top1 = {"test_top1_percent": 9.0 if run.seed == 2 else 0.0}
        epochs = Epochs([epoch.model_copy(update=weights | top1) for epoch in fake_runs.epochs_of(run)])
        found.append(fake_runs.found(fake_runs.record(run).model_copy(update={"epochs": epochs})))
    drawing = draw_figure(name, [recorded(table, Evidence(found))])
    low, high = {"curves": (0, 9), "weights": (0.7, 1.05)}[name]
    heights = [path.vertices[:, 1] for band in drawing.figure.findobj(PolyCollection) for path in band.get_paths()]
    assert heights
    assert min(map(min, heights)) == pytest.approx(low)
    assert max(map(max, heights)) == pytest.approx(high)


def test_bands_are_named_where_there_are_any(
    recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    assert "Band: lowest to highest seed" in texts_of("curves", recorded_of("demo", range(2)))
    assert "Band:" not in texts_of("curves", recorded_of("demo", [0]))
    assert "Band: minimum to maximum" in " ".join(texts_of("weights", recorded_of("demo", [0])).split("\n"))


def test_ticks_are_whole_epochs_around_a_single_one_too(recorded_of: Callable[..., Recorded]) -> None:
    table = recorded_of("demo+recipe.epochs=2+recipe.decay_epochs=[1]", [0])
    for axes in draw_figure("curves", [table]).figure.axes:
        assert [tick for tick in axes.get_xticks() if tick % 1] == []


def test_curves_name_the_losses_and_the_networks_without_runs(
    recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    said = texts_of("curves", recorded_of("table2", [0], rows=["squeezenet"], columns=["ce", "bias"]))
    assert "no runs: Inv. Bias loss" in said
    missing = " ".join(said.partition("No runs recorded")[2].split("\n"))
    assert "NASNet-A (N = 4)" in missing
    assert "SqueezeNet" not in missing


def test_a_run_that_diverged_is_drawn_but_in_no_mean(
    fake_runs: Any, recorded_of: Callable[..., Recorded], svg_of: Callable[..., ET.Element]
) -> None:
    table = find_table("demo")
    run = Run(cell=table.cells[1], seed=1)
    lost = {"status": "diverged", "reason": "the loss is nan", "last_top1_percent": None, "best_top1_percent": None}
    diverged = fake_runs.record(run, epochs=fake_runs.epochs_of(run, until=4), **lost)
    whole = recorded_of("demo", [0])
    with_it = recorded_of("demo", [0], more=[fake_runs.found(diverged)])
    assert with_it.diverged(table.rows[0], table.columns[1]) == (diverged,)
    panel, column = f"Demo, {table.rows[0].title}", table.columns[1].title
    assert points(draw_figure("curves", [with_it]), panel, column) == points(
        draw_figure("curves", [whole]), panel, column
    )
    assert len(list(svg_of("curves", with_it).iter())) > len(list(svg_of("curves", whole).iter()))


def test_runs_that_diverged_at_once_are_counted(
    fake_runs: Any, recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    run = Run(cell=find_table("demo").cells[1], seed=1)
    lost = {"status": "diverged", "last_top1_percent": None, "best_top1_percent": None, "best_epoch": None}
    diverged = fake_runs.record(run).model_copy(update={**lost, "epochs": Epochs()})
    said = texts_of("curves", recorded_of("demo", [0], more=[fake_runs.found(diverged)]))
    assert "1 more run diverged within the first epoch." in said


def test_deltas_stand_beside_the_papers_with_interval_and_verdict(
    recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    table = recorded_of("table1", range(5))
    drawing = draw_figure("deltas", [table])
    ours, paper = points(drawing, "Table 1", "ours"), points(drawing, "Table 1", "paper")
    result = table.result(table.table.rows[5], table.table.columns[1])
    assert result.delta is not None
    where = "DenseNet (k = 24), Bias loss"
    assert ours[where] == (result.delta.mean, pytest.approx(5, abs=0.3), delta_text(result.delta))
    assert paper[where] == (-0.9, pytest.approx(5, abs=0.3), "−0.90")
    assert len(ours) == len(paper) == 6
    assert result.verdict is not None
    assert result.verdict.value in texts_of("deltas", table)


def test_a_marker_alone_stands_on_the_line_of_its_label(recorded_of: Callable[..., Recorded]) -> None:
    (panel,) = draw_figure("deltas", [recorded_of("tiny20", range(3))]).panels
    assert {point.y for trace in panel.traces for point in trace.points} == {1, 2, 3, 5, 6, 7}
    (panel,) = draw_figure("deltas", [recorded_of("table1")]).panels
    assert [point.y for trace in panel.traces for point in trace.points] == [0, 1, 2, 3, 4, 5]


def test_a_delta_of_two_seeds_has_no_interval(recorded_of: Callable[..., Recorded]) -> None:
    table = recorded_of("table1", range(2))
    delta = table.result(table.table.rows[0], table.table.columns[1]).delta
    assert delta is not None
    assert "(" not in delta_text(delta)
    assert delta_text(delta).endswith(", n = 2")


@pytest.mark.parametrize("name", ["deltas", "parameters"])
def test_where_nothing_is_printed_nothing_is_said_of_the_papers_figures(
    name: str, recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    study = recorded_of("tiny20", range(3))
    assert "paper" not in texts_of(name, study)
    said = draw_figure(name, [study]).caption
    assert said.startswith("Tiny20. A study of ours, not a table of the paper. Top-1")
    assert "the paper's" not in said
    assert "printed" not in said + texts_of(name, study)
    assert "and the paper's" in draw_figure(name, [recorded_of("table1")]).caption


@pytest.mark.parametrize("name", ["curves", "weights"])
def test_ticks_are_at_whole_epochs(name: str, recorded_of: Callable[..., Recorded]) -> None:
    for panel in draw_figure(name, [recorded_of("tiny20", range(2))]).panels:
        assert all(float(tick).is_integer() for tick in panel.axes.get_xticks())


@pytest.mark.parametrize("name", ["deltas", "parameters"])
def test_a_cross_entropy_far_from_the_papers_is_named(
    name: str, fake_runs: Any, recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    table = find_table("table1")
    run = Run(cell=table.cells[0], seed=0)
    far = fake_runs.record(run, last_top1_percent=40.0)
    said = texts_of(name, recorded_of("table1", more=[fake_runs.found(far)]))
    assert "more than a point from" in said
    assert "ShuffleNetV2 0.5x (Table 1, −11.9)" in said.replace("\n", " ")
    assert "more than a point from" not in texts_of(name, recorded_of("table1", range(3)))


def test_a_curve_of_a_single_run_is_called_one(
    fake_runs: Any, recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    single = [recorded_of("table1", range(1))]
    drawing = draw_figure("curves", single)
    assert "A line without a band is a single run." in drawing.caption
    assert "Each line is a single run." in texts_of("curves", *single)
    last = drawing.panels[0].traces[0].points[-1]
    assert last.text.endswith("(n = 1)")
    beside = [*single, recorded_of("tiny20", range(3))]
    assert "Band: lowest to highest seed. Without a band: a single run." in texts_of("curves", *beside).replace(
        "\n", " "
    )
    several = draw_figure("curves", beside[1:])
    assert "single run" not in several.caption + texts_of("curves", *beside[1:])


def test_the_gain_stands_at_the_printed_size(recorded_of: Callable[..., Recorded]) -> None:
    drawing = draw_figure("parameters", [recorded_of("table1", range(3))])
    ours, paper = points(drawing, "Table 1", "ours"), points(drawing, "Table 1", "paper")
    assert [x for x, *_ in ours.values()] == [1.4, 7, 11, 19, 24, 27.2]
    assert paper["Inception v3"] == (24, -1.1, "−1.10")


def test_a_network_without_a_printed_size_stands_at_the_counted_one(
    recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    table = recorded_of("normalization", range(2), rows=["squeezenet"])
    ours = points(draw_figure("parameters", [table]), "Normalizations", "ours")
    assert ours["SqueezeNet"][0] == pytest.approx(1.444)
    assert "as counted" in texts_of("parameters", table)


def test_names_are_moved_apart_as_little_as_it_takes() -> None:
    assert spread_out([0.1, 0.5, 0.9], 0.2) == pytest.approx([0.1, 0.5, 0.9])
    assert spread_out([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert spread_out([0.0, 0.5, 0.52, 0.54], 0.1) == pytest.approx([0.0, 0.42, 0.52, 0.62])
    # a group that grows into its neighbour takes it along
    assert spread_out([0.3, 0.5, 0.5, 0.5], 0.2) == pytest.approx([0.15, 0.35, 0.55, 0.75])
    assert spread_out([], 0.1) == []


def test_weights_are_pooled_over_runs(fake_runs: Any) -> None:
    run = Run(cell=find_table("demo").cells[1], seed=0)
    template = fake_runs.record(run)
    epoch = template.epochs[0]
    figures = [(1.0, 0.1, 0.9, 1.1), (2.0, 0.3, 1.5, 2.5)]
    records = []
    for row in figures:
        weights = dict(zip(("weight_mean", "weight_std", "weight_min", "weight_max"), row, strict=True))
        records.append(template.model_copy(update={"epochs": Epochs([epoch.model_copy(update=weights)])}))
    (spread,) = spread_by_epoch(records)
    # two samples of the same size, each of two values that have this mean and this deviation
    samples = [1.0 - 0.1, 1.0 + 0.1, 2.0 - 0.3, 2.0 + 0.3]
    assert (spread.mean, spread.std) == pytest.approx((statistics.fmean(samples), statistics.pstdev(samples)))
    assert (spread.low, spread.high) == (0.9, 2.5)


def test_weights_have_a_panel_a_loss_and_say_of_how_many_runs(
    recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]
) -> None:
    table = recorded_of("table2", range(2), rows=["squeezenet"], columns=["ce", "bias"])
    said = texts_of("weights", table)
    assert "2 runs, 1 of 5 networks" in said
    assert "No runs recorded for Inv. Bias loss." in said
    (panel,) = draw_figure("weights", [table]).panels
    assert panel.title == "Table 2, Bias loss"


def test_several_tables_share_one_figure(recorded_of: Callable[..., Recorded], texts_of: Callable[..., str]) -> None:
    said = texts_of("curves", recorded_of("table1"), recorded_of("demo", [0]))
    assert "No runs recorded for Table 1." in said
    assert "Demo: ShuffleNetV2 0.5x" in said


def test_the_legend_of_several_tables_names_what_each_column_is_in_its_own(
    recorded_of: Callable[..., Recorded],
) -> None:
    chosen: dict[str, Any] = {"rows": ["squeezenet"], "columns": ["ce", "bias"]}
    tables = [recorded_of(name, [0], **chosen) for name in ("table2", "normalization")]
    drawing = draw_figure("curves", tables)
    (legend,) = drawing.figure.legends
    named = {(text.get_text(), line.get_color()) for text, line in zip(legend.texts, legend.get_lines(), strict=True)}
    drawn = {(trace.label, trace.colour) for panel in drawing.panels for trace in panel.traces}
    assert {label for label, _ in drawn} == {"CE loss", "Bias loss", "Bias loss, batch"}
    assert ("Bias loss", LOSSES["bias"].colour) in drawn
    assert drawn <= named


def test_a_demo_and_a_changed_protocol_are_said_to_be_so(recorded_of: Callable[..., Recorded]) -> None:
    assert "not a result of the paper" in draw_figure("curves", [recorded_of("demo", [0])]).caption
    changed = draw_figure("deltas", [recorded_of("table1+recipe.epochs=3")])
    assert "Table 1 (modified)" in changed.caption
    assert "not comparable with the paper" in changed.caption
    # nothing that was published may stand beside it
    assert points(changed, "Table 1 (modified)", "paper") == {}


def test_the_family_of_a_papers_table_is_both_tables_of_the_paper(recorded_of: Callable[..., Recorded]) -> None:
    for overrides in ("", "+execution.precision=bf16"):
        families = recorded_of(f"table1{overrides}").assessment.families
        family = {table for table in families if families[table] == families[f"table1{overrides}"]}
        assert family == {f"table1{overrides}", f"table2{overrides}"}


@pytest.mark.parametrize("name", ["table1", "table2", "released", "product", "tiny20", "controls", "demo"])
def test_no_name_of_the_papers_tables_and_studies_is_shortened(name: str, recorded_of: Callable[..., Recorded]) -> None:
    figure = draw_figure("deltas", [recorded_of(name)]).figure
    assert not [text for text in figure.findobj(Text) if "…" in text.get_text()]
