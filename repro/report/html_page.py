"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import repro
from repro.analysis import controls
from repro.analysis.claims import Answer, Claim
from repro.analysis.stats.decision_rule import Verdict
from repro.analysis.stats.power import GUESSED_RUN_STD, POWER
from repro.experiment.papers import PAPERS
from repro.figures import Recorded, draw_figure
from repro.figures.recorded import baselines_of
from repro.report.assumptions import Chapter, chapters, reproducing_document
from repro.report.contents import Report
from repro.report.headlines import (
    MEANINGS,
    paper_headline,
    paper_remarks,
    printed_cells,
    study_headline,
    study_remarks,
    study_scope,
    tally,
)
from repro.report.inline_figures import InlineFigure, inline_figure
from repro.report.run_facts import facts, peculiarities
from repro.report.table_rows import accuracy_rows, delta_rows
from repro.tables import csv_format, json_format, latex_format
from repro.tables.compute_words import compute_paragraph
from repro.tables.html_format import escape
from repro.tables.layout import caption, usual_number_of_seeds
from repro.tables.legend import legend
from repro.tables.structure import AssembledTable

# The style of the label of a verdict on a difference, and of the answer to a claim.
CHIPS: dict[str, str] = {
    Verdict.REPRODUCED: "full",
    Verdict.PARTLY: "half",
    Verdict.NOT_REPRODUCED: "against",
    Verdict.OPPOSITE: "against",
    Verdict.UNDECIDED: "open",
    Verdict.CHANCE: "absent",
    "not run": "absent",
    Answer.SUPPORTED: "full",
    Answer.PARTLY: "half",
    Answer.CONTRADICTED: "against",
    Answer.UNDECIDED: "open",
}

_OF_EVERY_TABLE = ("The losses",)
_FIGURES = {
    "deltas": "Differences from {baseline}",
    "parameters": "Gain by size",
    "curves": "Training curves",
    "weights": "Weights z",
}
_KINDS = {
    "paper": "a table of the paper",
    "released": "the released code's table, not a table of the paper",
    "variants": "another interpretation, not a table of the paper",
    "study": "a study of ours, not a table of the paper",
    "demo": "a demo, not a result of the paper",
}


def render_html(report: Report, commands: Sequence[str]) -> str:
    """The page; ``commands`` are those that reproduce it, in order."""
    answers = tally(report.papers)
    environment = Environment(
        loader=PackageLoader("repro.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_typographic,
    )
    script = _text("behaviour.js")
    records, sections = report.records, report.sections
    page = environment.get_template("page.html.j2").render(
        version=repro.__version__,
        on_paper=report.on_paper,
        on_another_paper=report.on_another_paper,
        family=report.family,
        baseline=baselines_of(sections),
        title=", ".join(table.label for table in sections),
        scope=" ".join(study_scope(sections)),
        headline=paper_headline(answers) if report.on_paper else study_headline(sections),
        remarks=paper_remarks(report.papers) if report.on_paper else study_remarks(sections),
        answers=answers,
        any_run=any(count for answer, count in answers.items() if answer != "not run"),
        meanings=MEANINGS,
        chips=CHIPS,
        claims=[claim for claim in report.claims if claim.answer is not Answer.NOT_RUN],
        claims_not_run=[claim for claim in report.claims if claim.answer is Answer.NOT_RUN],
        meanings_of_controls=controls.MEANINGS,
        differences=[
            figure
            for index, table in enumerate(sections)
            if report.answers_on(table)
            for figure in _figures(table, f"table-{index}", ["deltas"] if table.compared else [])
        ],
        sections=[_section(table, f"table-{index}", report) for index, table in enumerate(sections)],
        figure_1=inline_figure(draw_figure("1", []), "figure-1", "Figure 1 of the supplement"),
        facts=facts(records, report.imported),
        peculiarities=peculiarities(records),
        compute=None if report.compute is None else compute_paragraph(report.compute),
        chapters=[(chapter.heading, Markup(chapter.html)) for chapter in _chapters(report)],
        unknown=report.unknown,
        commands=Markup("\n").join(commands),
        metric=report.metric,
        power=POWER,
        guessed_spread=GUESSED_RUN_STD,
        style=Markup(_text("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        as_markup=Markup,
        as_data=_as_data,
        code=lambda text: Markup(escape(text)),
        after_answer=_after_answer,
    )
    return f"{page.strip()}\n"


def _chapters(report: Report) -> list[Chapter]:
    """The chapters on assumptions: all on the paper's page, else those that hold for every table."""
    found = chapters(reproducing_document())
    return found if report.on_paper else [chapter for chapter in found if chapter.heading in _OF_EVERY_TABLE]


def _section(table: Recorded, section_id: str, report: Report) -> dict[str, Any]:
    """What the template shows of a table."""
    shown = table.shown
    changed = "" if shown.comparable else ", modified by overrides"
    another = table.table.paper if table.table.paper != PAPERS["bias_loss"] else None
    kind = f"a table of {another.citation}" if another else _KINDS[shown.kind]
    usual_n = usual_number_of_seeds(shown)
    names = _figures_of(table, report)
    figures = _figures(table, section_id, names)
    drawn = {figure.id for figure in figures}
    undrawn = [_figure_title(name, table) for name in names if f"{section_id}-{name}" not in drawn]
    return {
        "id": section_id,
        "label": table.label,
        # Whose the tables of another page are stands at its top.
        "kind": f"This is {kind}{changed}." if report.on_paper or another else "",
        "caption": caption(shown, whose=False),
        "ran": shown.recorded_runs > 0 or bool(shown.left_out),
        "progress": f"{shown.recorded_runs:,} of {shown.planned_runs:,} planned runs recorded",
        "columns": [heading.title for heading in shown.columns],
        "published_as": shown.published_as,
        "compares": bool(printed_cells(table)),
        "usual_n": usual_n,
        "accuracies": accuracy_rows(table),
        "baseline": table.baseline,
        "deltas": delta_rows(table),
        "configuration": shown.configuration,
        "controls": controls.assess_controls(table.table, table.assessment),
        "legend": legend(shown, usual_n=usual_n),
        "notes": shown.notes,
        "left_out": shown.left_out,
        "latex": latex_format.render([shown], ""),
        "downloads": list(_downloads(shown)),
        "figures": figures,
        "undrawn": [f"{title[0].lower()}{title[1:]}" for title in undrawn] if shown.recorded_runs else [],
    }


def _downloads(shown: AssembledTable) -> Iterator[tuple[str, str, str]]:
    """The content of a table as files: the kind, the file's name, and the file as an address."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", shown.id)
    # A page names no folder of the machine that made it.
    left_out = tuple(replace(record, path=f"{record.run}/run.json") for record in shown.left_out)
    shown = replace(shown, reference=shown.id, left_out=left_out)
    for kind, type_, render in (
        ("CSV", "text/csv", csv_format.render),
        ("JSON", "application/json", json_format.render),
    ):
        yield kind, f"{name}.{kind.lower()}", f"data:{type_};charset=utf-8,{quote(render([shown], ''))}"


def _figures(table: Recorded, section_id: str, names: Sequence[str]) -> list[InlineFigure]:
    """Those of the named figures that show anything of ours; their captions do not repeat whose table it is."""
    figures = []
    for name in names if table.shown.recorded_runs else ():
        drawing = draw_figure(name, [table])
        if not drawing.empty:
            drawing = replace(drawing, caption=drawing.caption.replace(table.heading, f"{table.label}.", 1))
            figures.append(
                inline_figure(drawing, f"{section_id}-{name}", f"{_figure_title(name, table)}, {table.label}")
            )
    return figures


def _figure_title(name: str, table: Recorded) -> str:
    return _FIGURES[name].format(baseline=table.baseline)


def _figures_of(table: Recorded, report: Report) -> list[str]:
    """The figures of a table's section; its differences are under the headline if that is on them."""
    names = ["curves"]
    if table.compared:
        names = ["curves", "weights"] if report.answers_on(table) else ["deltas", "curves", "weights"]
    is_printed = table.table.kind == "paper" and table.shown.published_as is not None
    return ["parameters", *names] if is_printed else names


def _after_answer(claim: Claim) -> str:
    """The explanation of a claim's answer, without the answer itself."""
    rest = claim.words.removeprefix(claim.answer.value.capitalize()).lstrip(".: ")
    return rest[:1].upper() + rest[1:]


def _typographic(value: object) -> object:
    """Typographic apostrophes in text that is not markup."""
    return re.sub(r"(?<=\w)'(?=\w)", "’", value) if type(value) is str else value


def _as_data(value: object) -> Markup:
    """JSON for a script element, escaped so that it cannot end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _text(name: str) -> str:
    return files("repro.report").joinpath(name).read_text("utf-8")
