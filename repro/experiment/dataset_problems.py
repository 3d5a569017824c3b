"""Contradictions between the keys of a data set."""

from __future__ import annotations

from collections.abc import Iterator

from repro.experiment.dataset_choice import DatasetChoice
from repro.experiment.diagnosis import Problem
from repro.experiment.folder_listing import FOLDER


def dataset_problems(choice: DatasetChoice) -> Iterator[Problem]:
    """What contradicts in ``choice``; a folder that is not here is none, since its records can be shown."""
    for key, value in (("path", choice.path), ("image_size", choice.image_size)):
        if choice.name == FOLDER and value is None:
            example = "path: ../birds" if key == "path" else "image_size: 64"
            hint = f"Add it to your YAML file, such as '{example}'; `biasrepro config TABLE -o mine.yaml` begins one."
            yield Problem(("dataset", "name"), f"a folder of images needs '{key}'", hint)
        elif choice.name != FOLDER and value is not None:
            hint = f"Remove it, or use your own images: 'name: {FOLDER}'."
            yield Problem(("dataset", key), f"{choice.name} has no '{key}'", hint)
    if (facts := choice.facts) is None:
        return
    wanted, available = choice.classes, facts.num_classes
    if wanted is not None and wanted > available:
        yield Problem(("dataset", "classes"), f"{facts.name} has {available} classes, not {wanted}")
