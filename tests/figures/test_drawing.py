"""Every figure in every state of the records: readable, deterministic, of our style alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from repro.analysis.evidence import Evidence
from repro.experiment.config import find_table
from repro.figures import FIGURES, FORMATS, NEEDS_NO_RUNS, Recorded, draw_figure, recorded
from repro.figures.drawing import shortened
from repro.figures.style import COLUMN_INCHES, series_of
from repro.machine import package_path

OF_RUNS = [name for name in FIGURES if name not in NEEDS_NO_RUNS]


@pytest.mark.parametrize("format_name", FORMATS)
def test_equal_figures_are_equal_files(recorded_of: Callable[..., Recorded], format_name: str) -> None:
    first, second = (
        draw_figure("deltas", [recorded_of("table1", range(3), rows=["shufflenetv2"])]).to_bytes(format_name)
        for _ in range(2)
    )
    assert first == second
    assert first[:4] == {"pdf": b"%PDF", "svg": b"<?xm", "png": b"\x89PNG"}[format_name]


def test_a_users_own_settings_change_nothing() -> None:
    plain = draw_figure("1", []).to_bytes("svg")
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert draw_figure("1", []).to_bytes("svg") == plain


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_as_wide_as_a_column(recorded_of: Callable[..., Recorded], name: str) -> None:
    figure = draw_figure(name, [recorded_of("demo", [0])]).figure
    assert figure.get_size_inches()[0] == COLUMN_INCHES


@pytest.mark.parametrize("name", FIGURES)
def test_every_text_is_legible_at_that_width(recorded_of: Callable[..., Recorded], name: str) -> None:
    found = [recorded_of("table1", range(2), rows=["shufflenetv2"])]
    svg = draw_figure(name, found).to_bytes("svg").decode()
    sizes = {float(size) for size in re.findall(r"font(?:-size)?: (?:[a-z]+ )?([\d.]+)px", svg)}
    assert sizes, "the SVG names no size: the pattern is out of date"
    assert min(sizes) >= 5.5


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("table", ["table1", "product", "demo"])
def test_what_is_missing_is_said_in_the_picture(
    recorded_of: Callable[..., Recorded], texts_of: Callable[..., str], name: str, table: str
) -> None:
    said = texts_of(name, recorded_of(table))
    assert re.search(r"No runs recorded for|no pair of runs|has no network", said)


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_figure_with_nothing_of_ours_is_empty(recorded_of: Callable[..., Recorded], name: str) -> None:
    assert draw_figure(name, [recorded_of("table1")]).empty
    of_cross_entropy = recorded_of("table1", [0], columns=["ce"])
    assert draw_figure(name, [of_cross_entropy]).empty == (name != "curves")
    assert not draw_figure(name, [of_cross_entropy, recorded_of("table2", [0])]).empty


@pytest.mark.parametrize("name", OF_RUNS)
def test_titles_are_text_whatever_they_hold(recorded_of: Callable[..., Recorded], name: str, fake_runs: Any) -> None:
    table = find_table("demo")
    hostile = "$\\frac{1}$ <script>alert(1)</script> & 漢字 _x"
    rows = tuple(row.model_copy(update={"title": hostile}) for row in table.rows)
    columns = tuple(column.model_copy(update={"title": f"{column.id} {hostile}"}) for column in table.columns)
    table = table.model_copy(update={"rows": rows, "columns": columns})
    svg = draw_figure(name, [recorded(table, Evidence(fake_runs.of(table, range(3))))]).to_bytes("svg").decode()
    assert "<script" not in svg


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("title", ["long words in a title " * 20, "W" * 90], ids=["words", "one word"])
def test_long_titles_are_shortened_and_nothing_is_cut(name: str, title: str, fake_runs: Any) -> None:
    table = find_table("demo")
    rows = tuple(row.model_copy(update={"title": f"{row.id} {title}"}) for row in table.rows)
    columns = tuple(column.model_copy(update={"title": f"{column.id} {title}"}) for column in table.columns)
    table = table.model_copy(update={"rows": rows, "columns": columns, "label": title})
    found = [run for run in fake_runs.of(table, range(2)) if run.record.row == rows[0].id]
    figure = draw_figure(name, [recorded(table, Evidence(found))]).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for text in figure.findobj(Text):
        if len(text.get_text()) > 5:  # no number of an axis: those outside its limits are hidden
            box = text.get_window_extent(canvas.get_renderer())
            assert box.x0 >= -1, text
            assert box.x1 <= figure.bbox.width + 1, text


def test_a_legend_of_many_losses_has_room(fake_runs: Any) -> None:
    table = find_table("demo")
    more = [table.columns[1].model_copy(update={"id": f"c{i}", "title": f"Loss {i}"}) for i in range(40)]
    table = table.model_copy(update={"columns": (table.columns[0], *more), "rows": table.rows[:1]})
    draw_figure("curves", [recorded(table, Evidence(fake_runs.of(table, [0])))]).to_bytes("png")


@pytest.mark.parametrize("format_name", FORMATS)
def test_invisible_characters_are_shown(fake_runs: Any, format_name: str) -> None:
    table = find_table("demo")
    rows = tuple(row.model_copy(update={"title": "a \ufeff b"}) for row in table.rows)
    table = table.model_copy(update={"rows": rows})
    content = draw_figure("curves", [recorded(table, Evidence(fake_runs.of(table, [0])))]).to_bytes(format_name)
    assert format_name != "svg" or rb"a \ufeff b" in content


def test_a_shortened_name_keeps_both_ends() -> None:
    assert shortened("SqueezeNet", 1.0) == "SqueezeNet"
    assert re.fullmatch(r"bias loss, alpha.+….+ by batch", shortened(f"bias loss, alpha {'0.3 ' * 30} by batch", 2.0))


def test_the_losses_differ_in_dashes_and_shape_not_in_colour_alone() -> None:
    for name in ("table2", "normalization", "product"):
        looks = list(series_of(find_table(name).columns).values())
        assert len({look.colour for look in looks}) == len(looks)
        assert len({look.dashes for look in looks}) == len(looks)
        assert len({look.marker for look in looks}) == len(looks)


def test_more_losses_than_colours_can_be_drawn() -> None:
    column = find_table("demo").columns[1]
    columns = [column.model_copy(update={"id": f"c{i}"}) for i in range(60)]
    looks = series_of(columns)
    assert len(looks) == 60
    assert len(set(list(looks.values())[:20])) == 20


def test_a_matplotlibrc_of_the_current_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"font.size: \xff\n")
    command = [sys.executable, "-W", "error", "-P", "-c", "import repro.figures"]
    environment = {**os.environ, "PYTHONPATH": str(package_path())}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
