"""What SLURM's queue says, read from its own lines."""

from __future__ import annotations

import pytest

from repro.sweep.slurm_queue import Queued, parse_queue


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
