"""The summary that a reproducibility challenge asks for, as Markdown: facts from the records, prompts for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from repro.analysis.claims import Claim
from repro.analysis.controls import MEANINGS as CONTROLS_MEAN
from repro.analysis.controls import assess_controls
from repro.analysis.runs import Reason
from repro.figures import Recorded
from repro.figures.recorded import baselines_beside_the_papers, baselines_of
from repro.report.assumptions import assumed_settings, reproducing_document
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
from repro.report.run_facts import facts, peculiarities
from repro.report.table_rows import delta_rows
from repro.tables import markdown_format as markdown
from repro.tables.compute_words import compute_paragraph
from repro.tables.footnotes import code_versions, plain
from repro.tables.layout import MISSING
from repro.tables.markdown_format import escape
from repro.wording import counted

_PROMPT = "> To be written by the people who ran it."
_REASONS: dict[Reason, str] = {
    "diverged": "diverged",
    "configuration": "recorded under another configuration",
    "imported": "trained elsewhere and imported",
    "unusable": "damaged or edited",
    "unreadable": "could not be read, and may be whole",
    "unknown": "belong to no cell of their table",
}


def render_markdown(report: Report, commands: Sequence[str]) -> str:
    """The summary; ``commands`` are those that reproduce it, in order."""
    sections = {
        "Scope of reproducibility": _scope(report),
        "Methodology": _methodology(report),
        "Results": _results(report),
        "What was easy": [
            f"{_PROMPT} Facts from the records:",
            "",
            *_bullets(easy(report) or ["The records show nothing."]),
        ],
        "What was difficult": [
            f"{_PROMPT} Facts from the records:",
            "",
            *_bullets(difficult(report) or ["The records show no difficulties."]),
        ],
        "Communication with the original authors": [_PROMPT],
        "How to reproduce this summary": ["```console", *commands, "```"],
    }
    lines = [f"# {_title(report)}"]
    for heading, body in sections.items():
        lines += ["", f"## {heading}", "", *body]
    return "\n".join(lines) + "\n"


def easy(report: Report) -> list[str]:
    """What went well, as far as records show."""
    records = report.records
    if not records:
        return ["No completed run is recorded yet."]
    smooth = sum(not record.provenance.resumptions for record in records)
    found = [f"{smooth:,} of {len(records):,} completed runs ran without interruption."] if smooth else []
    if not _left_out(report)["diverged"]:
        found.append("No run diverged.")
    if len(code_versions(records)) == 1:
        found.append("All runs used the same version of the training code.")
    papers = report.papers if report.on_paper else ()
    if close := baselines_beside_the_papers(papers, far=False):
        networks = counted(len(close), "network")
        found.append(f"Our {baselines_of(papers)} is within a point of the paper's for {networks}: {', '.join(close)}.")
    return found


def difficult(report: Report) -> list[str]:
    """What failed or had to be assumed, as far as records and documents show."""
    found = []
    counts = _left_out(report)
    for why, words in _REASONS.items():
        if counts[why]:
            found.append(f"{counted(counts[why], 'record')}: {words}.")
    for table in report.sections:
        dead = sum(len(cell.runs.at_chance) for key, cell in table.assessment.cells.items() if key[0] == table.table.id)
        if dead:
            found.append(f"{counted(dead, 'completed run')} of {table.label} ended at chance level.")
    papers = report.papers if report.on_paper else ()
    if far := baselines_beside_the_papers(papers, far=True):
        found.append(f"Our {baselines_of(papers)} is more than a point from the paper's for {', '.join(far)}.")
    found += peculiarities(report.records)
    asked = report.papers if report.on_paper else report.sections
    missing = sum(table.shown.planned_runs - table.shown.recorded_runs for table in asked)
    if missing:
        whose_runs = " of the paper's tables" if report.on_paper else ""
        found.append(f"{missing:,} planned runs{whose_runs} are not recorded.")
    if not report.on_paper:
        return found
    assumed = assumed_settings(reproducing_document())
    found.append(
        f"{len(assumed)} settings had to be assumed ({'; '.join(assumed)}), and other details were ambiguous: see "
        "docs/reproducing.md."
    )
    return found


def _title(report: Report) -> str:
    paper = "Bias Loss for Mobile Neural Networks"
    if report.on_paper:
        return f"{paper}: reproducibility summary"
    return escape(f"{', '.join(table.label for table in report.sections)}: results with biasrepro")


def _scope(report: Report) -> list[str]:
    if not report.on_paper:
        return _bullets(study_scope(report.sections))
    cells = sum(len(printed_cells(table)) for table in report.papers)
    return [
        f"Tables 1 and 2 of the supplementary material (ICCV 2021, arXiv 2107.11170): {cells} differences from "
        f"cross-entropy (6 printed, the others formed from rounded accuracies), and {len(report.claims)} claims of the "
        "text:",
        "",
        *_bullets(f"{claim.statement} ({claim.source})" for claim in report.claims),
    ]


def _methodology(report: Report) -> Iterator[str]:
    """What was run, on which hardware, and how it is tested."""
    if report.on_paper:
        yield (
            "Losses and training were implemented from the paper's supplement and the recipe of the authors' code "
            "base; the text of the main paper was not at hand. Networks are torchvision's where it has them, else "
            "written from their papers."
        )
        yield ""
    yield (
        f"Every loss is trained with the same seeds as {baselines_of(report.sections)}; differences are paired by "
        "seed, with Student's t intervals over seeds only, and p-values are adjusted by "
        f"Holm's method over all cells of {report.family}. Accuracies are from the "
        f"{'last epoch' if report.metric == 'last' else 'best epoch, which is selected on the test set'}."
    )
    for table in report.sections:
        shown = table.shown
        yield ""
        yield f"**{escape(table.heading)}** {shown.recorded_runs:,} of {shown.planned_runs:,} planned runs recorded."
        yield ""
        yield from _bullets(f"{heading}: {text}" for heading, text in shown.configuration)
    made = facts(report.records, report.imported)
    if made:
        yield ""
        yield from _bullets(f"{name}: {text}" for name, text in made.items())
    if (compute := report.compute) is not None:
        yield ""
        yield f"**Compute resources.** {escape(compute_paragraph(compute))}"


def _results(report: Report) -> Iterator[str]:
    if report.on_paper:
        yield from _verdict_and_claims(report)
    else:
        yield f"**{escape(study_headline(report.sections))}**"
        yield ""
        yield from _bullets(study_remarks(report.sections))
    for table in report.sections:
        yield ""
        yield markdown.render([table.shown], "").rstrip()
        yield from _differences(table)
        if claims := assess_controls(table.table, table.assessment):
            yield ""
            yield from CONTROLS_MEAN
            yield ""
            yield from _answers(claims)


def _verdict_and_claims(report: Report) -> Iterator[str]:
    answers = tally(report.papers)
    yield f"**{paper_headline(answers)}**"
    yield ""
    yield from _bullets(f"{answer}: {count} ({MEANINGS[answer]})" for answer, count in answers.items())
    yield ""
    yield from paper_remarks(report.papers)
    yield ""
    yield from _answers(report.claims)


def _answers(claims: Iterable[Claim]) -> Iterator[str]:
    yield "| Claim | Answer |"
    yield "| :--- | :--- |"
    yield from (f"| {escape(claim.statement)} | {escape(claim.words)} |" for claim in claims)


def _differences(table: Recorded) -> Iterator[str]:
    """A line for each cell, with the printed difference if there is one."""
    printed = table.shown.published_as is not None
    if not printed_cells(table) and table.shown.kind != "study":
        return
    lines = [
        ("Model", "Loss", "Paper", "Ours (95% interval)", "p", "Paper's compatible", "p, smaller than 0.5", "Verdict"),
        (":---", ":---", "---:", ":---", "---:", ":---", "---:", ":---"),
    ]
    for row in delta_rows(table):
        ours = row.ours.text
        if ours != MISSING:
            ours += f"{f' ({row.interval})' if row.interval else ''}, n = {row.n.text}"
        of_row = (escape(plain(row.model)), escape(plain(row.loss)), row.paper.text, ours, row.p.text)
        lines.append((*of_row, row.compatible, row.small.text, row.words or row.answer or ""))
    yield ""
    for cells in lines:
        yield f"| {' | '.join(cells if printed else (*cells[:2], *cells[3:5]))} |"


def _left_out(report: Report) -> Counter[Reason]:
    return Counter(record.why for table in report.sections for record in table.shown.left_out)


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {escape(text)}" for text in texts]
