"""Records of a plugin, or of images, that this machine does not know: it cannot say which version of them counts.

Runs that were trained with different versions are never averaged. Where the records of a table disagree, those of the
version that most of them have count, and the others are left out with a hint.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from repro.experiment.schema import Cell


def assumed_sources(cells: Iterable[Cell], recorded: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """For each source of ``cells`` that is not known here, the hash that most of the ``recorded`` sources have."""
    unknown = {name for cell in cells for name, known in cell.sources.items() if known is None}
    counts = defaultdict[str, Counter[str]](Counter)
    for name in unknown:
        counts[name].update(sources[name] for sources in recorded if name in sources)
    return {name: max(count.items(), key=lambda item: (item[1], item[0]))[0] for name, count in counts.items() if count}


def unlike_assumed(sources: Mapping[str, str], assumed: Mapping[str, str]) -> str | None:
    """How the ``sources`` of a record differ from those ``assumed``, in words; None if they do not."""
    for name, sha256 in assumed.items():
        if sources.get(name, sha256) != sha256:
            if name == "images":
                return "recorded with other images than most: put the folder of dataset.path here to say which count"
            return f"recorded with another version of the plugin {name} than most: --plugin {name}.py says which counts"
    return None
