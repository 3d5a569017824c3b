"""What a disk may hold after the power failed: a model of file systems at their least obliging.

A file's bytes are on disk once it was synced; what was written since may be there, be there in part, or be zeros. A
folder's entries (a new file, a new name, a removed one, a new folder) are on disk once the folder was synced; of those
since, any may be there and any may not, in whatever combination. Only a rename is all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from disk import Event

Tree = dict[str, bytes]


@dataclass
class _File:
    synced: bytes = b""
    written: bytes = b""

    def versions(self) -> list[bytes]:
        """What may be on disk of it."""
        if self.written == self.synced:
            return [self.written]
        half = self.written[: (len(self.synced) + len(self.written)) // 2]
        zeros = bytes(len(self.written))
        return list(dict.fromkeys([self.synced, half, zeros, self.written]))


@dataclass(frozen=True)
class _Change:
    """What one call does to a folder's entries: names to files (or to the folder that they name), None for removed."""

    entries: tuple[tuple[str, int | str | None], ...]


@dataclass
class Power:
    """The disk's state as far as it is certain, and what is under way.

    ``matters`` picks the paths that whoever comes after the power cut looks at; folders matter always.
    """

    root: str
    matters: Callable[[str], bool] = lambda path: True
    files: dict[int, _File] = field(default_factory=dict)
    entries: dict[str, int | str] = field(default_factory=dict)  # durable, by full path
    pending: dict[str, list[_Change]] = field(default_factory=dict)  # by folder
    now: dict[str, int | str] = field(default_factory=dict)  # as the running program sees it
    open_folders: dict[int, str] = field(default_factory=dict)

    def happen(self, event: Event) -> None:
        """Take note of a call."""
        if event.call in ("create", "open", "open folder"):
            self._opened(event)
        elif event.call == "write":
            assert event.file is not None
            self.files[event.file].written += event.data
        elif event.call == "fsync":
            assert event.file is not None
            if event.file in self.open_folders:
                folder = self.open_folders[event.file]
                for change in self.pending.pop(folder, []):
                    _apply(self.entries, change)
            else:
                self.files[event.file].synced = self.files[event.file].written
        elif event.call == "mkdir":
            self._change(event.paths[0], (event.paths[0], event.paths[0]))
        elif event.call == "replace":
            source, target = event.paths
            self._change(target, (target, self.now[source]), (source, None))
        elif event.call == "link":
            source, target = event.paths
            self._change(target, (target, self.now[source]))
        elif event.call == "unlink":
            self._change(event.paths[0], (event.paths[0], None))

    def trees(self) -> Iterator[Tree]:
        """Every tree of files that may be found if the power fails now, by path."""
        changes = [change for pending in self.pending.values() for change in pending if self._counts(change)]
        for kept in product((False, True), repeat=len(changes)):
            entries = dict(self.entries)
            for change, there in zip(changes, kept, strict=True):
                if there:
                    _apply(entries, change)
            names = [
                (path, file)
                for path, file in entries.items()
                if isinstance(file, int) and self.matters(path) and self._reached(path, entries)
            ]
            numbers = list(dict.fromkeys(number for _, number in names))
            for contents in product(*(self.files[number].versions() for number in numbers)):
                bytes_of = dict(zip(numbers, contents, strict=True))
                yield {path: bytes_of[number] for path, number in names}

    def _opened(self, event: Event) -> None:
        path, file = event.paths[0], event.file
        assert file is not None
        if event.call == "open folder":
            self.open_folders[file] = path
        elif path in self.now:  # the same file, opened once more
            known = self.now[path]
            assert isinstance(known, int)
            if event.data == b"truncate":
                self.files[known].written = b""
            self.files[file] = self.files[known]
        else:
            self.files[file] = _File()
            self._change(path, (path, file))

    def _change(self, path: str, *entries: tuple[str, int | str | None]) -> None:
        change = _Change(entries)
        _apply(self.now, change)
        self.pending.setdefault(str(Path(path).parent), []).append(change)

    def _counts(self, change: _Change) -> bool:
        return any(isinstance(file, str) or self.matters(path) for path, file in change.entries)

    def _reached(self, path: str, entries: dict[str, int | str]) -> bool:
        """Whether every folder on the way to ``path`` has its entry on disk."""
        folder = str(Path(path).parent)
        while folder != self.root:
            if folder not in entries:
                return False
            folder = str(Path(folder).parent)
        return True


def _apply(entries: dict[str, int | str], change: _Change) -> None:
    for path, file in change.entries:
        if file is None:
            entries.pop(path, None)
        else:
            entries[path] = file


def lay_out(tree: Tree, root: str, place: Path) -> None:
    """Write ``tree`` as files below ``place``, which stands for ``root``."""
    for path, data in tree.items():
        file = place / Path(path).relative_to(root)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
