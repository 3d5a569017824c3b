"""The weights file of a run, ``weights.safetensors``: written whole before the record, which has its hash.

So a record never names weights that were not on disk before it. Weights without a record are of a run that was killed
in between: the next attempt replaces them. Nothing here needs torch, so that ``verify`` can check thousands of files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from repro.errors import DataError
from repro.results.files import read_file, reading_failed
from repro.results.record_fields import StrictRecord

# The one key of the file's metadata. Its value is JSON: safetensors writes several keys in an order by chance, and
# equal weights would have different hashes.
METADATA_KEY = "biasrepro"

_LARGEST_OF_ANOTHER_RUN_BYTES = 1 << 32  # a file in the place of smaller weights is read up to this, to say whose it is


class KeptWeights(StrictRecord):
    """What a record says of its weights file."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, raw: bytes) -> KeptWeights:
        """What the record of the file with these bytes says of it."""
        return cls(sha256=hashlib.sha256(raw).hexdigest(), size_bytes=len(raw))


def read_weights(path: Path, kept: KeptWeights) -> bytes:
    """The bytes of the weights file at ``path``, which are those that the record names.

    Raises DataError if the file is damaged or another run's, Unreadable for a failed read.
    """
    try:
        raw = read_file(path, max(kept.size_bytes, _LARGEST_OF_ANOTHER_RUN_BYTES))
    except (OSError, MemoryError) as error:
        raise reading_failed(error, path) from error
    if KeptWeights.of(raw) != kept:
        run, here = facts_of(raw).get("run"), "/".join(path.absolute().parts[-5:-1])
        whose = "it is cut short or damaged" if run in (None, here) else f"the file says that it is of {run}"
        raise DataError(f"the weights file does not match the hash in its record: {whose}", where=str(path))
    return raw


def facts_of(raw: bytes) -> dict[str, Any]:
    """What the header of a safetensors file says of its run; empty if it says nothing, or cannot be read."""
    try:
        length = int.from_bytes(raw[:8], "little")
        facts = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][METADATA_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
