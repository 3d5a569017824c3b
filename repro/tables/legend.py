"""What the lines and numbers of a table mean, below it: the same sentences in every format."""

from __future__ import annotations

from repro.analysis.stats.decision_rule import Verdict
from repro.tables.footnotes import plain
from repro.tables.layout import DELTA, INTERVAL, MISSING
from repro.tables.structure import AssembledTable


def legend(table: AssembledTable, *, usual_n: int | None = None, p_apart: bool = False) -> list[str]:
    """What the lines and numbers mean, a sentence or two each; arguments as for ``blocks``."""
    has_deltas = any(not heading.baseline for heading in table.columns)
    epoch = "at the last epoch" if table.metric == "last" else "at the best epoch, selected on the test set"
    over = "n seeds; a single run where n is not given"
    if usual_n:
        over = f"{usual_n} seeds{'' if _same_number_everywhere(table) else ' unless n is given'}"
    closing = f"Parameters: counted on the trained network. {MISSING}: no completed run."
    lines = []
    if table.published_as and not table.compact:
        source = f"{plain(table.source)}; " if table.source else ""
        lines.append(f"{table.published_as}: {source}in parentheses the difference from {table.baseline}.")
        closing = "Parameters: as printed; in our line, counted on the trained network. "
        closing += f"{MISSING}: not printed or no completed run."
    ours = "Our" if table.compact else "ours:"
    if table.labs:
        lines.append(f"{', '.join(table.labs)}: the results folders, each with lines of its own.")
        ours = "In each:"
    lines.append(f"{ours} top-1 accuracy {epoch}, mean ± sample standard deviation over {over}.")
    if has_deltas and table.compact:
        lines.append(f"In parentheses: ours minus our {table.baseline}, mean over the seeds common to both.")
    elif has_deltas:
        over = "mean ± sample standard deviation over the seeds common to both"
        lines.append(f"{DELTA}: ours minus our {table.baseline}, {over}.")
    if table.bold_best:
        lines.append("Bold: the highest accuracy of its line, whether significant or not.")
    return [*lines, *_verdict_legend(table, p_apart=p_apart), closing]


def _verdict_legend(table: AssembledTable, *, p_apart: bool) -> list[str]:
    where = "in this table" if table.whole else "in the whole table"
    test = f"two-sided paired t-test, Holm-adjusted over the differences {where}"
    if not table.published_as and not any(cell.judgement for row in table.rows for cell in row.cells):
        return []  # nothing is tested yet, and no published difference could have a verdict
    if table.verdicts == "stars":
        if not _nothing_printed(table):
            test = (
                "one-sided t-test in the printed direction, Holm-adjusted over the tables tested together; where the "
            )
            test += "printed difference is within its rounding, an equivalence test"
            judged = [cell.judgement for row in table.rows for cell in row.cells if cell.judgement]
            tested = {judgement.verdict for judgement in judged if judgement.p_adjusted is not None}
            if Verdict.OPPOSITE in tested:
                test += "; where ours is shown to go the other way, in that direction"
            if None in tested:
                test += "; where nothing is printed, two-sided"
        return [f"*, **, ***: p below 0.05, 0.01, 0.001 ({test})."]
    if table.verdicts == "words" and _nothing_printed(table):
        what = f"{INTERVAL}: confidence interval of the difference{'; p: ' if p_apart else ', and '}its p-value"
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


def _nothing_printed(table: AssembledTable) -> bool:
    """Whether differences were tested and the paper prints none of them."""
    judged = [cell for row in table.rows for cell in row.cells if cell.judgement]
    return bool(judged) and all(cell.delta and cell.judgement and not cell.judgement.words for cell in judged)


def _same_number_everywhere(table: AssembledTable) -> bool:
    samples = (sample for row in table.rows for cell in row.cells for sample in (cell.ours, cell.delta) if sample)
    return len({sample.n for sample in samples}) == 1
