"""The types of what a record holds: their bounds, and text that is safe to show."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from repro.wording import one_line

Percent = Annotated[float, Field(ge=0, le=100)]
# As large as float32 goes: sums and squares of such numbers are finite.
Number = Annotated[float, Field(ge=-1e39, le=1e39)]
Positive = Annotated[float, Field(ge=0, le=1e39)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]  # three centuries
Count = Annotated[int, Field(ge=0, le=10**15)]
AtLeastOne = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A text of somebody's record is shown on terminals and in lines of documents: control characters become escapes.
Text = Annotated[str, AfterValidator(one_line)]
Printable = Annotated[str, Field(pattern=r"^\P{C}*$")]  # without control characters


class StrictRecord(BaseModel):
    """A part of a record: frozen, without unknown keys, without conversions of types."""

    # A non-finite epoch ends its run and is not recorded, so a record never holds a NaN.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
