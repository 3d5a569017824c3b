"""The page in a real browser: shown, sorted, pointed at, printed, and held against axe's rules of accessibility."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from repro.analysis.evidence import Evidence
from repro.experiment.config import find_table
from repro.report import render_html
from repro.report.contents import Report, report_on
from repro.results import Found

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt install chromium"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # as root, which a container's user is, Chromium starts without its sandbox only
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    report_of: Callable[..., Report],
    some_found: list[Found],
    fake_runs: Any,
) -> dict[str, Path]:
    """The page without runs, with some, with every run of the paper's tables, and on a study alone."""
    folder = tmp_path_factory.mktemp("pages")
    every = [one for name in ("table1", "table2") for one in fake_runs.of(find_table(name), range(3))]
    reports = {
        "none": report_of(),
        "some": report_of(some_found, ["demo", "table1+recipe.epochs=3"]),
        "all": report_of(every),
        "study": report_on(
            [find_table("table1"), find_table("table2")],
            [find_table("tiny20")],
            find_table("product"),
            Evidence(fake_runs.of(find_table("tiny20"), range(3))),
        ),
    }
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(render_html(report, ["biasrepro report"]), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture
def visit(browser: Any, files: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page; at the end nothing was complained of, and nothing asked for but the file."""
    contexts, complaints, requests = [], [], []

    def go(name: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**({"viewport": DESKTOP} | options)))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(files[name].as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
    assert {Path(url).suffix for url in requests} == {".html"}


@pytest.mark.parametrize("name", ["none", "some", "all", "study"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_shows_without_complaint_and_never_scrolls_sideways(
    visit: Callable[..., Any], name: str, viewport: dict[str, int]
) -> None:
    page = visit(name, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.locator("main > section").count() >= 7 - 2
    assert page.locator(".headline").is_visible()
    assert page.locator(".frame svg").first.bounding_box()["height"] > 100


@pytest.mark.parametrize(
    ("name", "scheme"), [("none", "light"), ("some", "light"), ("some", "dark"), ("all", "dark"), ("study", "light")]
)
def test_axe_finds_no_violation(visit: Callable[..., Any], name: str, scheme: str) -> None:
    page = visit(name, color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20


def test_axe_finds_no_violation_on_a_phone(visit: Callable[..., Any]) -> None:
    found = axe.Axe().run(visit("some", viewport=PHONE))
    assert found.violations_count == 0, found.generate_report()


def test_light_and_dark_follow_the_readers_choice(visit: Callable[..., Any]) -> None:
    def brightness(scheme: str) -> tuple[int, int]:
        page = visit("none", color_scheme=scheme)
        style = "getComputedStyle(document.querySelector('{}')).{}"
        colours = (page.evaluate(style.format(*of)) for of in (("body", "backgroundColor"), ("svg text", "fill")))
        return tuple(sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)

    (light_page, light_ink), (dark_page, dark_ink) = brightness("light"), brightness("dark")
    assert light_page > 700 > 150 > light_ink
    assert dark_page < 100 < 600 < dark_ink


def column_of(table: Any, index: int) -> list[str]:
    return table.evaluate("(table, i) => [...table.tBodies[0].rows].map(row => row.cells[i].textContent.trim())", index)


def test_a_heading_sorts_by_click_and_by_key_and_says_so(visit: Callable[..., Any]) -> None:
    page = visit("some")
    table = page.locator("#table-0 table.sortable").nth(0)
    head = table.locator("thead tr").nth(1).locator("th").nth(4)  # ours, under cross-entropy
    papers_order = column_of(table, 0)
    assert head.get_attribute("aria-sort") == "none"

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = column_of(table, 4)
    measured = [float(value.split()[0]) for value in values if value[0] != "–"]
    assert len(measured) == 2
    assert measured == sorted(measured)
    assert [value[0] for value in values[2:]] == ["–"] * 4  # what is missing is last

    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    values = column_of(table, 4)
    measured = [float(value.split()[0]) for value in values if value[0] != "–"]
    assert measured == sorted(measured, reverse=True)
    assert [value[0] for value in values[2:]] == ["–"] * 4

    head.locator("button").press("Space")
    assert head.get_attribute("aria-sort") == "none"
    assert column_of(table, 0) == papers_order

    table.locator("thead button").first.click()  # the models' names
    assert column_of(table, 0) == sorted(papers_order, key=str.lower)
    assert table.locator("[aria-sort=ascending]").count() == 1


def test_a_cell_opens_its_seeds_by_click_and_by_key(visit: Callable[..., Any]) -> None:
    page = visit("some")
    summary = page.locator(".seeds summary").first
    lines = page.locator(".seeds").first.locator("li")
    assert not lines.first.is_visible()
    summary.click()
    assert lines.all_inner_texts()[1].startswith("seed 1 ")
    assert len(lines.all_inner_texts()) == 5
    summary.press("Enter")
    assert not lines.first.is_visible()


def test_pointing_at_a_curve_reads_it(visit: Callable[..., Any]) -> None:
    page = visit("some")
    plot = page.locator(".plot[id$=curves]").first
    frame, reading = plot.locator(".frame"), plot.locator(".reading")
    frame.scroll_into_view_if_needed()
    assert not reading.is_visible()
    box = frame.bounding_box()
    frame.hover(position={"x": box["width"] * 0.4, "y": box["height"] * 0.25})
    assert reading.is_visible()
    first = reading.inner_text()
    assert re.fullmatch(r"Epoch \d+\n(CE loss|Bias loss) [\d.]+ ± .*\n(CE loss|Bias loss) [\d.]+ .*", first), first
    assert plot.locator(".pointed circle").count() == 2
    frame.hover(position={"x": box["width"] * 0.3, "y": box["height"] * 0.25})
    assert reading.inner_text() != first
    inside = reading.bounding_box()
    assert inside["x"] >= box["x"] - 1
    assert inside["x"] + inside["width"] <= box["x"] + box["width"] + 1
    page.mouse.move(0, 0)
    assert not reading.is_visible()
    assert plot.locator(".pointed circle").count() == 0


def test_the_arrow_keys_read_a_figure_point_by_point(visit: Callable[..., Any]) -> None:
    page = visit("all")
    plot = page.locator(".plot[id$=curves]").first
    frame, reading = plot.locator(".frame"), plot.locator(".reading")
    frame.focus()
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("Epoch 1\n")
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("Epoch 2\n")
    page.keyboard.press("End")
    assert reading.inner_text().startswith("Epoch 90\n")
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("Epoch 90\n")
    page.keyboard.press("ArrowDown")  # the enlarged end of the same curve
    page.keyboard.press("Home")
    assert re.match(r"Epoch 6\d\n", reading.inner_text())
    assert reading.get_attribute("role") == "status"
    page.keyboard.press("Escape")
    assert not reading.is_visible()


def test_a_finger_reads_a_figure_too(visit: Callable[..., Any]) -> None:
    page = visit("some", viewport=PHONE, has_touch=True)
    frame = page.locator(".plot[id$=deltas] .frame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    frame.tap(position={"x": box["width"] * 0.5, "y": box["height"] * 0.45})
    assert re.search(r", Bias loss\n(.*\n)?paper [+−]", frame.locator(".reading.shown").inner_text(timeout=2000))
    page.locator("h1").tap()
    assert not frame.locator(".reading").is_visible()


def test_on_paper_everything_is_open_and_afterwards_closed_again(visit: Callable[..., Any]) -> None:
    page = visit("some")
    page.evaluate(
        "addEventListener('beforeprint', () => { window.open_ = document.querySelectorAll('.chapter[open]').length })"
    )
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert page.evaluate("window.open_") == page.locator(".chapter").count() > 5
    assert page.locator(".chapter[open]").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    widest = "Math.max(...[...document.querySelectorAll('pre')].map(pre => pre.scrollWidth - pre.clientWidth))"
    assert page.evaluate(widest) <= 0, "lines are cut off in print"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()


def test_the_answer_and_the_menu_stay_in_sight(visit: Callable[..., Any]) -> None:
    page = visit("study")
    figure = page.locator("#verdict .plot").first.bounding_box()
    assert figure["y"] < DESKTOP["height"], "the differences are drawn on the first screen"
    page.evaluate("scrollTo({ top: 3000, behavior: 'instant' })")
    assert page.locator("nav a").first.bounding_box()["y"] < 40


def test_what_has_no_runs_is_folded_away(visit: Callable[..., Any]) -> None:
    page = visit("none")
    assert page.locator("#table-0 .unrun").count() == 1
    assert not page.locator("#table-0 table").first.is_visible()
    assert not page.locator("#claims .claims").first.is_visible()
    page.locator("#table-0 .unrun > summary").click()
    assert page.locator("#table-0 table").first.is_visible()
    assert visit("all").locator("#table-0 .unrun").count() == 0


def test_numbers_stand_on_their_points(visit: Callable[..., Any]) -> None:
    points = """cells => cells.map(cell => {
      const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      const range = document.createRange();
      let text = texts.nextNode();
      while (text && !text.data.includes(".")) text = texts.nextNode();
      if (!text || !cell.dataset.value) return null;
      const at = text.data.indexOf(".");
      range.setStart(text, at);
      range.setEnd(text, at + 1);
      return Math.round(range.getBoundingClientRect().left);
    }).filter(x => x !== null)"""
    page = visit("some")
    for column in ("2", "4", "5"):  # printed parameters, printed and measured accuracies
        found = page.locator(f"#table-0 table.figures >> nth=0 >> tbody td:nth-child({column})").evaluate_all(points)
        assert len(found) > 1
        assert max(found) - min(found) <= 1


def test_a_table_can_be_downloaded_and_copied(visit: Callable[..., Any]) -> None:
    page = visit("study")
    with page.expect_download() as download:
        page.locator("a[download$='.csv']").first.click()
    assert download.value.suggested_filename == "tiny20.csv"
    assert download.value.path().read_text("utf-8").startswith("table,")
    button = page.locator("#again .copy")
    button.click()
    sync_api.expect(button).to_have_text(re.compile("Copied|Selected"))


def test_without_scripts_the_page_still_says_everything(visit: Callable[..., Any]) -> None:
    page = visit("some", java_script_enabled=False)
    summary = page.locator(".seeds summary").first
    summary.click()
    assert page.locator(".seeds li").first.is_visible()
    assert page.locator(".frame svg path").first.is_visible()
