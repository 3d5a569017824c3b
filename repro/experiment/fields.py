"""The kinds of value that keys of an experiment take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from repro.experiment.plugins import PLUGIN_NAME, is_taken_by_form

# Ids become folder names: nothing that means something else to a file system or a shell.
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
# Titles are in the cells of Markdown, LaTeX and HTML tables: one line each.
Title = Annotated[str, Field(pattern=r"^[^\t\n\u2028\u2029]{1,400}$")]


class Strict(BaseModel):
    """Frozen; no unknown key, no conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def whole_number(value: Any) -> Any:
    """Refuse true and 2.0, which Literal[1, 2] accepts because they equal 1 and 2 in Python."""
    if isinstance(value, (bool, float)):
        raise ValueError("must be a whole number")
    return value


def known(kind: str, names: Iterable[str]) -> Callable[[str], str]:
    """A validator for the names in ``names``, a dictionary that may grow, and for those that are taken by their form.

    ``kind`` says what they name.
    """

    def check(name: str) -> str:
        valid = list(names)
        if name not in valid and not is_taken_by_form(kind, name):
            raise PydanticCustomError("unknown_name", "unknown {kind}", {"kind": kind, "valid": valid})
        return name

    return check


def offered(names: Iterable[str]) -> WithJsonSchema:
    """What ``known`` accepts, as JSON Schema: an editor offers ``names``, and takes those of plugins by their form."""
    return WithJsonSchema({"anyOf": [{"enum": sorted(names)}, {"type": "string", "pattern": PLUGIN_NAME}]})
