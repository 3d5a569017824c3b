"""How often each verdict and each answer to a claim is given, by the rule and by the one before it: simulated.

    python benchmarks/verdicts.py [--draws 4000] [-o benchmarks/records/verdicts.md]

The figures of docs/report.md are its output; ``tests/analysis/test_rates.py`` holds them, with fewer draws. Runs are
normal and independent over seeds unless a table says otherwise. It takes some minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from repro.analysis.assessment import assess
from repro.analysis.claim_evidence import CORRELATION, Differences
from repro.analysis.claims import Answer, Claim, answer_claims
from repro.analysis.stats.decision_rule import ALPHA, THREE_ANSWERS, Asked, Printed, Rule, Verdict
from repro.analysis.stats.estimates import Floats
from repro.analysis.stats.half_delta_rule import HALF_DELTA
from repro.analysis.stats.row import measure
from repro.analysis.stats.simulation import blocks, judged, measured_cells, with_effects
from repro.experiment.config import find_table
from repro.experiment.schema import BASELINE

RULES = {"before": HALF_DELTA, "now": THREE_ANSWERS}
SEEDS, SPREADS = (3, 5, 10), (0.25, 0.35, 0.5)


def paper_rows() -> list[list[float]]:
    """The paper's deltas, row by row of Tables 1 and 2."""
    tables = [find_table("table1"), find_table("table2")]
    rows: dict[tuple[str, str], list[float]] = {}
    for cell in assess(tables, []).cells.values():
        if cell.paper_delta is not None:
            rows.setdefault((cell.table, cell.row), []).append(cell.paper_delta)
    return list(rows.values())


def simulated_rows(
    deltas: Sequence[Sequence[float]], seeds: int, *, scale: float, run_std: float, draws: int
) -> list[Floats]:
    """Rows whose true deltas are ``scale`` times these: (draws, arms, seeds), cross-entropy first."""
    parts = [with_effects(noise, deltas, scale) for noise in blocks(deltas, seeds, run_std, draws)]
    return [np.concatenate(of_row) for of_row in zip(*parts, strict=True)]


def rates(rows: Sequence[Floats], printed: Printed, seeds: int, rule: Rule) -> dict[str, float]:
    """The mean number of cells with each verdict, and the share of draws with any effect, opposite or rejection.

    Before, an effect was one of either sign; now each sign is a family of its own.
    """
    verdicts, p = judged(measured_cells(rows, seeds), printed, rule)
    found = {verdict.value: float((verdicts == verdict.value).sum(-1).mean()) for verdict in Verdict}
    effect = p[0] < ALPHA if rule is THREE_ANSWERS else (p[0] < ALPHA) & (printed.delta != 0)
    found["any effect"] = float(effect.any(-1).mean())
    found["any opposite"] = float((p[Asked.OPPOSITE] < ALPHA).any(-1).mean()) if rule is THREE_ANSWERS else 0.0
    found["any not reproduced"] = float((verdicts == Verdict.NOT_REPRODUCED.value).any(-1).mean())
    return found


def power(draws: int) -> Iterator[str]:
    """Verdicts by seeds and spread, if every effect is the paper's and if there is none."""
    deltas = paper_rows()
    printed = Printed.of([delta for row in deltas for delta in row])
    yield "| spread | seeds | rule | reproduced, if as printed | not reproduced, if none | false effect | opposite |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    for std, seeds, (name, rule) in product(SPREADS, SEEDS, RULES.items()):
        there, none = (
            rates(simulated_rows(deltas, seeds, scale=scale, run_std=std, draws=draws), printed, seeds, rule)
            for scale in (1, 0)
        )
        yield (
            f"| {std} | {seeds} | {name} | {there['reproduced']:.1f} of 21 | {none['not reproduced']:.1f} of 21 | "
            f"{100 * none['any effect']:.1f} % | {100 * none['any opposite']:.1f} % |"
        )


def rejected_though_true(deltas: Sequence[Sequence[float]], seeds: int, std: float, draws: int, rule: Rule) -> Floats:
    """Whether each cell is called "not reproduced" though the paper's number is a single difference like ours.

    The truth is the printed delta less the noise of two runs and of their rounding: (draws, cells). A cell whose truth
    is smaller than what matters, and shown to be, is called so rightly.
    """
    rng = np.random.default_rng(1)
    rows, truths = simulated_rows(deltas, seeds, scale=0, run_std=std, draws=draws), []
    for row, paper in zip(rows, deltas, strict=True):
        noise = rng.normal(0, std, (draws, len(paper) + 1)) + rng.uniform(-0.05, 0.05, (draws, len(paper) + 1))
        truth = np.array(paper) - (noise[:, 1:] - noise[:, :1])
        row[:, 1:] += truth[..., None]
        truths.append(truth)
    printed = Printed.of([delta for row in deltas for delta in row])
    verdicts, _ = judged(measured_cells(rows, seeds), printed, rule)
    wrong: Floats = (verdicts == Verdict.NOT_REPRODUCED.value) & (np.abs(np.concatenate(truths, 1)) >= 0.5)
    return wrong


def other_assumptions(draws: int) -> Iterator[str]:
    """What the rule does where an assumption of it does not hold, or the paper's own noise counts; five seeds."""
    deltas = paper_rows()
    printed = Printed.of([delta for row in deltas for delta in row])
    yield "| assumption | error |"
    yield "| --- | ---: |"
    for factor in (2, 3):
        rows = simulated_rows(deltas, 5, scale=0, run_std=0.25, draws=draws)
        for row in rows:
            row[:, -1] *= factor
        error = rates(rows, printed, 5, THREE_ANSWERS)["any effect"]
        yield f"| one loss of each row scatters {factor} times as much: any false effect | {100 * error:.1f} % |"
    rows = simulated_rows(deltas, 5, scale=0, run_std=0.25, draws=draws)
    rng = np.random.default_rng(2)
    rows = [row + rng.normal(0, 0.25, (draws, 1, 5)) for row in rows]
    error = rates(rows, printed, 5, THREE_ANSWERS)["any effect"]
    yield f"| half of the variance is the seed's, for all losses: any false effect | {100 * error:.1f} % |"
    for name, rule in RULES.items():
        wrong = rejected_though_true(deltas, 5, 0.25, draws, rule)
        yield f"| the paper's number is a run like ours, {name}: any rejected | {100 * wrong.any(-1).mean():.1f} % |"


def simulated_claims(seeds: int, scale: float, std: float, draws: int) -> list[tuple[Claim, ...]]:
    """The answers to the claims, if the true effects are ``scale`` times the paper's and the product adds nothing."""
    rng, tables, answers = np.random.default_rng(3), [find_table("table1"), find_table("table2")], []
    for _ in range(draws):
        arms: dict[tuple[str, str], dict[str, Floats]] = {}
        for table in tables:
            for row in table.rows:
                printed = row.published.top1_percent if row.published else {}
                truth = {name: scale * (value - printed[BASELINE]) for name, value in printed.items()}
                if table.id == "table2":
                    truth["mean_variance_bias"] = truth["bias"]
                arms[table.id, row.id] = {name: rng.normal(mean, std, seeds) for name, mean in truth.items()}

        def compare(
            table: str, ours: str, against: str, arms: dict[tuple[str, str], dict[str, Floats]] = arms
        ) -> Differences:
            if against == CORRELATION:  # what is simulated has accuracies alone
                return Differences()
            known = tables[0] if table == "table1" else tables[1]
            rows = []
            for row in known.rows:
                of_row = arms[known.id, row.id]
                others = [of_row[name] for name in of_row if name not in (ours, against)]
                rows.append((row, measure([of_row[against], of_row[ours], *others]).pooled))
            return Differences(tuple(rows))

        answers.append(answer_claims(compare))
    return answers


def claims(draws: int) -> Iterator[str]:
    """Answers to the claims by seeds, if the effects are the paper's and if there are none; spread 0.25."""
    yield "| claim | effects | seeds | supported | partly | contradicted | undecided |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for scale, seeds in product((1, 0), (5, 10, 50)):
        answered = simulated_claims(seeds, scale, 0.25, draws)
        for of_claim in zip(*answered, strict=True):
            shares = [
                np.mean([claim.answer is answer for claim in of_claim])
                for answer in (Answer.SUPPORTED, Answer.PARTLY, Answer.CONTRADICTED, Answer.UNDECIDED)
            ]
            effects = "the paper's" if scale else "none"
            yield (
                f"| {of_claim[0].id} | {effects} | {seeds} | {' | '.join(f'{100 * share:.0f} %' for share in shares)} |"
            )


def main() -> None:
    """Print all tables, and write them to a file if asked to."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--draws", type=int, default=4_000)
    arguments.add_argument("-o", "--output", type=Path)
    chosen = arguments.parse_args()
    text = "\n".join(
        [
            "# Rates of verdicts and of answers to claims, simulated",
            "",
            f"`python benchmarks/verdicts.py --draws {chosen.draws}`",
            "",
            *power(chosen.draws),
            "",
            *other_assumptions(chosen.draws),
            "",
            *claims(max(chosen.draws // 10, 10)),
            "",
        ]
    )
    print(text)
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
