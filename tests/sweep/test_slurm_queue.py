"""What SLURM's queue says, read from its own lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro.sweep.slurm.backend import SlurmBackend
from repro.sweep.slurm.queue import Queued, SlurmError, parse_queue, run_command


def test_our_tasks_are_found_by_batch_and_index() -> None:
    text = """\
12|3|RUNNING|n1|None|biasrepro-0123456789ab
13|N/A|PENDING||Resources|biasrepro-ba9876543210
14|N/A|RUNNING|n2|None|somebody-else
"""
    assert parse_queue(text) == {
        ("0123456789ab", 3): Queued("12_3", "RUNNING", "n1", "None"),
        ("ba9876543210", 0): Queued("13", "PENDING", "", "Resources"),
    }


WITHOUT_CONFIGURATION = """\
squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
squeue: error: fetch_config: DNS SRV lookup failed
squeue: error: _establish_config_source: failed to fetch config
squeue: fatal: Could not establish a configuration source
"""
WITH_A_WRONG_ONE = """\
squeue: error: ClusterName needs to be specified
squeue: fatal: Unable to process configuration file
"""


@pytest.mark.parametrize(
    ("words", "conf", "what", "hint"),
    [
        (WITHOUT_CONFIGURATION, None, "said: Could not establish a configuration source", "SLURM_CONF is not set. "),
        (WITH_A_WRONG_ONE, "/x", "find no cluster: `squeue --all` said: Unable to process", "SLURM_CONF is /x. "),
        (
            "slurm_load_jobs error: Unable to contact\n",
            None,
            "`squeue --all` said: slurm_load_jobs error: Unable",
            "lost",
        ),
        ("squeue: error: Invalid user\nsqueue: error: no\n", None, "`squeue --all` said: Invalid user; no", "Nothing"),
        ("", None, "`squeue --all` said: nothing, and ended with exit code 3", "Nothing is lost"),
    ],
)
def test_a_command_that_fails_is_one_line_of_its_own_words(
    words: str, conf: str | None, what: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}END\nexit 3\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    if conf is not None:
        monkeypatch.setenv("SLURM_CONF", conf)
    with pytest.raises(SlurmError) as caught:
        run_command("squeue", "--all")
    assert what in caught.value.what
    assert "\n" not in caught.value.what
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "launch_failed_requeued_held", True),
        ("PENDING", "Resources", False),
        ("PENDING", "JobHeldUser", False),  # a person's wish
        ("RUNNING", "None", False),
    ],
)
def test_what_a_node_could_not_launch_waits_for_a_person(state: str, reason: str, held: bool) -> None:
    assert Queued("1", state, "", reason).is_held is held


@pytest.mark.parametrize(
    ("number", "cluster", "is_over"), [(12, "alpha", False), (11, "alpha", True), (11, "b", False)]
)
def test_a_sweep_is_over_once_its_own_cluster_has_none_of_its_tasks(
    number: int, cluster: str, is_over: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, says in (
        ("squeue", "12|3|RUNNING|n1|None|biasrepro-0123456789ab"),
        ("scontrol", "ClusterName   = alpha"),
    ):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{says}"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert SlurmBackend.is_over({"slurm": str(number), "cluster": cluster}) == is_over
