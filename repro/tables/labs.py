"""Several results folders in one table, each with lines of its own: nothing is averaged over folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from repro.tables.footnotes import Footnotes, plain
from repro.tables.structure import VARIANT_MARK, AssembledRow, AssembledTable, Note

_OTHER_LINES = {"paper", "released", "published", "ours"}  # what lines of a table are called
_RowKey = tuple[str, str]  # the ids of a table and of a row


def lab_names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: the end of its path, as long as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = [plain("/".join(part[-length:])) for part in parts]
        if len(set(names)) == len(names) and not _OTHER_LINES & set(names):
            break
    return names


def side_by_side(shown: Mapping[str, AssembledTable]) -> AssembledTable:
    """One table of several that are the same but for their results folder, by its name."""
    first, tables = next(iter(shown.values())), list(shown.values())
    notes = _Notes(shown)
    of_lab = {lab: _by_key(table) for lab, table in shown.items()}
    rows = []
    for key in _in_order(tables):
        rows += [notes.marked(of_row[key], lab) for lab, of_row in of_lab.items() if key in of_row]
    return replace(
        first,
        rows=tuple(rows),
        notes=notes.all(),
        left_out=tuple(chain.from_iterable(table.left_out for table in tables)),
        recorded_runs=sum(table.recorded_runs for table in tables),
        planned_runs=sum(table.planned_runs for table in tables),
        devices=_together(table.devices for table in tables),
        code_hashes=_together(table.code_hashes for table in tables),
        labs=tuple(shown),
    )


class _Notes:
    """The notes of all folders under one set of marks; one that not all of them have begins with its folder."""

    def __init__(self, shown: Mapping[str, AssembledTable]) -> None:
        self._texts: dict[str, dict[str | None, str]] = {}
        self._general: dict[str, list[str]] = {}
        self._shared = {note.text for note in next(iter(shown.values())).notes}
        for lab, table in shown.items():
            self._texts[lab] = {note.mark: note.text for note in table.notes}
            self._general[lab] = [note.text for note in table.notes if note.mark is None]
            self._shared &= {note.text for note in table.notes}
        self._footnotes = Footnotes()

    def marked(self, row: AssembledRow, lab: str) -> AssembledRow:
        """The row of a folder, with its marks in this table."""
        cells = [replace(cell, marks=self._marks(cell.marks, lab)) for cell in row.cells]
        return replace(row, lab=lab, cells=tuple(cells), marks=self._marks(row.marks, lab))

    def all(self) -> tuple[Note, ...]:
        """All notes, those on the whole table last."""
        general = [self._text(text, lab) for lab, texts in self._general.items() for text in texts]
        return (*self._footnotes.notes(), *(Note(None, text) for text in dict.fromkeys(general)))

    def _marks(self, marks: Sequence[str], lab: str) -> tuple[str, ...]:
        found = []
        for mark in marks:
            text = self._text(self._texts[lab][mark], lab)
            found.append(self._footnotes.mark_variant(text) if mark == VARIANT_MARK else self._footnotes.mark(text))
        return tuple(found)

    def _text(self, text: str, lab: str) -> str:
        return text if text in self._shared else f"{lab}: {text}"


def _by_key(table: AssembledTable) -> dict[_RowKey, AssembledRow]:
    return {_key(row): row for row in table.rows}


def _key(row: AssembledRow) -> _RowKey:
    return row.table, row.id


def _in_order(tables: Iterable[AssembledTable]) -> list[_RowKey]:
    """Every row that any of the tables has, each after the one that it follows there."""
    order: list[_RowKey] = []
    for table in tables:
        place = 0
        for key in map(_key, table.rows):
            if key not in order:
                order.insert(place, key)
            place = order.index(key) + 1
    return order


def _together(tallies: Iterable[Sequence[tuple[str, int]]]) -> tuple[tuple[str, int], ...]:
    total = Counter[str]()
    for tally in tallies:
        total.update(dict(tally))
    return tuple(sorted(total.items(), key=lambda item: (-item[1], item[0])))
