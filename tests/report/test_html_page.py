"""The page as text: self-contained, safe whatever the records hold, whole in every state of them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from repro.analysis.evidence import Evidence
from repro.experiment.config import find_table
from repro.figures import draw_figure, recorded
from repro.report import render_html
from repro.report.contents import Report, report_on
from repro.report.html_page import _as_data
from repro.report.inline_figures import inline_figure
from repro.results import Found

COMMANDS = ["biasrepro sweep table1 --seeds 5", "biasrepro report -o report.html"]
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, texts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all_of(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]


@pytest.fixture(scope="module")
def some_page(report_of: Callable[..., Report], some_found: list[Found]) -> str:
    return render_html(report_of(some_found, ["demo", "table1+recipe.epochs=3"]), COMMANDS)


@pytest.fixture(scope="module")
def empty_page(report_of: Callable[..., Report]) -> str:
    return render_html(report_of(), COMMANDS)


def test_the_same_records_give_the_same_page(report_of: Callable[..., Report], empty_page: str) -> None:
    assert render_html(report_of(), COMMANDS) == empty_page


@pytest.mark.parametrize("which", ["some_page", "empty_page"])
def test_the_page_is_whole_and_refers_to_nothing_outside(which: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(which))
    assert [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "use", "image")].count(
        "link"
    ) == 0
    assert page.all_of("src") == []
    assert [tag for tag, _ in page.tags if tag in ("style", "metadata")] == ["style"]  # a figure's would be everyone's
    ids = Counter(page.all_of("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    files = [attributes for tag, attributes in page.tags if tag == "a" and "download" in attributes]
    assert {str(file["href"]).partition(";")[0] for file in files} == {"data:text/csv", "data:application/json"}
    inside = set(page.all_of("href")) - {file["href"] for file in files}
    targets = [*inside, *(f"#{name}" for name in page.all_of("aria-labelledby"))]
    assert targets
    assert [target for target in targets if target[0] != "#" or target[1:] not in ids] == []
    styles = " ".join(page.all_of("style")) + " ".join(page.all_of("clip-path"))
    assert {name for name in re.findall(r"url\(#([^)]+)\)", styles) if name not in ids} == set()
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", request.getfixturevalue(which)))
    assert addresses == {"http://www.w3.org/2000/svg"}, "nothing but the name of a namespace"


def test_the_policy_lets_our_script_run_and_no_other(some_page: str) -> None:
    script = some_page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', some_page)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]


def test_what_a_record_holds_stays_text(some_page: str) -> None:
    page = Page(some_page)
    assert [attributes for tag, attributes in page.tags if tag == "script" and not attributes] == [{}]
    assert page.all_of("onmouseover") == []
    assert "alert(1)" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_titles_of_a_users_table_stay_text(fake_runs: Any) -> None:
    hostile = "<script>alert(1)</script> ' \" & `x`"
    table = find_table("demo")
    rows = tuple(row.model_copy(update={"title": hostile, "note": hostile}) for row in table.rows)
    columns = tuple(column.model_copy(update={"title": f"{column.id} {hostile}"}) for column in table.columns)
    table = table.model_copy(update={"rows": rows, "columns": columns, "label": hostile, "title": hostile})
    found = fake_runs.of(table, [0, 1])
    page = Page(render_html(report_on([], [table], find_table("product"), Evidence(found)), COMMANDS))
    assert sum(tag == "script" and not attributes for tag, attributes in page.tags) == 1
    assert "<script>alert(1)</script>" in page.text


def test_the_verdict_comes_first(some_page: str, empty_page: str) -> None:
    for page in (some_page, empty_page):
        assert re.findall(r'<section id="(\w+)', page)[0] == "verdict"
    assert "No verdict yet: none of the 21 differences between the paper’s accuracies" in Page(empty_page).text


def test_whose_table_it_is_stands_above_each(some_page: str) -> None:
    standings = re.findall(r'<p class="standing">(.*?)</p>', some_page)
    assert [standing.partition(". ")[0] for standing in standings] == [
        "This is a table of the paper",
        "This is a table of the paper",
        "This is a demo, not a result of the paper",
        "This is a table of the paper, modified by overrides",
    ]
    assert "not comparable with the paper" in Page(some_page).text


def test_every_claim_and_every_verdict_is_said_in_words(some_page: str, report_of: Callable[..., Report]) -> None:
    page = Page(some_page)
    for claim in report_of().claims:
        assert claim.statement.replace("'", "’") in page.text
    chips = re.findall(r'<span class="chip \w+">(.*?)</span>', some_page)
    assert len(chips) >= 21 + 7
    assert all(chips)


def test_claims_without_runs_are_counted_as_such(some_page: str, empty_page: str) -> None:
    assert re.search(r"Claims without runs: \d", Page(some_page).text)
    assert "No claim has runs yet" in Page(empty_page).text


def test_pointing_reads_what_the_records_say(fake_runs: Any) -> None:
    table = find_table("table1")
    found = [one for one in fake_runs.of(table, range(3)) if one.record.row == "resnet18"]
    source = recorded(table, Evidence(found))
    figure = inline_figure(draw_figure("curves", [source]), "x", "Curves")
    panel = next(one for one in figure.readings if one["title"] == "Table 1, ResNet 18")
    group = dict(panel["groups"])["Epoch 90"]
    values = [one.record.epochs[89].test_top1_percent for one in found if one.record.column == "ce"]
    trace, x, y, text = group[0]
    assert panel["traces"][trace]["label"] == "CE loss"
    assert text.startswith(f"{sum(values) / 3:.2f} ± ")
    left, top, right, bottom = panel["box"]
    assert left < x <= right
    assert top < y < bottom
    # the reading's place is where the curve is drawn: its last vertex
    ends = [re.findall(r"L ([\d.]+) ([\d.]+)", path)[-1] for path in re.findall(r'<path d="(M[^"z]+)"', figure.svg)]
    assert any(abs(float(a) - x) < 0.2 and abs(float(b) - y) < 0.2 for a, b in ends if a)
    json.dumps(figure.readings, allow_nan=False)


def test_figures_take_the_colours_of_the_page(some_page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", some_page, flags=re.DOTALL))
    assert "var(--ink)" in drawn
    assert "var(--blue)" in drawn
    assert re.findall(r"(?:fill|stroke): ?#\w+", drawn) == []


def test_a_study_states_its_own_configuration_and_nothing_of_the_papers(fake_runs: Any) -> None:
    study = find_table("tiny20")
    found = fake_runs.of(study, range(3))
    papers = [find_table("table1"), find_table("table2")]
    page = render_html(report_on(papers, [study], find_table("product"), Evidence(found)), COMMANDS)
    assert "12 epochs in batches of 128, SGD, learning rate 0.1" in Page(page).text
    assert "Table 2: CIFAR-100" not in page
    assert "figure-1" not in page
    assert 'id="table-0-deltas"' in page.partition('<section id="table-0"')[0]


@pytest.mark.parametrize(
    ("name", "one_sided"), [("released", True), ("table2_variants", True), ("tiny20", False), ("demo", False)]
)
def test_p_is_called_what_it_is(fake_runs: Any, name: str, one_sided: bool) -> None:
    papers, table = [find_table("table1"), find_table("table2")], find_table(name)
    found = fake_runs.of(table, range(3))
    text = Page(render_html(report_on(papers, [table], find_table("product"), Evidence(found)), COMMANDS)).text
    assert ("p: of an effect in the printed direction, one-sided" in text) == one_sided
    assert ("p: two-sided" in text) == (not one_sided)
    assert ("The p-values are two-sided, or one-sided where a difference is printed," in text) == one_sided


def test_figures_without_anything_of_ours_are_named_in_a_sentence(fake_runs: Any) -> None:
    study = find_table("tiny20")
    found = [run for run in fake_runs.of(study, range(3)) if run.record.column == "ce"]
    papers = [find_table("table1"), find_table("table2")]
    page = render_html(report_on(papers, [study], find_table("product"), Evidence(found)), COMMANDS)
    assert re.findall(r'<figure class="plot" id="([^"]+)"', page) == ["table-0-curves"]
    assert "Without a figure, since there are no runs to draw: weights z." in Page(page).text


def test_under_the_papers_headline_stand_the_papers_tables_alone(some_page: str) -> None:
    first = some_page.partition('<section id="claims"')[0]
    assert re.findall(r'<figure class="plot" id="([^"]+)"', first) == ["table-0-deltas", "table-1-deltas"]


def test_the_figures_come_right_after_the_headline(some_page: str) -> None:
    between = some_page.partition('<p class="headline">')[2].partition('<figure class="plot"')[0].partition("</p>")[2]
    assert between.strip() == '<div class="plots">'
    assert '<dl class="tally">' in some_page


def test_without_runs_no_verdicts_are_counted(empty_page: str) -> None:
    assert "No verdict yet" in empty_page
    assert '<dl class="tally">' not in empty_page


def test_the_commands_stand_at_the_end(some_page: str) -> None:
    block = some_page.rpartition("<pre")[2]
    assert "biasrepro sweep table1 --seeds 5\nbiasrepro report -o report.html" in block


def test_data_in_a_script_element_cannot_end_it() -> None:
    written = str(_as_data({"name": "</script><script>alert(1)</script><!-- & "}))
    assert not set("<>&") & set(written)
    assert json.loads(written)["name"] == "</script><script>alert(1)</script><!-- & "
