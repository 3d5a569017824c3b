"""The layout that Markdown, LaTeX and HTML share: which number is on which line, the caption and the legend.

The columns are those of the printed table. Each model has a line of published numbers, as printed, then a line of ours,
then a line of our differences from the baseline. Text is Unicode; ids, paths and settings are between backticks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from repro.analysis.stats.estimates import MIN_SEEDS
from repro.tables.assemble import setting_text
from repro.tables.footnotes import code, plain
from repro.tables.structure import AssembledCell, AssembledRow, AssembledTable, Sample
from repro.tables.verdicts import stars
from repro.wording import decimals_printed, signed

MISSING = "–"
DELTA = "Δ"
VERDICT = "verdict"
INTERVAL = "95%"
FIGURE_HEADING = "Top-1 (%)"

_CAVEATS = {
    "paper": "",
    "released": "Not a table of the paper.",
    "variants": "Not a table of the paper.",
    "study": "A study of ours, not a table of the paper.",
    "demo": "A demo, not a result of the paper.",
}


@dataclass(frozen=True)
class Entry:
    """The content of one place: a number, its seeds where they are shown, and the marks of its footnotes."""

    figure: str
    n: int | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of a model: published figures, ours, or our differences from the baseline."""

    label: str
    parameters: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Block:
    """The lines of one model under its title."""

    title: str
    marks: tuple[str, ...]
    variant: bool
    lines: tuple[Line, ...]


def spans(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of ``text``, and whether each is code, between two backticks; one without a second is a character."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    return ((part, index % 2 == 1) for index, part in enumerate(parts))


def blocks(table: AssembledTable, *, usual_n: int | None = None) -> list[Block]:
    """The body, model by model. The number of seeds is not shown if it is ``usual_n`` or 1."""
    built: list[Block] = []
    before = None
    for row in table.rows:
        block, key = _block(row, table, usual_n), (row.table, row.id)
        if key == before:  # of another results folder: below the lines of the one before, without what is printed
            last, lines = built[-1], [line for line in block.lines if line.label != table.published_as]
            marks = tuple(dict.fromkeys((*last.marks, *block.marks)))
            built[-1] = replace(last, marks=marks, lines=(*last.lines, *lines))
        else:
            built.append(block)
        before = key
    return built


def label(table: AssembledTable) -> str:
    """The name of the table."""
    return plain(table.label) if table.comparable else f"{plain(table.label)} (modified)"


def caption(table: AssembledTable, *, whose: bool = True) -> str:
    """The caption without the label: the caveat, and the title in the paper's words; ``whose`` as for ``caveat``."""
    best = "Ours at the best epoch, selected on the test set." if table.metric == "best" else ""
    return " ".join(part for part in (caveat(table, whose=whose), plain(table.title), best) if part)


def caveat(table: AssembledTable, *, whose: bool = True) -> str:
    """The warning for a demo, a study or a modified protocol; empty for the paper's own tables.

    Without ``whose``, nothing of whose table it is, where that is said elsewhere.
    """
    kind = _CAVEATS[table.kind] if whose else ""
    if table.comparable:
        return kind
    settings = ", ".join(code(setting_text(key, value)) for key, value in table.overrides)
    return f"{kind} Modified protocol: {settings}; not comparable with the paper.".strip()


def legend(table: AssembledTable, *, usual_n: int | None = None) -> list[str]:
    """What the lines and numbers mean, a sentence or two each."""
    baseline = next(plain(heading.title) for heading in table.columns if heading.baseline)
    epoch = "at the last epoch" if table.metric == "last" else "at the best epoch, selected on the test set"
    over = "n seeds; a single run where n is not given"
    if usual_n:
        over = f"{usual_n} seeds{'' if _same_number_everywhere(table) else ' unless n is given'}"
    closing = f"Parameters: counted on the trained network. {MISSING}: no completed run."
    lines = []
    if table.published_as and not table.compact:
        source = f"{plain(table.source)}; " if table.source else ""
        lines.append(f"{table.published_as}: {source}in parentheses the difference from {baseline}.")
        closing = "Parameters: as printed; in our line, counted on the trained network. "
        closing += f"{MISSING}: not printed or no completed run."
    ours = "Our" if table.compact else "ours:"
    if table.labs:
        lines.append(f"{', '.join(table.labs)}: the results folders, each with lines of its own.")
        ours = "In each:"
    lines.append(f"{ours} top-1 accuracy {epoch}, mean ± sample standard deviation over {over}.")
    if len(table.columns) > 1 and table.compact:
        lines.append(f"In parentheses: ours minus our {baseline}, mean over the seeds common to both.")
    elif len(table.columns) > 1:
        over = "mean ± sample standard deviation over the seeds common to both"
        lines.append(f"{DELTA}: ours minus our {baseline}, {over}.")
    return [*lines, *_verdict_legend(table), closing]


def _verdict_legend(table: AssembledTable) -> list[str]:
    test = "two-sided paired t-test, Holm-adjusted over the differences in this table"
    if table.verdicts == "stars":
        if not _nothing_printed(table):
            test = (
                "one-sided t-test in the printed direction, Holm-adjusted over the tables tested together; where the "
            )
            test += "printed difference is within its rounding, an equivalence test"
        return [f"*, **, ***: p below 0.05, 0.01, 0.001 ({test})."]
    if table.verdicts == "words" and _nothing_printed(table):
        what = f"{INTERVAL}: confidence interval of the difference, and its p-value"
        return [f"{'In parentheses, too: p' if table.compact else what} ({test})."]
    if table.verdicts == "words":
        return [
            "verdict: reproduced (an effect in the printed direction after Holm's adjustment, and the printed "
            "difference in the 95% prediction interval of a single one; where it is within its rounding, equivalence "
            "instead of an effect); partly (the printed difference outside); opposite (an effect in the other "
            "direction); not reproduced (no effect, and smaller than 0.5 points where more is printed, or the printed "
            "difference rejected after Holm's adjustment); undecided (none of these)."
        ]
    return []


def usual_number_of_seeds(table: AssembledTable) -> int | None:
    """The number of seeds behind most cells, None if that is one or there are none."""
    counts = Counter(cell.ours.n for row in table.rows for cell in row.cells if cell.ours)
    usual = max(counts, key=lambda n: (counts[n], n), default=1)
    return usual if usual > 1 else None


def accuracy(sample: Sample) -> str:
    """``70.12``, or ``70.12 ± 0.21`` over several seeds."""
    return f"{sample.mean:.2f}{_spread(sample)}"


def interval(low: float, high: float) -> str:
    """``+0.42 to +0.80``."""
    return f"{signed(low, 2)} to {signed(high, 2)}"


def p_text(p: float) -> str:
    """``p = 0.013``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def published_accuracy(value: float, table: AssembledTable) -> str:
    """As it was printed: the paper drops a decimal that is zero (71), the released code's README does not (72.00)."""
    return f"{value:g}" if table.kind == "paper" else f"{value:.{_decimals(table)}f}"


def _block(row: AssembledRow, table: AssembledTable, usual_n: int | None) -> Block:
    counted = f"{row.counted_parameters / 1e6:.2f}M" if row.counted_parameters is not None else MISSING
    if table.compact:
        entries = tuple(_compact_entry(cell, table, usual_n) for cell in row.cells)
        return Block(row.title, row.marks, row.variant, (Line(row.lab, counted, entries),))
    lines = [Line(row.lab or "ours", counted, tuple(_our_entry(cell, usual_n) for cell in row.cells))]
    if any(not heading.baseline for heading in table.columns):
        cells = zip(table.columns, row.cells, strict=True)
        deltas = (Entry("") if column.baseline else _delta_entry(cell, table, usual_n) for column, cell in cells)
        lines.append(Line(f"{DELTA} {row.lab}".rstrip(), "", tuple(deltas)))
    if table.verdicts == "words" and any(_word(cell) for cell in row.cells):
        lines.append(Line(VERDICT, "", tuple(Entry(_word(cell)) for cell in row.cells)))
    elif table.verdicts == "words" and any(cell.judgement for cell in row.cells):
        lines.append(Line(INTERVAL, "", tuple(Entry(_interval(cell)) for cell in row.cells)))
    if table.published_as and not row.variant:
        millions = row.published_parameters_millions
        printed = MISSING if millions is None else f"{millions:g}M"
        entries = tuple(Entry(_published_entry(cell, table)) for cell in row.cells)
        lines.insert(0, Line(table.published_as, printed, entries))
    return Block(row.title, row.marks, row.variant, tuple(lines))


def _compact_entry(cell: AssembledCell, table: AssembledTable, usual_n: int | None) -> Entry:
    """Our accuracy, with the difference and its verdict or p-value in parentheses."""
    ours = _our_entry(cell, usual_n)
    if cell.delta is None:
        return ours
    text = f"{signed(cell.delta.mean, 2)}{_stars(cell, table)}"
    if table.verdicts == "words" and (word := _word(cell)):
        text += f", {word}"
    elif table.verdicts == "words" and cell.judgement and cell.judgement.p_adjusted is not None:
        text += f", {p_text(cell.judgement.p_adjusted)}"
    return replace(ours, figure=f"{ours.figure} ({text})")


def _word(cell: AssembledCell) -> str:
    """The verdict; a dash if a difference is printed and we have none."""
    if cell.judgement is None:
        return ""
    return cell.judgement.words or ("" if cell.delta else MISSING)


def _interval(cell: AssembledCell) -> str:
    """The interval and p-value, for cells without a printed difference."""
    if cell.judgement is None:
        return ""
    if cell.judgement.interval_points is None or cell.judgement.p_adjusted is None:
        return f"n < {MIN_SEEDS}" if cell.delta and cell.delta.n < MIN_SEEDS else MISSING
    return f"{interval(*cell.judgement.interval_points)}, {p_text(cell.judgement.p_adjusted)}"


def _nothing_printed(table: AssembledTable) -> bool:
    """Whether differences were tested and the paper prints none of them."""
    judged = [cell for row in table.rows for cell in row.cells if cell.judgement]
    return bool(judged) and all(cell.delta and not _word(cell) for cell in judged)


def _our_entry(cell: AssembledCell, usual_n: int | None) -> Entry:
    if cell.ours is None:
        return Entry(MISSING, None, cell.marks)
    return Entry(accuracy(cell.ours), _n_to_show(cell.ours, usual_n), cell.marks)


def _delta_entry(cell: AssembledCell, table: AssembledTable, usual_n: int | None) -> Entry:
    if cell.delta is None:
        return Entry(MISSING)
    text = f"{signed(cell.delta.mean, 2)}{_spread(cell.delta)}{_stars(cell, table)}"
    return Entry(text, _n_to_show(cell.delta, usual_n))


def _stars(cell: AssembledCell, table: AssembledTable) -> str:
    return stars(cell.judgement) if table.verdicts == "stars" else ""


def _published_entry(cell: AssembledCell, table: AssembledTable) -> str:
    if cell.published is None:
        return MISSING
    text = published_accuracy(cell.published, table)
    if cell.published_delta is None:
        return text
    return f"{text} ({signed(cell.published_delta, _decimals(table))})"


def _same_number_everywhere(table: AssembledTable) -> bool:
    samples = (sample for row in table.rows for cell in row.cells for sample in (cell.ours, cell.delta) if sample)
    return len({sample.n for sample in samples}) == 1


def _n_to_show(sample: Sample, usual_n: int | None) -> int | None:
    return None if sample.n == (usual_n or 1) else sample.n


def _spread(sample: Sample) -> str:
    return "" if sample.std is None else f" ± {sample.std:.2f}"


def _decimals(table: AssembledTable) -> int:
    """The decimals of the table's most precise published accuracy, at least one."""
    return decimals_printed(cell.published for row in table.rows for cell in row.cells if cell.published is not None)
