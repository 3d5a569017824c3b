from __future__ import annotations

import threading

import pytest

from repro.results.reading import ITEMS_AT_ONCE, READERS, read_each

MANY = 3 * READERS * ITEMS_AT_ONCE + 1


@pytest.mark.parametrize("count", [0, 1, ITEMS_AT_ONCE, ITEMS_AT_ONCE + 1, MANY])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    assert list(read_each(str, iter(range(count)))) == [str(number) for number in range(count)]


def test_several_are_read_at_a_time() -> None:
    all_there = threading.Barrier(READERS, timeout=30)

    def read(number: int) -> int:
        if number % ITEMS_AT_ONCE == 0:  # the first that a reader is given
            all_there.wait()  # breaks, and raises, unless as many wait as there are readers
        return number

    count = READERS * ITEMS_AT_ONCE
    assert list(read_each(read, range(count))) == list(range(count))


@pytest.mark.parametrize("count", [3, MANY])
def test_what_a_reader_raises_is_raised_here(count: int) -> None:
    def read(number: int) -> int:
        if number == 2:
            raise OSError("the disk is gone")
        return number

    with pytest.raises(OSError, match="the disk is gone"):
        list(read_each(read, range(count)))


def test_no_reader_is_left_by_whoever_looks_no_further() -> None:
    reading = read_each(str, range(MANY))
    assert next(reading) == "0"
    reading.close()  # type: ignore[attr-defined]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")] == []
