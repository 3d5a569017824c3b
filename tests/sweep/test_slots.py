from __future__ import annotations

from typing import Any

import pytest

from repro.errors import UserError
from repro.machine import Gpu
from repro.sweep.devices.slots import VISIBLE, choose_slots, cpu_slots, gpu_slots, visible_entries

GPUS = tuple(Gpu(index, f"GPU-{letter * 8}-1111", "NVIDIA H100") for index, letter in enumerate("abcd"))
SLICES = tuple(Gpu(index, f"MIG-{letter * 8}-2222", "NVIDIA H100 MIG") for index, letter in enumerate("ef"))


def choose(**changed: Any) -> list[tuple[str, str | None, int]]:
    """Label, CUDA_VISIBLE_DEVICES and threads of the slots chosen on a machine of four GPUs and 16 cores."""
    options: dict[str, Any] = {
        "device": "auto",
        "gpus": GPUS,
        "inherited": None,
        "wanted": None,
        "jobs_per_gpu": 1,
        "jobs": None,
        "cores": 16,
        "threads": None,
    }
    slots = choose_slots(**options | changed)
    return [(slot.label, slot.environment.get(VISIBLE), slot.threads) for slot in slots]


def test_every_gpu_gets_a_job_by_its_uuid() -> None:
    assert choose() == [(f"cuda:{index}", gpu.uuid, 4) for index, gpu in enumerate(GPUS)]


def test_an_inherited_list_is_kept_entry_by_entry() -> None:
    assert choose(inherited="3,1") == [("cuda:0", "3", 8), ("cuda:1", "1", 8)]


def test_gpus_are_counted_within_the_inherited_list() -> None:
    assert choose(inherited="3,1", wanted=[1]) == [("cuda:1", "1", 16)]


def test_uuids_and_shortened_uuids_are_handed_on_as_they_came() -> None:
    inherited = f"GPU-bbbb,{GPUS[3].uuid}"
    assert [entry for _, entry, _ in choose(inherited=inherited)] == ["GPU-bbbb", GPUS[3].uuid]


def test_slices_of_a_gpu_are_devices_of_their_own() -> None:
    assert [entry for _, entry, _ in choose(gpus=SLICES)] == [gpu.uuid for gpu in SLICES]
    older_name = "MIG-GPU-aaaaaaaa-1111/1/0"
    assert choose(gpus=SLICES, inherited=older_name) == [("cuda:0", older_name, 16)]


@pytest.mark.parametrize("separated", ["0, 2", " 0,2 "])
def test_spaces_around_entries_are_no_part_of_them(separated: str) -> None:
    assert visible_entries(GPUS, separated) == ("0", "2")


@pytest.mark.parametrize(
    ("inherited", "visible"),
    [
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("0,9,1", ("0",)),
        ("GPU-unknown,0", ()),
        ("1,1", ("1",)),
        ("NoDevFiles", ()),
    ],
)
def test_the_list_ends_where_cuda_stops_reading_it(inherited: str, visible: tuple[str, ...]) -> None:
    assert visible_entries(GPUS, inherited) == visible


def test_several_jobs_share_a_gpu_after_each_has_one() -> None:
    labels = [label for label, _, _ in choose(wanted=[0, 2], jobs_per_gpu=3)]
    assert labels == ["cuda:0", "cuda:2"] * 3


def test_the_jobs_on_gpus_share_the_cores() -> None:
    assert {threads for _, _, threads in choose(jobs_per_gpu=2)} == {2}
    assert {threads for _, _, threads in choose(jobs_per_gpu=8)} == {1}
    assert {threads for _, _, threads in choose(threads=5)} == {5}


def test_a_slot_says_how_many_threads_in_the_environment_too() -> None:
    for slot in (
        *gpu_slots(("0",), wanted=None, jobs_per_gpu=1, cores=6, threads=None),
        *cpu_slots(cores=6, jobs=1, threads=None),
    ):
        assert slot.environment["OMP_NUM_THREADS"] == str(slot.threads) == "6"


def test_a_cpu_takes_one_single_threaded_job_a_core() -> None:
    assert choose(gpus=()) == [("cpu", None, 1)] * 16


@pytest.mark.parametrize(
    ("jobs", "threads", "expected"), [(4, None, (4, 4)), (None, 4, (4, 4)), (32, None, (32, 1)), (3, 2, (3, 2))]
)
def test_cpu_jobs_and_threads_share_the_cores(jobs: int | None, threads: int | None, expected: tuple[int, int]) -> None:
    slots = cpu_slots(cores=16, jobs=jobs, threads=threads)
    assert (len(slots), slots[0].threads) == expected


def test_device_cpu_leaves_the_gpus_alone() -> None:
    assert choose(device="cpu", jobs=1) == [("cpu", None, 16)]


def test_a_hidden_gpu_stays_hidden() -> None:
    assert choose(inherited="") == [("cpu", None, 1)] * 16


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"wanted": [4]}, "no GPU 4; visible here: 4, counted from 0"),
        ({"wanted": [1], "inherited": "2"}, "no GPU 1; visible here: 1, counted from 0"),
        ({"wanted": [0, 0]}, "names a GPU twice"),
        ({"wanted": [0], "gpus": ()}, "no GPU is visible here"),
        ({"device": "cuda", "gpus": ()}, "no GPU is visible here"),
        ({"device": "cuda", "inherited": ""}, "CUDA_VISIBLE_DEVICES='' hides 4"),
        ({"device": "cpu", "wanted": [0]}, "exclude each other"),
        ({"jobs": 2}, "--jobs-per-gpu"),
        ({"device": "tpu"}, "unknown --device 'tpu'"),
    ],
)
def test_what_cannot_be_placed_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        choose(**changed)
    assert says in str(caught.value)
