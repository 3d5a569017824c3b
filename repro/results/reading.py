"""Thousands of small files: whoever reads one after the other waits for the disk or the file server most of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

READERS = 8
ITEMS_AT_ONCE = 32  # handed to a reader: one by one, handing them over would cost as much as the reading

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_each(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``read`` of each item, in order, by several threads. It raises what ``read`` raises."""
    items = list(items)
    parts = [items[start : start + ITEMS_AT_ONCE] for start in range(0, len(items), ITEMS_AT_ONCE)]
    if len(parts) < 2:
        yield from map(read, items)
        return
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:
        for results in readers.map(lambda part: list(map(read, part)), parts):
            yield from results
