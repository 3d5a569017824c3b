"""CSV, JSON and HTML: read back by other readers, and held against what was assembled."""

from __future__ import annotations

import csv
import html.parser
import io
import json

import pytest

from repro.experiment.config import find_table
from repro.tables import RENDERERS, AssembledTable, assemble
from repro.tables.structure import Sample

VOID = {"meta", "br"}


class Balanced(html.parser.HTMLParser):
    """Fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_json_holds_every_seeds_figure(situation: tuple[str, list[AssembledTable]]) -> None:
    document = json.loads(RENDERERS["json"](situation[1], "biasrepro table"))
    assert (document["schema_version"], document["command"]) == (1, "biasrepro table")

    def holds(data: object, sample: Sample | None) -> bool:
        expected = sample and {
            "mean": sample.mean,
            "std": sample.std,
            "n": sample.n,
            "values": {str(seed): value for seed, value in sample.values},
        }
        return data == expected

    for data, table in zip(document["tables"], situation[1], strict=True):
        assert data["runs"]["recorded"] == table.recorded_runs
        assert [note["text"] for note in data["notes"]] == [note.text for note in table.notes]
        assert len(data["left_out"]) == len(table.left_out)
        for row_data, row in zip(data["rows"], table.rows, strict=True):
            assert row_data["parameters"]["counted"] == row.counted_parameters
            for cell_data, cell in zip(row_data["cells"], row.cells, strict=True):
                assert cell_data["published"]["top1_percent"] == cell.published
                assert holds(cell_data["ours"], cell.ours)
                assert holds(cell_data["delta"], cell.delta)


def test_csv_has_one_header_and_a_line_a_row_and_column(situation: tuple[str, list[AssembledTable]]) -> None:
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](situation[1], "biasrepro table"))))
    cells = [(table, row, cell) for table in situation[1] for row in table.rows for cell in row.cells]
    assert len(lines) == len(cells)
    for line, (table, row, cell) in zip(lines, cells, strict=True):
        assert (line["table"], line["row"], line["column"]) == (table.id, row.id, cell.column)
        assert line["counted_parameters"] == ("" if row.counted_parameters is None else str(row.counted_parameters))
        for name, sample in (("ours", cell.ours), ("delta", cell.delta)):
            mean, n = line[f"{name}_mean"], line[f"{name}_n"]
            assert (float(mean) if mean else None) == (pytest.approx(sample.mean, rel=1e-5) if sample else None)
            assert n == (str(sample.n) if sample else "")
            assert line[f"{name}_seeds"] == (" ".join(map(str, sample.seeds)) if sample else "")


def test_csv_has_every_cell_once(situation: tuple[str, list[AssembledTable]]) -> None:
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](situation[1], "biasrepro table"))))
    keys = [(line["table"], line["row_table"], line["row"], line["column"]) for line in lines]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝"])
def test_no_text_of_a_csv_file_is_a_formula(sign: str) -> None:
    table = find_table("table1")
    rows = tuple(row.model_copy(update={"title": f"{sign}1+1"}) for row in table.rows)
    columns = tuple(column.model_copy(update={"title": f"{sign}cmd"}) for column in table.columns)
    shown = assemble(table.model_copy(update={"rows": rows, "columns": columns}), [])
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"]([shown], ""))))
    assert all(line["loss"] == f"'{sign}cmd" for line in lines)
    assert not any(
        (value or "x").startswith(sign) for line in lines for name, value in line.items() if "delta" not in name
    )
    assert any(line["published_delta_points"].startswith("-") for line in lines), "numbers stay numbers"


def test_html_is_balanced_and_says_what_the_markdown_says(situation: tuple[str, list[AssembledTable]]) -> None:
    reader = Balanced()
    reader.feed(RENDERERS["html"](situation[1], "biasrepro table"))
    reader.close()
    assert reader.open == []
    text = " ".join("".join(reader.texts).split())
    for table in situation[1]:
        for note in table.notes:
            assert " ".join(note.text.replace("`", "").split()) in text


def test_html_escapes_what_users_write() -> None:
    table = find_table("table1")
    nasty = "<script>alert('&')</script>"
    rows = tuple(row.model_copy(update={"title": nasty, "note": nasty}) for row in table.rows)
    shown = assemble(table.model_copy(update={"rows": rows, "title": nasty, "label": nasty}), [])
    page = RENDERERS["html"]([shown], f"biasrepro table {nasty}")
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in page
