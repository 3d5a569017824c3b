"""NASNet-A: the cells are the published ones, in wiring and in size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.models.nasnet import FactorizedReduction, NormalCell, ReductionCell, SeparableTwice

# The five combinations (left operation, left input, right operation, right input) and the states put out, as in
# Figure 4. Input 0 is the newer one, 1 the older, 2 and up the combinations in order.
NORMAL = [
    ("separable 5", 0, "separable 3", 1),
    ("separable 5", 1, "separable 3", 1),
    ("average", 0, "identity", 1),
    ("average", 1, "average", 1),
    ("separable 3", 0, "identity", 0),
]
REDUCTION = [
    ("separable 5", 0, "separable 7", 1),
    ("max", 0, "separable 7", 1),
    ("average", 0, "separable 5", 1),
    ("identity", 3, "average", 2),
    ("separable 3", 2, "max", 0),
]


def put_together(cell: nn.Module, genotype: list[tuple[str, int, str, int]], states: list[Tensor]) -> list[Tensor]:
    """Run a genotype literally, taking the cell's separable convolutions in their order."""
    separables = iter([module for module in cell.children() if isinstance(module, SeparableTwice)])

    def applied(operation: str, index: int) -> Tensor:
        stride = 2 if isinstance(cell, ReductionCell) and index < 2 else 1
        if operation == "identity":
            return states[index]
        if operation == "max":
            return F.max_pool2d(states[index], 3, stride, padding=1)
        if operation == "average":
            ones = F.avg_pool2d(torch.ones_like(states[index]), 3, stride, padding=1)
            return F.avg_pool2d(states[index], 3, stride, padding=1) / ones
        separable = next(separables)
        depthwise = [layer for layer in separable if isinstance(layer, nn.Conv2d) and layer.groups > 1]
        assert [layer.kernel_size[0] for layer in depthwise] == [int(operation[-1])] * 2
        assert [layer.stride[0] for layer in depthwise] == [stride, 1]
        return separable(F.relu(states[index]))

    for left, left_index, right, right_index in genotype:
        # Left before right, except that the cell names the inner 3x3 last.
        states.append(applied(left, left_index) + applied(right, right_index))
    assert next(separables, None) is None
    return states


@pytest.mark.parametrize(
    ("cell_class", "genotype", "out"), [(NormalCell, NORMAL, range(1, 7)), (ReductionCell, REDUCTION, range(3, 7))]
)
def test_cell_is_wired_as_published(
    cell_class: type[NormalCell | ReductionCell], genotype: list[tuple[str, int, str, int]], out: range
) -> None:
    torch.manual_seed(0)
    cell = cell_class(12, 20, 8, older_is_larger=False).eval()
    older, newer = torch.randn(2, 12, 8, 8), torch.randn(2, 20, 8, 8)
    with torch.no_grad():
        states = put_together(cell, genotype, [cell.match_newer(newer), cell.match_older(older)])
        torch.testing.assert_close(cell(older, newer), torch.cat([states[index] for index in out], dim=1))


def test_factorized_reduction_sees_the_even_and_the_odd_diagonal() -> None:
    torch.manual_seed(0)
    reduction = FactorizedReduction(3, 6).eval()
    images = torch.ones(1, 3, 4, 4, requires_grad=True)
    reduction(images)[:, :3].sum().backward()
    assert images.grad is not None
    assert images.grad[0].any(dim=0).nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
    images.grad = None
    reduction(images)[:, 3:].sum().backward()
    assert images.grad[0].any(dim=0).nonzero().tolist() == [[1, 1], [1, 3], [3, 1], [3, 3]]


def test_the_cells_make_up_the_published_mobile_network() -> None:
    """NASNet-A 4 @ 1056 for ImageNet: 5.3M in the paper, 5,289,978 in the authors' and others' implementations."""

    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    # Its stem: a 3x3 convolution to 32 maps, a reduction cell of 11 filters whose older input is these 32 maps
    # themselves, and one of 22.
    first = ReductionCell(32, 32, 11, older_is_larger=False)
    unmatched = sum(32 * k * k + 32 * 11 - (11 * k * k + 11 * 11) for k in (7, 7, 5))
    total = 32 * 3 * 9 + 2 * 32 + size(first) - size(first.match_older) + unmatched
    total += size(ReductionCell(32, 44, 22, older_is_larger=True))
    older, newer, filters, older_is_larger = 44, 88, 44, True
    stack: list[type[NormalCell | ReductionCell]] = [NormalCell] * 4
    for cell in [*stack, ReductionCell, *stack, ReductionCell, *stack]:
        filters *= 2 if cell is ReductionCell else 1
        total += size(cell(older, newer, filters, older_is_larger=older_is_larger))
        older, newer = newer, cell.output_states * filters
        older_is_larger = cell is ReductionCell
    assert total + (1056 + 1) * 1000 == 5_289_978
