"""Records of runs, and the folder that keeps them."""

from repro.results.epochs import EpochRecord
from repro.results.record import Provenance, RunRecord
from repro.results.store import (
    Failure,
    Found,
    RunFolder,
    find_record,
    load_records,
    read_failure,
    read_record,
    require_weights,
    write_failure,
    write_record,
    write_weights,
)

__all__ = [
    "EpochRecord",
    "Failure",
    "Found",
    "Provenance",
    "RunFolder",
    "RunRecord",
    "find_record",
    "load_records",
    "read_failure",
    "read_record",
    "require_weights",
    "write_failure",
    "write_record",
    "write_weights",
]
