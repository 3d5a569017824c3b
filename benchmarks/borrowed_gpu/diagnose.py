"""Where a CUDA path goes wrong, from the smallest piece of a step to whole steps; each line stands for itself.

    python benchmarks/borrowed_gpu/diagnose.py [DEVICE [SECONDS]]

Pieces are captured one after the other: the first FAIL names what cannot be captured. Then steps by a graph and eager
steps are compared tensor by tensor; the first difference names the tensor. Without ``deterministic`` a GPU may add up
in another order each time, so differences are only shown. After a failed capture what draws random numbers may fail
too. On a CPU nothing is captured.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from repro.data.dataset import random_dataset
from repro.engine.cuda_graph import CudaCapture
from repro.engine.device import choose_device, set_up_device
from repro.engine.learner import Learner
from repro.engine.optimizer import make_optimizer
from repro.engine.step import Totals
from repro.errors import UserError
from repro.experiment.catalog import LOSSES
from repro.experiment.config import find_cell, find_table
from repro.experiment.schema import Run
from repro.losses import NORMALIZATIONS, build_loss, per_sample
from repro.models import build_model

BATCH, CLASSES = 16, 200
Piece = tuple[str, Callable[[], object]]


def run_of(reference: str, **execution: object) -> Run:
    """The proposed loss of ``table/row`` in batches of 16."""
    table, row = reference.split("/")
    cell = find_cell(f"{table}+recipe.batch_size={BATCH}/{row}/bias")
    return Run(cell=cell.model_copy(update={"execution": cell.execution.model_copy(update=execution)}), seed=0)


def repeated(work: Callable[[], object], device: torch.device) -> None:
    """Capture ``work`` and replay it twice; on a CPU only run it."""
    if device.type != "cuda":
        work()
        return

    def without_result() -> None:
        work()

    replay = CudaCapture(device)(without_result, lambda: None)
    replay()
    replay()


def operations(device: torch.device) -> Iterator[Piece]:
    """The operations of a step, one by one."""
    logits = torch.randn(BATCH, CLASSES, device=device)
    targets = torch.randint(0, CLASSES, (BATCH,), device=device)
    features = torch.randn(BATCH, 64, 4, 4, device=device)
    weights = torch.rand(BATCH, device=device)
    totals = Totals.zero(device)
    yield "addition", lambda: weights.add(1)
    yield "cross_entropy", lambda: functional.cross_entropy(logits, targets, reduction="none")
    yield "topk", lambda: logits.topk(5, dim=1).indices == targets[:, None]
    yield "aminmax", lambda: torch.aminmax(weights)
    yield "where with a number", lambda: torch.where(torch.isfinite(totals.sums[0]), 2**62, totals.steps)
    yield "var_mean", lambda: torch.var_mean(features.flatten(1), dim=1)
    yield "dropout", lambda: functional.dropout(weights, 0.5)
    yield "bernoulli_", lambda: torch.empty(BATCH, device=device).bernoulli_(0.8)
    for name in LOSSES:
        for normalization in NORMALIZATIONS:
            loss = build_loss(name, normalization=normalization).to(device).train()
            work = partial(per_sample, loss, logits=logits, features=features, targets=targets)
            yield f"loss {name}, {normalization}", work
    yield "totals", lambda: totals.add(losses=weights, weights=weights, logits=logits, targets=targets)


def growing_step(model_name: str, device: torch.device) -> Iterator[Piece]:
    """A step of a network, one part longer each time."""
    recipe = find_table("table1").recipe
    model = build_model(model_name, CLASSES, 64).to(device).train()
    loss = build_loss("bias").to(device).train()
    optimizer = make_optimizer(model, recipe, device)
    totals = Totals.zero(device)
    images = torch.randn(8, 3, 64, 64, device=device)
    targets = torch.randint(0, CLASSES, (8,), device=device)

    def step(parts: int) -> None:
        logits, features = model(images)
        if parts > 1:
            losses, weights = per_sample(loss, logits=logits, features=features, targets=targets)
        if parts > 2:
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.mean())
        if parts > 3:
            optimizer.step()
        if parts > 4:
            with torch.no_grad():
                totals.add(losses=losses, weights=weights, logits=logits, targets=targets)

    for parts, name in enumerate(("forward", "+ loss", "+ backward", "+ update", "+ totals"), start=1):
        yield f"{model_name} {name}", partial(step, parts)


def graph_beside_eager(reference: str, device: torch.device, **execution: object) -> str:
    """Five steps from the same state: which tensors differ after which step."""
    learners = []
    for graph in (True, False):
        run = run_of(reference, cuda_graph=graph, **execution)
        settings = set_up_device(device, run.cell.execution, None, run.cell.row.model)
        learners.append(Learner(run, random_dataset(run.cell.dataset, 4 * BATCH + 5, tested=40), settings))
    for learner in learners:
        learner.feed.begin_epoch(1)
    for step in range(learners[0].feed.steps):
        for learner in learners:
            learner.train_on_batch(step)
        captured, eager = (named_tensors(learner) for learner in learners)
        far = [(distance(captured[name], eager[name]), name) for name in captured]
        differing = sorted(pair for pair in far if pair[0] != 0)
        if differing:
            told = f"after step {step} {len(differing)} tensors differ, most of all {differing[-4:]}"
            if execution.get("deterministic"):
                raise AssertionError(told)
            return told
    return f"equal; evaluations {[learner.evaluate().top1_percent for learner in learners]}"


def named_tensors(learner: Learner) -> dict[str, Tensor]:
    """Network, loss and totals by name."""
    state = learner.state
    return {**state.model.state_dict(), **state.loss.state_dict(), **state.totals.tensors()}


def distance(one: Tensor, other: Tensor) -> float:
    """The greatest difference, 0 for equal infinite values."""
    return float(torch.where(one == other, 0.0, one.double() - other.double()).abs().max())


def without_waiting(device: torch.device) -> str:
    """An eager step in which torch raises an error where the host waits for the GPU."""
    run = run_of("table1/shufflenetv2", cuda_graph=False)
    settings = set_up_device(device, run.cell.execution, None, run.cell.row.model)
    learner = Learner(run, random_dataset(run.cell.dataset, 4 * BATCH), settings)
    learner.feed.begin_epoch(1)
    learner.train_on_batch(0)
    if device.type != "cuda":
        return "nothing to wait for on a CPU"
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.feed.begin_epoch(2)
        learner.train_on_batch(0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def main() -> None:
    """Try every piece until the time is up."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("device", nargs="?", default="cuda")
    options.add_argument("seconds", nargs="?", type=float, default=60.0)
    given = options.parse_args()
    try:
        device, deadline = choose_device(given.device), time.monotonic() + given.seconds
    except UserError as error:
        options.error(str(error))
    print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}", flush=True)
    pieces = [*operations(device), *growing_step("shufflenetv2_x0_5", device), *growing_step("squeezenet", device)]
    checks: list[Piece] = [(name, partial(repeated, work, device)) for name, work in pieces]
    checks.append(("waits in an eager step", partial(without_waiting, device)))
    compared: list[tuple[str, dict[str, object]]] = [
        ("table1/shufflenetv2", {"deterministic": True}),
        ("table2/squeezenet", {"deterministic": True}),
        ("table1/shufflenetv2", {}),
        ("table1/shufflenetv2", {"precision": "bf16"}),
        ("table2/densenet_k12", {"deterministic": True, "recompute": True}),
    ]
    for reference, execution in compared:
        work = partial(graph_beside_eager, reference, device, **execution)
        checks.append((f"a graph beside eager steps, {reference} {execution}", work))
    for name, check in checks:
        if time.monotonic() > deadline:
            print(f"LEFT {name}", flush=True)
            continue
        try:
            answer = check()
            if device.type == "cuda":
                torch.cuda.synchronize()
            print(f"PASS {name}{f': {answer}' if answer else ''}", flush=True)
        except Exception as error:
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            print("".join(traceback.format_exc(limit=-4)), flush=True)


if __name__ == "__main__":
    main()
