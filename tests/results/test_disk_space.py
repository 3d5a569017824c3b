from __future__ import annotations

import errno
from pathlib import Path

import pytest

from repro.errors import RunFailure
from repro.results import RunFolder
from repro.results.disk_space import failed_writes_explained


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "No checkpoint was saved yet: the same command starts over."),
        (["checkpoint.pt"], "The previous checkpoint is whole: the same command resumes from it."),
        (["checkpoint.previous.pt"], "The previous checkpoint is whole: the same command resumes from it."),
    ],
)
def test_a_failed_write_promises_no_checkpoint_that_is_not_there(tmp_path: Path, there: list[str], said: str) -> None:
    folder = RunFolder(tmp_path)
    for name in there:
        (tmp_path / name).touch()
    with pytest.raises(RunFailure) as caught, failed_writes_explained(folder, "the record"):
        raise OSError(errno.EDQUOT, "quota")
    assert said in str(caught.value)
