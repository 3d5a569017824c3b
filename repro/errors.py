"""What can go wrong for a user: an error says what happened, where, and how to fix it.

Everything below the command line raises these; ``repro.cli`` turns them into the message that a person reads
and the exit code that a script reads. A traceback therefore always means a defect of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class DataError(UserError):
    """A data set that is missing, incomplete or damaged."""


class RunFailure(UserError):
    """A run that started and could not be finished: exit code 1."""

    exit_code = 1


class Interrupted(Exception):
    """A run stopped because it was asked to; its state is committed and the same command goes on from it."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The way out of a wrong name: the valid one that resembles it, or all of them."""
    valid = list(valid)
    meant = resembling(name, valid)
    if meant:
        return f"Did you mean '{meant}'?"
    return f"Valid: {', '.join(valid)}." if valid else ""


def resembling(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that a wrong one resembles most, None where it resembles none."""
    return next(iter(difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)), None)
