"""A node's own copy of the decoded images: made once under a lock, verified, and opened instead of the shared file.

A copy is named after the checksum of the shared file's manifest and gets this name only once it is whole and verified.
Like the shared file, it is verified to the last byte whenever it is opened. It and its folder are this user's alone,
since others of the machine may write beside it. Where no copy can be made (a full disk, another user's folder), the
shared file is opened instead, with a message.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from repro.data.cache import CACHE_FILE, CachedImages, DamagedCache, open_cache, read_manifest
from repro.data.prepare import Report, cache_path, folder_lock, note_fingerprint, open_decoded, require_space, silent
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts
from repro.results.durable import commit_file
from repro.results.files import make_private, open_plain

_BLOCK_BYTES = 16 << 20
_LOCK_SECONDS = 120.0  # for another process to copy; then the shared file is opened


def open_on_node(
    facts: DatasetFacts, root: Path, node_folder: Path, report: Report = silent, say: Callable[[str], None] = print
) -> CachedImages:
    """Opens the copy of a data set in ``node_folder``, made now if it is missing; else the images in ``root``.

    Variables in ``node_folder`` (``$TMPDIR``) are expanded here, on the node. Where no copy can be made, ``say`` gets
    the reason. Raises DataError as ``open_decoded`` does.
    """
    shared = cache_path(facts, root)
    try:
        manifest = read_manifest(shared)
    except (OSError, DamagedCache):
        return open_decoded(facts, root, report)  # which decodes it or raises what is missing
    folder = cache_path(facts, Path(os.path.expandvars(node_folder))).parent
    stem, suffix = CACHE_FILE.split(".")
    copy = folder / f"{stem}-{manifest.fingerprint[:16]}.{suffix}"
    try:
        if "$" in str(folder):
            raise DataError("its name has a variable that is not set here")
        make_private(folder)
        if (cached := _opened(copy, manifest.fingerprint)) is None:
            cached = _copy_once(shared, copy, manifest.fingerprint)
        cached.images.check(facts)
        note_fingerprint(facts, cached.content)
        return cached
    except (OSError, DataError) as error:
        why = error.strerror if isinstance(error, OSError) else error.what
        say(f"no copy of the data in {folder} ({why}); reading them from {shared}")
    return open_decoded(facts, root, report)


def _opened(copy: Path, fingerprint: str) -> CachedImages | None:
    """The copy, verified; None if it is missing or not what was copied."""
    try:
        cached = open_cache(copy, of_this_user=True)
    except (FileNotFoundError, DamagedCache):
        return None
    return cached if cached.fingerprint == fingerprint else None


def _copy_once(shared: Path, copy: Path, fingerprint: str) -> CachedImages:
    """Copies under the folder's lock, unless another process just did. Raises OSError and DataError."""
    with folder_lock(copy.parent, seconds=_LOCK_SECONDS):
        if (cached := _opened(copy, fingerprint)) is not None:
            return cached
        for left_over in copy.parent.glob(f"{copy.name}.*.part"):  # of a process that was killed
            left_over.unlink(missing_ok=True)
        require_space(copy.parent, shared.stat().st_size)
        temporary = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}.part")
        try:
            with os.fdopen(open_plain(shared), "rb") as source, temporary.open("xb") as target:
                shutil.copyfileobj(source, target, _BLOCK_BYTES)
            cached = open_cache(temporary, of_this_user=True)
            if cached.fingerprint != fingerprint:
                raise DataError("the shared file was replaced while it was copied")
            commit_file(temporary, copy)
            return cached
        finally:
            temporary.unlink(missing_ok=True)
