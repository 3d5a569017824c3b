"""The summary that a reproducibility challenge asks for, as Markdown: facts from the records, prompts for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from repro.analysis.runs import LeftOut, Reason
from repro.figures import Recorded
from repro.figures.deltas import delta_text
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
from repro.report.provenance import facts, peculiarities
from repro.report.table_rows import delta_rows
from repro.tables import markdown_format as markdown
from repro.tables.layout import MISSING, signed
from repro.tables.markdown_format import escape

_PROMPT = "> To be written by the people who ran it. Facts from the records:"


def render_markdown(report: Report, commands: Sequence[str]) -> str:
    """The summary; ``commands`` are those that reproduce it, in order."""
    lines = [
        f"# {_title(report)}",
        "",
        "## Scope of reproducibility",
        "",
        *_scope(report),
        "",
        "## Methodology",
        "",
        *_methodology(report),
        "",
        "## Results",
        "",
        *_results(report),
        "",
        "## What was easy",
        "",
        _PROMPT,
        "",
        *_bullets(easy(report)),
        "",
        "## What was difficult",
        "",
        _PROMPT,
        "",
        *_bullets(difficult(report) or ["The records show no difficulties."]),
        "",
        "## Communication with the original authors",
        "",
        "> To be written by the people who ran it.",
        "",
        "## How to reproduce this summary",
        "",
        "```console",
        *commands,
        "```",
    ]
    return "\n".join(lines) + "\n"


def easy(report: Report) -> list[str]:
    """What went well, as far as records show."""
    records = report.records
    if not records:
        return ["No completed run is recorded yet."]
    smooth = sum(not record.provenance.resumptions for record in records)
    found = [f"{smooth:,} of {len(records):,} completed runs ran without interruption."]
    if not any(one.why == "diverged" for one in _left_out(report)):
        found.append("No run diverged.")
    sources = Counter(record.provenance.code_hash for record in records)
    if len(sources) == 1:
        found.append("All runs used the same version of the training code.")
    close = [row for table in report.papers for row in _rows_with_baseline(table) if not row[1]]
    if close:
        found.append(
            f"Our cross-entropy is within a point of the paper's for {len(close)} "
            f"network{'' if len(close) == 1 else 's'}: {', '.join(name for name, _ in close)}."
        )
    return found


def difficult(report: Report) -> list[str]:
    """What failed or had to be assumed, as far as records and documents show."""
    found = []
    reasons: dict[Reason, str] = {
        "diverged": "diverged",
        "configuration": "recorded under another configuration",
        "unusable": "damaged or edited",
        "unknown": "belong to no cell of their table",
    }
    counts = Counter(one.why for one in _left_out(report))
    found += [
        f"{counts[why]:,} record{'' if counts[why] == 1 else 's'}: {words}."
        for why, words in reasons.items()
        if counts[why]
    ]
    far = [name for table in report.papers for name, is_far in _rows_with_baseline(table) if is_far]
    if far:
        found.append(f"Our cross-entropy is more than a point from the paper's for {', '.join(far)}.")
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
    return escape(f"{', '.join(table.label for table in report.sections)}: in addition to a reproduction of {paper}")


def _scope(report: Report) -> list[str]:
    if not report.on_paper:
        return _bullets(study_scope(report.sections))
    cells = sum(len(printed_cells(table)) for table in report.papers)
    return [
        f"Tables 1 and 2 of the supplementary material (ICCV 2021, arXiv 2107.11170): {cells} differences from "
        f"cross-entropy, and {len(report.claims)} claims of the text:",
        "",
        *_bullets(f"{claim.statement} ({claim.source})" for claim in report.claims),
    ]


def _methodology(report: Report) -> Iterator[str]:
    """What was run, on which hardware, and how it is tested."""
    family = "both tables, and of any other table separately" if report.on_paper else "the table"
    yield (
        "Networks, losses and training were implemented from the papers. Every loss is trained with the same seeds as "
        "cross-entropy; differences are paired by seed, with Student's t intervals, and p-values are adjusted by "
        f"Holm's method over all cells of {family}. Accuracies are from the "
        f"{'last epoch' if report.metric == 'last' else 'best epoch, which is selected on the test set'}."
    )
    for table in report.sections:
        shown = table.shown
        yield ""
        yield f"**{escape(table.heading)}** {shown.recorded_runs:,} of {shown.planned_runs:,} planned runs recorded."
    made = facts(report.records)
    if made:
        yield ""
        yield from _bullets(f"{fact.name}: {fact.text}" for fact in made)


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


def _verdict_and_claims(report: Report) -> Iterator[str]:
    answers = tally(report.papers)
    yield f"**{paper_headline(answers)}**"
    yield ""
    yield from _bullets(f"{answer}: {count} ({MEANINGS[answer]})" for answer, count in answers.counts)
    yield ""
    yield from paper_remarks(report.papers)
    yield ""
    yield "| Claim | Answer |"
    yield "| :--- | :--- |"
    yield from (f"| {escape(claim.statement)} | {escape(claim.words)} |" for claim in report.claims)


def _differences(table: Recorded) -> Iterator[str]:
    """A line for each cell, with the printed difference where there is one."""
    printed = bool(printed_cells(table))
    if not printed and table.shown.kind != "study":
        return
    yield ""
    yield f"| Model | Loss |{' Paper |' if printed else ''} Ours (95% interval) | p |{' Verdict |' if printed else ''}"
    yield f"| :--- | :--- |{' ---: |' if printed else ''} :--- | ---: |{' :--- |' if printed else ''}"
    cells = ((row, column) for row in table.table.rows for column in table.compared)
    for (row, column), line in zip(cells, delta_rows(table), strict=True):
        result = table.result(row, column)
        ours = delta_text(result.delta) if result.delta else line.ours.text
        paper = f" {MISSING if result.paper_delta is None else signed(result.paper_delta, 2)} |" if printed else ""
        verdict = f" {line.answer or ''} |" if printed else ""
        yield f"| {escape(line.model)} | {escape(line.loss)} |{paper} {ours} | {line.p.text} |{verdict}"


def _rows_with_baseline(table: Recorded) -> list[tuple[str, bool]]:
    """The networks whose cross-entropy accuracy can be compared with the paper's, and whether it is far off."""
    rows = ((row, [table.result(row, column) for column in table.compared]) for row in table.table.rows)
    return [
        (f"{row.title} ({table.label})", any(result.baseline_is_far for result in results))
        for row, results in rows
        if any(result.baseline_offset is not None for result in results)
    ]


def _left_out(report: Report) -> list[LeftOut]:
    return [one for table in report.sections for one in table.shown.left_out]


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {escape(text)}" for text in texts]
