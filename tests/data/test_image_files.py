"""Decoding in several processes, one of which does not come to its end."""

from __future__ import annotations

import os

import numpy as np
import pytest

from repro.data.image_files import BATCH_IMAGES, Images, decode_into
from repro.errors import DataError


def die(exit_code: int) -> Images:
    os._exit(exit_code)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("failures", [None, []])
def test_a_decoding_process_that_is_ended_is_no_bug(failures: list[DataError] | None) -> None:
    images = np.empty((4 * BATCH_IMAGES + 1, 3, 1, 1), np.uint8)
    batches = [([row], (1,)) for row in range(200)]  # more than are pending at a time
    with pytest.raises(DataError, match=r"a decoding process was killed, .*\n.*decodes again"):
        decode_into(images, batches, die, failures=failures)
    assert not failures
