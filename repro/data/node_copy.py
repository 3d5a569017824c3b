"""A node's own copy of the decoded images: made once under a lock, verified, and opened in place of the shared file.

The shared file stays the truth: its manifest says which copy is the right one, and a copy is named after that
manifest's checksum. A copy gets its name once it is whole and verified, so one that was broken off is never taken for
it, and it is verified to the last byte whenever it is opened, as the shared file is. Where no copy can be made (a full
disk, a folder that nobody may write) the shared file is opened, and that is said.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from repro.data.cache import CACHE_FILE, CachedImages, DamagedCache, open_cache, read_manifest
from repro.data.locking import folder_lock
from repro.data.prepare import Report, cache_path, open_decoded, silent
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts
from repro.machine import readable_size
from repro.results.durable import commit_file

_BLOCK_BYTES = 16 << 20


def open_on_node(
    facts: DatasetFacts, root: Path, node_folder: Path, report: Report = silent, say: Callable[[str], None] = print
) -> CachedImages:
    """Opens the copy of a data set in ``node_folder``, made now where it is not there; else the images in ``root``.

    Variables in ``node_folder`` (``$TMPDIR``) are this machine's. ``say`` is told why, where there is no copy. Raises
    DataError as ``open_decoded`` does.
    """
    shared = cache_path(facts, root)
    try:
        manifest = read_manifest(shared)
    except (OSError, DamagedCache):
        return open_decoded(facts, root, report)  # which mends it or says what is missing
    folder = Path(os.path.expandvars(node_folder)) / facts.name
    stem, suffix = CACHE_FILE.split(".")
    copy = folder / f"{stem}-{manifest.fingerprint[:16]}.{suffix}"
    try:
        if (cached := _opened(copy, manifest.fingerprint)) is None:
            cached = _copy_once(shared, copy, manifest.fingerprint)
        cached.images.check(facts)
        return cached
    except (OSError, DataError) as error:
        why = error.strerror if isinstance(error, OSError) else error.what
        say(f"no copy of the data in {folder} ({why}); they are read from {shared}")
    return open_decoded(facts, root, report)


def _opened(copy: Path, fingerprint: str) -> CachedImages | None:
    """The copy, verified; None where it is not there, or not what was copied."""
    try:
        cached = open_cache(copy)
    except (FileNotFoundError, DamagedCache):
        return None
    return cached if cached.fingerprint == fingerprint else None


def _copy_once(shared: Path, copy: Path, fingerprint: str) -> CachedImages:
    """Copies under the folder's lock, unless another process has meanwhile. Raises OSError and DataError."""
    if "$" in str(copy):
        raise DataError("a variable in its name is not set here")
    with folder_lock(copy.parent):
        if (cached := _opened(copy, fingerprint)) is not None:
            return cached
        for left_over in copy.parent.glob(f"{copy.name}.*.part"):  # of a process that was killed
            left_over.unlink(missing_ok=True)
        size, free = shared.stat().st_size, shutil.disk_usage(copy.parent).free
        if free < size:
            raise DataError(f"the disk is too full: {readable_size(size)} are needed, {readable_size(free)} are free")
        temporary = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}.part")
        try:
            with shared.open("rb") as source, temporary.open("xb") as target:
                shutil.copyfileobj(source, target, _BLOCK_BYTES)
            cached = open_cache(temporary)
            if cached.fingerprint != fingerprint:
                raise DataError("the shared file was replaced meanwhile")
            commit_file(temporary, copy)
            return cached
        finally:
            temporary.unlink(missing_ok=True)
