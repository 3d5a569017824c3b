"""Errors that a user can fix: each says what happened, where, and gives a hint.

``repro.cli`` turns them into a message and an exit code. Any other exception is a bug and shows a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal


class UserError(Exception):
    """Wrong use, wrong configuration or missing input: exit code 2."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}\n  {self.hint}" if self.hint else located


class ConfigError(UserError):
    """A configuration that cannot be used; ``where`` is ``file:line:column`` where there is a file."""


class NoSuchDevice(UserError):
    """A device that was named is not there: not installed, or no longer working."""


class DataError(UserError):
    """A data set or a file that is missing, incomplete or damaged; ``kind`` says what is wrong with it."""

    kind: Literal["damaged", "unreadable", "newer"] = "damaged"


class Unreadable(DataError):
    """A file that could not be read. It may be whole: nothing follows from it, and nothing is done to it."""

    kind = "unreadable"


class NewerVersion(DataError):
    """A whole file that a newer version of biasrepro wrote."""

    kind = "newer"


class RunFailure(UserError):
    """A run that started and could not be finished: exit code 1."""

    exit_code = 1


class NoRoomOnGpu(RunFailure):
    """A run whose images find no room on a GPU beside what is there."""


class Interrupted(Exception):
    """A run that stopped on request; its checkpoint is saved and the same command resumes from it."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The hint for a wrong name: the valid one that resembles it, else all of them."""
    valid = list(valid)
    if meant := resembling(name, valid):
        return f"Did you mean '{meant}'?"
    return f"Valid: {', '.join(valid)}." if valid else ""


def resembling(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that a wrong one resembles most; None if it resembles none."""
    return next(iter(difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)), None)
