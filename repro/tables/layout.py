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
from repro.wording import signed

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
    """The content of one place: a number, its seeds where they are shown, and the marks of its footnotes.

    ``best``: the number that it begins with is to be bold.
    """

    figure: str
    n: int | None = None
    marks: tuple[str, ...] = ()
    best: bool = False

    @property
    def number_and_rest(self) -> tuple[str, str]:
        """The number that it begins with, and what follows."""
        number, space, rest = self.figure.partition(" ")
        return number, space + rest


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


def blocks(table: AssembledTable, *, usual_n: int | None = None, p_apart: bool = False) -> list[Block]:
    """The body, model by model. The number of seeds is not shown if it is ``usual_n`` or 1.

    With ``p_apart`` the p-value of an interval has a line of its own: columns are narrower.
    """
    built: list[Block] = []
    before = None
    for row in table.rows:
        block, key = _block(row, table, usual_n, p_apart=p_apart), (row.table, row.id)
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
    incomparable = "" if table.kind in ("study", "demo") else "; not comparable with the paper"  # these never are
    return f"{kind} Modified protocol: {settings}{incomparable}.".strip()


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


def parameter_count(count: float) -> str:
    """``0.35M``; below 10,000, where two decimals of a million say nothing, ``251``."""
    return f"{count / 1e6:.2f}M" if count >= 10_000 else f"{count:,.0f}"


def published_accuracy(value: float, table: AssembledTable) -> str:
    """As it was printed: the paper drops a decimal that is zero (71), the released code's README does not (72.00)."""
    return f"{value:g}" if table.kind == "paper" else f"{value:.{table.decimals}f}"


def _block(row: AssembledRow, table: AssembledTable, usual_n: int | None, *, p_apart: bool) -> Block:
    counted = parameter_count(row.counted_parameters) if row.counted_parameters is not None else MISSING
    if table.compact:
        entries = tuple(_compact_entry(cell, table, usual_n) for cell in row.cells)
        return Block(row.title, row.marks, row.variant, (_accuracies(Line(row.lab, counted, entries), table),))
    ours = Line(row.lab or "ours", counted, tuple(_our_entry(cell, usual_n) for cell in row.cells))
    lines = [_accuracies(ours, table)]
    if any(not heading.baseline for heading in table.columns):
        cells = zip(table.columns, row.cells, strict=True)
        deltas = (Entry("") if column.baseline else _delta_entry(cell, table, usual_n) for column, cell in cells)
        lines.append(Line(f"{DELTA} {row.lab}".rstrip(), "", tuple(deltas)))
    if table.verdicts == "words" and any(_word(cell) for cell in row.cells):
        lines.append(Line(VERDICT, "", tuple(Entry(_word(cell)) for cell in row.cells)))
    elif table.verdicts == "words" and any(cell.judgement for cell in row.cells):
        lines += _interval_lines(row, p_apart=p_apart)
    if table.published_as and not row.variant:
        millions = row.published_parameters_millions
        printed = MISSING if millions is None else f"{millions:g}M"
        entries = tuple(Entry(_published_entry(cell, table)) for cell in row.cells)
        lines.insert(0, _accuracies(Line(table.published_as, printed, entries), table))
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


def _accuracies(line: Line, table: AssembledTable) -> Line:
    """``line`` with the highest of its accuracies marked, if that is asked for: all that are as high when rounded."""
    if not table.bold_best:
        return line
    shown = [entry.number_and_rest[0] for entry in line.entries]
    accuracies = [None if number == MISSING else float(number) for number in shown]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if len(known) < 2:
        return line
    marked = (replace(entry, best=value == max(known)) for entry, value in zip(line.entries, accuracies, strict=True))
    return replace(line, entries=tuple(marked))


def _interval_lines(row: AssembledRow, *, p_apart: bool) -> list[Line]:
    """The intervals and p-values, on one line or two."""
    answers = [_interval(cell) for cell in row.cells]
    if not p_apart:
        together = (f"{ends}, {p}" if p else ends for ends, p in answers)
        return [Line(INTERVAL, "", tuple(map(Entry, together)))]
    values = (p.removeprefix("p ").removeprefix("= ").replace("< ", "<") for _, p in answers)
    return [Line(INTERVAL, "", tuple(Entry(ends) for ends, _ in answers)), Line("p", "", tuple(map(Entry, values)))]


def _interval(cell: AssembledCell) -> tuple[str, str]:
    """The interval and p-value, for cells without a printed difference."""
    if cell.judgement is None:
        return "", ""
    if cell.judgement.interval_points is None or cell.judgement.p_adjusted is None:
        return f"n < {MIN_SEEDS}" if cell.delta and cell.delta.n < MIN_SEEDS else MISSING, ""
    return interval(*cell.judgement.interval_points), p_text(cell.judgement.p_adjusted)


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
    return f"{text} ({signed(cell.published_delta, table.decimals)})"


def _n_to_show(sample: Sample, usual_n: int | None) -> int | None:
    return None if sample.n == (usual_n or 1) else sample.n


def _spread(sample: Sample) -> str:
    return "" if sample.std is None else f" ± {sample.std:.2f}"
