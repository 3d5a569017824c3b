"""A task of an array on its node, and SLURM's commands as it calls them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from repro.errors import UserError
from repro.experiment.schema import Run
from repro.results import RunFolder
from repro.sweep.cluster_node import NodeSettings, RemoteJob
from repro.sweep.slurm import task as slurm_node

# Array 25 has two tasks that run; to SLURM, the second one's job is 25 as well.
SQUEUE = """\
#!/bin/sh
case "$*" in
*--jobs=25_1*) echo RUNNING ;;
*--jobs=25*) printf 'RUNNING\\nRUNNING\\n' ;;
esac
"""


def test_the_task_that_shares_its_number_with_its_array_requeues_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    for name, text in (("squeue", SQUEUE), ("scontrol", f'#!/bin/sh\necho "$*" >> {asked}\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in (("SLURM_JOB_ID", "25"), ("SLURM_ARRAY_JOB_ID", "25"), ("SLURM_ARRAY_TASK_ID", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        slurm_node._requeue_and_exit()
    assert ended.value.code == slurm_node.INTERRUPTED
    assert asked.read_text() == "requeue 25_1\n"


def test_a_failure_that_cannot_be_noted_is_the_task_s_word_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(slurm_node, "write_failure", full)
    job = RemoteJob("demo/a/b/seed-0", {}, ())
    work = slurm_node.ArrayTask(str(tmp_path), 0, (job,), NodeSettings("0" * 12, str(tmp_path)))
    (end,) = work._refused(UserError("no GPU is visible here"), [RunFolder(tmp_path / job.id)])
    assert (end.fate, end.cause) == ("failed", "no GPU is visible here")


def test_no_failure_is_noted_beside_the_record_of_another_process(
    results: Path, demo_runs: list[Run], finish: Callable[..., None]
) -> None:
    finish(demo_runs[0])
    jobs = tuple(RemoteJob(run.id, {}, ()) for run in demo_runs[:2])
    work = slurm_node.ArrayTask(str(results), 0, jobs, NodeSettings("0" * 12, str(results)))
    folders = [RunFolder(results / job.id) for job in jobs]
    work._refused(UserError("no GPU is visible here"), folders)
    assert [folder.failure.exists() for folder in folders] == [False, True]
