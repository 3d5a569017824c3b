"""The footnotes of a table: their text, and their marks in reading order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from repro.analysis.runs import LeftOut, Reason
from repro.results import Provenance, RunRecord
from repro.tables.structure import VARIANT_MARK, Note
from repro.wording import counted, one_line

# A list item that opens with [x] would be a ticked box in Markdown.
_LETTERS = "abcdefghijklmnopqrstuvwyz"
_MOST_LISTED = 6

# What may differ between runs of one configuration; None if a run has no such value.
_MADE_WITH: dict[str, Callable[[Provenance], str | None]] = {
    "devices": lambda made: made.device_name,
    "GPU driver versions": lambda made: made.driver,
    "PyTorch versions": lambda made: made.packages.get("torch"),
    "sets of training images": lambda made: made.data_fingerprint[:12] or None,
}


class Footnotes:
    """Assigns marks in the order of the calls; equal texts share one mark."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """The mark that leads to ``text``."""
        if text not in self._marks:
            lettered = sum(mark != VARIANT_MARK for mark in self._marks.values())
            self._marks[text] = _letters(lettered)
        return self._marks[text]

    def mark_variant(self, text: str) -> str:
        """The dagger, which leads to ``text``."""
        return self._marks.setdefault(text, VARIANT_MARK)

    def notes(self) -> tuple[Note, ...]:
        """All notes so far, the dagger's first."""
        notes = [Note(mark, text) for text, mark in self._marks.items()]
        return tuple(sorted(notes, key=lambda note: note.mark != VARIANT_MARK))


def exclusion_text(why: Reason, left_out: Sequence[LeftOut], table_id: str) -> str:
    """The footnote for all records that were left out for one reason."""
    runs = [code(_short(record.run, table_id)) for record in left_out]
    # From the results folder on: where that is may tell whose it is.
    paths = [code("/".join(Path(record.path).parts[-6:]).lstrip("/")) for record in left_out]
    details = [plain(record.detail).removesuffix(".") for record in left_out]
    match why:
        case "diverged":
            reasons = [f"{run}: {detail}" for run, detail in zip(runs, details, strict=True)]
            return f"{counted(len(runs), 'run')} diverged: left out of the mean ({_listed(reasons)})."
        case "configuration":
            reasons = [f"{run}: {detail}" for run, detail in zip(runs, details, strict=True)]
            return f"{counted(len(runs), 'run')} recorded under another configuration: left out ({_listed(reasons)})."
        case "imported":
            reasons = [f"{run}: {detail}" for run, detail in zip(runs, details, strict=True)]
            return f"{counted(len(runs), 'run')} trained elsewhere: left out ({_listed(reasons)})."
        case "unusable":
            reasons = [f"{path}: {detail}" for path, detail in zip(paths, details, strict=True)]
            return f"{counted(len(paths), 'unusable record')}: left out ({_listed(reasons)})."
        case "unreadable":
            reasons = [f"{path}: {detail}" for path, detail in zip(paths, details, strict=True)]
            return f"{counted(len(paths), 'record')} not read, may be intact: left out ({_listed(reasons)})."
        case "unknown":
            return (
                f"{counted(len(paths), 'record')} outside this table's rows and columns: left out ({_listed(paths)})."
            )


def chance_text(records: Sequence[RunRecord], level_percent: float, table_id: str) -> str:
    """The footnote for completed runs at chance level."""
    runs = [f"{code(_short(record.id, table_id))}: {record.last_top1_percent:.2f}" for record in records]
    return (
        f"{counted(len(runs), 'run')} ended at chance level, up to {level_percent:.2f} % here: in the mean, but "
        f"nothing is concluded from it ({_listed(runs)})."
    )


def imported_text(records: Sequence[RunRecord], table_id: str) -> str:
    """The footnote for runs that were trained elsewhere and are in the mean."""
    files = tally(record.imported.file for record in records if record.imported)
    listed = _listed([code(_short(record.id, table_id)) for record in records])
    return (
        f"{counted(len(records), 'run')} imported from {', '.join(code(name) for name, _ in files)}, not trained by "
        f"biasrepro: that they have this table's configuration is claimed, not verified ({listed})."
    )


def accepted_text(records: Iterable[RunRecord], table_id: str) -> str:
    """The footnote for runs that were resumed although something had changed."""
    changes = [
        f"{code(_short(record.id, table_id))}: {plain(', '.join(record.provenance.changes_accepted))}"
        for record in records
    ]
    return f"Resumed with changes that were accepted: {_listed(changes)}."


def borrowed_text(lender: str, cells: Sequence[str], runs: int) -> str:
    """The footnote for runs of these cells that are recorded under another table."""
    of_runs = counted(runs, "run of the same configuration is", "runs of the same configuration are")
    listed = _listed([code(cell) for cell in cells])
    return f"{of_runs} recorded under {code(lender)} and not trained again ({listed})."


def parameters_text(counts: Iterable[int]) -> str:
    """The footnote for a row whose runs have different parameter counts."""
    return f"The runs of this row have different parameter counts: {', '.join(f'{n:,}' for n in counts)}."


def variants_text(table_ids: Sequence[str]) -> str:
    """The footnote of the dagger."""
    tables = _listed([code(table_id) for table_id in table_ids])
    return f"Not in the printed table: another interpretation of the row above ({tables})."


def mixture_texts(records: Sequence[RunRecord]) -> Iterator[str]:
    """Notes on the whole table: one for each thing that differs between its runs."""
    for what, named in _MADE_WITH.items():
        counts = tally(name for record in records if (name := named(record.provenance)) is not None)
        if len(counts) > 1:
            yield _mixture(what, counts)
    if len(counts := code_versions(records)) > 1:
        yield _mixture("code versions", [(name[:12], count) for name, count in counts])


def _mixture(what: str, counts: Sequence[tuple[str, int]]) -> str:
    listed = _listed([f"{plain(name)} ({count})" for name, count in counts])
    return f"The runs used {len(counts)} different {what}: {listed}."


def code_versions(records: Iterable[RunRecord]) -> tuple[tuple[str, int], ...]:
    """The versions of the training code, by hash, and how many runs used each.

    A run's code hash covers its own network, loss and data set, so runs of one version have several. They are compared
    by the hash of what all runs share, and where that is one and the same, among runs of the same three.
    """
    shared, alike = Counter[str](), defaultdict[tuple[str, ...], Counter[str]](Counter)
    for record in records:
        configuration, made = record.configuration, record.provenance
        shared[made.shared_code_hash or made.code_hash] += 1
        of = configuration["model"], configuration["loss"], configuration["dataset"]["name"]
        alike[of][made.code_hash] += 1
    changed = Counter[str]()
    for versions in alike.values():
        if len(shared) == 1 and len(versions) > 1:
            changed += versions
    return tally((changed or shared).elements())


def tally(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """How often each name occurs, the most frequent first."""
    return tuple(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def code(text: str) -> str:
    """An id, a path or a setting, marked as such."""
    return f"`{plain(text)}`"


def plain(text: str) -> str:
    """Text from outside on one line, without backticks, which mark code here."""
    return one_line(" ".join(text.replace("`", "'").split()))


def _letters(index: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    before, last = divmod(index, len(_LETTERS))
    return (_letters(before - 1) if before else "") + _LETTERS[last]


def _short(run_id: str, table_id: str) -> str:
    """A run's id, without the table's id for the table's own runs."""
    return run_id.removeprefix(f"{table_id}/")


def _listed(items: Sequence[str]) -> str:
    shown = "; ".join(items[:_MOST_LISTED])
    rest = len(items) - _MOST_LISTED
    return f"{shown}; and {rest} more" if rest > 0 else shown
