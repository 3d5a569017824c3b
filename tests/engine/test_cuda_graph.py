"""Captured steps: the same bits as eager ones. Without a GPU, a capture that only repeats the work stands in."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from repro.data import Dataset
from repro.engine.cuda_graph import WARM_UP_STEPS, CudaCapture, GraphedBatch, capture_failure, nothing_collected
from repro.engine.device import choose_device, set_up_device
from repro.engine.learner import Learner
from repro.errors import RunFailure
from repro.experiment.schema import Run

MakeRun = Callable[..., Run]
EPOCHS = 7  # of three steps, the last one short: 21, over two drops of the learning rate
RECIPE = (f"recipe.epochs={EPOCHS}", "recipe.decay_epochs=[2,4]")
ADAMW = (RECIPE[0], "recipe.optimizer=adamw", "recipe.schedule=cosine", "recipe.label_smoothing=0.1")
ON_A_GPU = [RECIPE, (*RECIPE, "execution.precision=bf16"), ADAMW]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Repeat:
    """A capture as CUDA's: warms up, undoes it, and repeats the work over the same memory; counts what it does."""

    def __init__(self) -> None:
        self.captures = 0

    def __call__(self, work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        generator_state = torch.get_rng_state()
        for _ in range(WARM_UP_STEPS):
            work()
        undo()
        torch.set_rng_state(generator_state)
        return work


def learner_of(run: Run, dataset: Dataset, device: str = "cpu") -> Learner:
    return Learner(run, dataset, set_up_device(choose_device(device), run.cell.execution, None, run.cell.row.model))


def train(learner: Learner) -> list[str]:
    """Train all epochs, evaluation included; the state's hash and what was evaluated after each of them."""
    seen = []
    for epoch in range(1, EPOCHS + 1):
        learner.state.epoch = epoch
        learner.feed.begin_epoch(epoch)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
        totals = {name: tensor.tolist() for name, tensor in learner.state.totals.tensors().items()}
        seen.append(f"{learner.state.hash()} {totals} {learner.evaluate()}")
        learner.state.totals.reset()
    return seen


@pytest.fixture
def with_dropout(make_run: MakeRun) -> Callable[..., Run]:
    """A run of SqueezeNet, the network with dropout and max-pooling."""

    def make(*overrides: str) -> Run:
        run = make_run("weighting.normalization=running", *overrides)
        row = run.cell.row.model_copy(update={"model": "squeezenet"})
        return run.model_copy(update={"cell": run.cell.model_copy(update={"row": row})})

    return make


@pytest.mark.parametrize(("loss", "recipe"), [("bias", RECIPE), ("shuffled_bias", RECIPE), ("bias", ADAMW)])
def test_replayed_steps_change_the_state_as_eager_ones_do(
    make_run: MakeRun, small_dataset: Dataset, loss: str, recipe: tuple[str, ...]
) -> None:
    run = make_run(*recipe, "weighting.normalization=running", loss=loss)
    graphed, capture = learner_of(run, small_dataset), Repeat()
    graphed._train = GraphedBatch(graphed.batch_function(), graphed.state.tensors, capture)
    assert train(graphed) == train(learner_of(run, small_dataset))
    assert capture.captures == 2  # of the full batch and of the short one, each once


def test_warming_up_leaves_the_state_and_the_generator_as_they_were(make_run: MakeRun, small_dataset: Dataset) -> None:
    learner = learner_of(make_run("weighting.normalization=running"), small_dataset)
    learner.feed.begin_epoch(1)
    learner.train_on_batch(0)
    before, seed = learner.state.hash(), torch.get_rng_state()
    totals = learner.state.totals.sums.clone()

    def capture(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        work()
        assert learner.state.hash() != before
        undo()
        return lambda: None

    GraphedBatch(learner.batch_function(), learner.state.tensors, capture)(*learner.feed.batch(1))
    assert learner.state.hash() == before
    assert torch.equal(learner.state.totals.sums, totals)
    assert torch.equal(torch.get_rng_state(), seed)


def test_each_batch_is_copied_into_the_memory_of_its_graph() -> None:
    seen: list[Tensor] = []
    addresses = set()

    def step(images: Tensor, targets: Tensor) -> None:
        addresses.add((images.data_ptr(), targets.data_ptr()))
        seen.append(images.clone())

    graphed = GraphedBatch(step, lambda: [], lambda work, undo: work)
    batches = [torch.full((size, 3, 2, 2), index) for index, size in enumerate((4, 4, 2, 4, 2))]
    for batch in batches:
        graphed(batch, torch.zeros(len(batch)))
    assert all(torch.equal(shown, batch) for shown, batch in zip(seen, batches, strict=True))
    assert len(addresses) == 2


@pytest.mark.parametrize(
    ("work", "shown"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "CUDA error: an illegal memory access"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (RuntimeError("operation not permitted"), "cannot be captured as a CUDA graph: operation not permitted"),
        (ValueError("a value"), "cannot be captured as a CUDA graph: a value"),
    ],
)
def test_a_failed_capture_shows_what_failed_inside_it(work: Exception, shown: str) -> None:
    """As ``torch.cuda.graph`` does: it ends the capture whatever happened, and that fails with an error of its own."""
    try:
        try:
            raise work
        finally:
            raise RuntimeError("capture_end: the capture was invalidated")
    except RuntimeError as error:
        failure = capture_failure(error)
    assert shown in str(failure)
    assert isinstance(failure, RunFailure) == ("captured" in shown)


def test_work_that_cannot_be_captured_is_no_lost_gpu_and_its_message_is_a_line() -> None:
    text = "CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might be reported later"
    for error in (torch.AcceleratorError(text), RuntimeError(text)):
        failure = capture_failure(error)
        assert isinstance(failure, RunFailure)
        what, hint = str(failure).splitlines()
        assert what.endswith("as a CUDA graph: CUDA error: operation not permitted when stream is capturing")
        assert "cuda_graph=false" in hint


def test_no_garbage_is_collected_during_a_capture() -> None:
    seen: list[bool] = []
    garbage = Cycle()
    dead = weakref.ref(garbage)
    del garbage
    with nothing_collected():
        seen += [dead() is None, gc.isenabled()]
    assert seen == [True, False]
    assert gc.isenabled()


class Cycle:
    """Only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def replaying_nothing(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
    """A graph does not hold the work either."""
    work()
    return lambda: None


def test_what_a_learner_holds_is_free_as_soon_as_it_is_dropped(make_run: MakeRun, small_dataset: Dataset) -> None:
    """Else the weights of a measured network stay on the GPU beside those of the next."""
    with nothing_collected():
        learner = learner_of(make_run(*RECIPE), small_dataset)
        learner._train = GraphedBatch(learner.batch_function(), learner.state.tensors, replaying_nothing)
        learner.feed.begin_epoch(1)
        learner.train_on_batch(0)
        learner.evaluate()
        model = weakref.ref(learner.state.model)
        del learner
        assert model() is None


@pytest.mark.parametrize("recipe", ON_A_GPU)
def test_what_is_trained_on_a_gpu_alone_can_be_configured(with_dropout: MakeRun, recipe: tuple[str, ...]) -> None:
    assert with_dropout("execution.deterministic=true", *recipe).cell.recipe.epochs == EPOCHS


@pytest.mark.cuda
@needs_cuda
def test_a_graph_draws_a_new_permutation_at_each_step_as_eager_steps_do(
    make_run: MakeRun, small_dataset: Dataset
) -> None:
    deterministic = (*RECIPE, "execution.deterministic=true")
    graphed = learner_of(make_run(*deterministic, loss="shuffled_bias"), small_dataset, "cuda")
    eager = learner_of(
        make_run(*deterministic, "execution.cuda_graph=false", loss="shuffled_bias"), small_dataset, "cuda"
    )
    assert train(graphed) == train(eager)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("recipe", ON_A_GPU)
def test_graphs_equal_eager_steps_on_cuda(
    with_dropout: MakeRun, small_dataset: Dataset, recipe: tuple[str, ...]
) -> None:
    deterministic = ("execution.deterministic=true", *recipe)
    graphed = learner_of(with_dropout(*deterministic), small_dataset, "cuda")
    eager = learner_of(with_dropout(*deterministic, "execution.cuda_graph=false"), small_dataset, "cuda")
    assert graphed.settings.cuda_graph
    assert not eager.settings.cuda_graph
    assert train(graphed) == train(eager)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("model", ["shufflenetv2_x0_5", "mobilenetv2_x0_75", "densenet100_k12", "nasnet_a"])
def test_every_network_is_captured_and_equals_eager_steps(
    make_run: MakeRun, small_dataset: Dataset, model: str
) -> None:
    recompute = ("execution.recompute=true",) if model.startswith("densenet") else ()
    hashes = []
    for graph in ("true", "false"):
        overrides = ("execution.deterministic=true", f"execution.cuda_graph={graph}", *recompute)
        run = make_run("weighting.normalization=running", *overrides)
        row = run.cell.row.model_copy(update={"model": model})
        run = run.model_copy(update={"cell": run.cell.model_copy(update={"row": row})})
        learner = learner_of(run, small_dataset, "cuda")
        learner.feed.begin_epoch(1)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
        hashes.append(learner.state.hash())
    assert hashes[0] == hashes[1]


@pytest.mark.cuda
@needs_cuda
def test_dropout_of_a_replay_follows_the_seed_of_its_step() -> None:
    device = torch.device("cuda")
    kept = torch.zeros(64, device=device)

    def step(images: Tensor, targets: Tensor) -> None:
        kept.copy_(torch.nn.functional.dropout(images, 0.5))

    graphed = GraphedBatch(step, lambda: [kept], CudaCapture(device))
    images, targets = torch.ones(64, device=device), torch.zeros(64, device=device)
    drawn = []
    for seed in (1, 2, 1):
        torch.cuda.manual_seed(seed)
        graphed(images, targets)
        drawn.append(kept.tolist())
        torch.cuda.manual_seed(seed)
        assert drawn[-1] == torch.nn.functional.dropout(images, 0.5).tolist()
    assert drawn[0] == drawn[2] != drawn[1]
