"""One process at a time prepares a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from repro.errors import DataError
from repro.results.files import file_lock


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Make ``folder`` and hold its lock (``file_lock``). Raises DataError where the folder cannot be written."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(folder / ".lock"))
        except OSError as error:
            raise DataError(
                f"this folder cannot be written ({error.strerror})",
                where=str(folder),
                hint="Choose another folder with --root or BIASREPRO_DATA, or fetch as a user who may write here.",
            ) from error
        yield
