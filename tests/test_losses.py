"""The losses against an independent computation in NumPy float64, on ordinary and on degenerate batches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from repro.errors import UserError
from repro.experiment.catalog import LOSSES, Loss
from repro.losses import NORMALIZATIONS, build_loss, per_sample

ALPHA, BETA = 0.3, 0.3
WEIGHTED = tuple(name for name in LOSSES if name != "ce")


class Reference:
    """z and loss by the formulas of the supplement, sample by sample, in float64."""

    def __init__(self, name: str, normalization: str) -> None:
        self.name, self.normalization = name, normalization
        self.least = {"variance": math.inf, "mean": math.inf}

    def scaled(self, measure: str, values: np.ndarray, activations: np.ndarray) -> np.ndarray:
        low, high = values.min(), values.max()
        start = low
        if self.normalization == "activation":
            low, high = activations.min(), activations.max()
            start = low
        if self.normalization == "running":
            self.least[measure] = start = min(self.least[measure], low)
        if high == low:
            return np.zeros_like(values)
        return (values - start) / (high - low)

    def weights(self, features: np.ndarray) -> np.ndarray:
        """The weights by the loss's own formula, or, of a control, from those of the loss that it controls."""
        for control in ("mean_one", "constant", "shuffled"):
            if self.name.startswith(f"{control}_"):
                z = self.of(self.name.removeprefix(f"{control}_"), features)
                if control == "shuffled":
                    return z[torch.rand(len(z), generator=torch.Generator().manual_seed(0)).argsort().numpy()]
                return z / z.sum() * len(z) if control == "mean_one" else np.full_like(z, z.sum() / len(z))
        return self.of(self.name, features)

    def of(self, name: str, features: np.ndarray) -> np.ndarray:
        flat = features.reshape(len(features), -1).astype(np.float64)
        variance = ((flat - flat.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / (flat.shape[1] - 1)

        def z(measure: str, values: np.ndarray) -> np.ndarray:
            return np.exp(ALPHA * self.scaled(measure, values, flat)) - BETA

        match name:
            case "ce":
                return np.ones(len(flat))
            case "bias":
                return z("variance", variance)
            case "inverse_bias":
                return 1 / z("variance", variance)
            case "mean_bias":
                return z("mean", flat.mean(axis=1))
            case "mean_variance_bias":
                return z("mean", flat.mean(axis=1)) * z("variance", variance)
        raise AssertionError(f"{name} has no formula here")

    def loss(self, logits: np.ndarray, features: np.ndarray, targets: np.ndarray) -> float:
        logits = logits.astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        cross_entropy = -log_softmax[np.arange(len(targets)), targets]
        return float((self.weights(features) * cross_entropy).mean())


def batch(samples: int = 16, classes: int = 10, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "logits": torch.randn(samples, classes, generator=random) * 3,
        # Post-activation features: non-negative, with samples of very different spread.
        "features": torch.randn(samples, 8, 4, 4, generator=random).relu()
        * torch.rand(samples, 1, 1, 1, generator=random),
        "targets": torch.randint(classes, (samples,), generator=random),
    }


def mean_loss(loss: nn.Module, **data: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)  # of the permutation, as training seeds each step
    return per_sample(loss, **data)[0].mean()


def weights_of(loss: nn.Module, features: torch.Tensor) -> torch.Tensor:
    data = batch(len(features))
    torch.manual_seed(0)
    return per_sample(loss, **data | {"features": features})[1]


def as_numpy(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.fixture(params=[(name, scale) for name in LOSSES for scale in NORMALIZATIONS], ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, Reference]]:
    name, normalization = request.param
    return build_loss(name, ALPHA, BETA, normalization), Reference(name, normalization)


def test_agrees_with_float64_over_several_batches(pair: tuple[nn.Module, Reference]) -> None:
    loss, reference = pair
    for seed in range(5):  # several, so that the running minimum has something to remember
        data = batch(seed=seed)
        assert float(mean_loss(loss, **data)) == pytest.approx(reference.loss(**as_numpy(data)), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 80])
def test_agrees_on_any_batch_size(pair: tuple[nn.Module, Reference], samples: int) -> None:
    loss, reference = pair
    data = batch(samples)
    assert float(mean_loss(loss, **data)) == pytest.approx(reference.loss(**as_numpy(data)), abs=1e-6, rel=1e-6)


def test_agrees_when_all_targets_are_one_class(pair: tuple[nn.Module, Reference]) -> None:
    loss, reference = pair
    data = batch() | {"targets": torch.full((16,), 3)}
    assert float(mean_loss(loss, **data)) == pytest.approx(reference.loss(**as_numpy(data)), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_equal_variances_scale_to_zero_and_never_to_nan(pair: tuple[nn.Module, Reference], value: float) -> None:
    loss, reference = pair
    data = batch() | {"features": torch.full((16, 8, 4, 4), value)}
    z = weights_of(loss, data["features"])
    assert torch.isfinite(z).all()
    np.testing.assert_allclose(z.numpy(), reference.weights(data["features"].numpy()), atol=1e-6)


def test_identical_samples_get_the_weight_of_zero_diversity() -> None:
    one = torch.rand(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    z = weights_of(build_loss("bias"), one.expand(6, -1, -1, -1))
    torch.testing.assert_close(z, torch.full((6,), 1 - BETA))


def test_weights_span_what_the_formula_says() -> None:
    features = batch(64)["features"]
    z = weights_of(build_loss("bias"), features)
    assert z.min().item() == pytest.approx(1 - BETA, abs=1e-6)
    assert z.max().item() == pytest.approx(math.exp(ALPHA) - BETA, abs=1e-6)
    inverse = weights_of(build_loss("inverse_bias"), features)
    torch.testing.assert_close(inverse, 1 / z)


@pytest.mark.parametrize("name", LOSSES)
def test_no_gradient_flows_through_the_weight(name: str) -> None:
    data = batch()
    features = data["features"].requires_grad_()
    logits = data["logits"].requires_grad_() + 0 * features.flatten(1)[:, :10]
    loss = build_loss(name)
    torch.autograd.backward(mean_loss(loss, logits=logits, features=features, targets=data["targets"]))
    assert features.grad is not None
    assert features.grad.abs().max() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_weighted_gradient_of_cross_entropy(name: str) -> None:
    data = batch()
    logits = data["logits"].requires_grad_()
    torch.autograd.backward(mean_loss(build_loss(name), **data))
    z = torch.from_numpy(Reference(name, "batch").weights(data["features"].numpy()))
    expected = logits.detach().double().softmax(dim=1)
    expected[torch.arange(16), data["targets"]] -= 1
    expected *= z[:, None] / 16
    torch.testing.assert_close(logits.grad, expected.float(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_bf16_inputs_are_reduced_in_float32(name: str) -> None:
    data = batch()
    low = {"logits": data["logits"].bfloat16(), "features": data["features"].bfloat16(), "targets": data["targets"]}
    loss = mean_loss(build_loss(name), **low)
    assert loss.dtype == torch.float32
    rounded = {key: value.float().numpy() if value.is_floating_point() else value.numpy() for key, value in low.items()}
    assert float(loss) == pytest.approx(Reference(name, "batch").loss(**rounded), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_label_smoothing_is_torchs_under_the_same_weights(name: str) -> None:
    data = batch()
    torch.manual_seed(0)
    losses, weights = per_sample(build_loss(name, label_smoothing=0.2), **data)
    assert torch.equal(weights, weights_of(build_loss(name), data["features"]))
    smoothed = nn.functional.cross_entropy(data["logits"], data["targets"], reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(losses, weights * smoothed)
    log_softmax = data["logits"].double().log_softmax(dim=1)
    plain = -log_softmax[torch.arange(16), data["targets"]]
    torch.testing.assert_close(smoothed.double(), 0.8 * plain - 0.2 * log_softmax.mean(dim=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2])
def test_smoothing_out_of_bounds_is_refused(smoothing: float) -> None:
    with pytest.raises(UserError, match="label_smoothing must be at least 0 and below 1"):
        build_loss("bias", label_smoothing=smoothing)


def test_smoothing_of_a_loss_that_has_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "plain", Loss("plain", "torch.nn:Identity"))
    assert isinstance(build_loss("plain"), nn.Identity)
    with pytest.raises(UserError, match="the loss 'plain' has no label smoothing"):
        build_loss("plain", label_smoothing=0.1)


@pytest.mark.parametrize("name", ["bias", "inverse_bias"])
def test_each_control_takes_one_property_of_the_weights_away(name: str) -> None:
    features = batch(64)["features"]
    z = weights_of(build_loss(name), features)
    mean_one, constant, shuffled = (
        weights_of(build_loss(f"{control}_{name}"), features) for control in ("mean_one", "constant", "shuffled")
    )
    assert float(mean_one.mean()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(mean_one * z.mean(), z)
    torch.testing.assert_close(constant, torch.full((64,), float(z.mean())))
    assert torch.equal(shuffled.sort().values, z.sort().values)
    assert not torch.equal(shuffled, z)
    assert abs(float(torch.corrcoef(torch.stack([shuffled, z]))[0, 1])) < 0.3


def test_a_shuffle_follows_the_seed_and_is_another_at_each_draw() -> None:
    loss, features = build_loss("shuffled_bias"), batch(64)["features"]
    first, again = weights_of(loss, features), weights_of(loss, features)
    assert torch.equal(first, again)
    assert not torch.equal(loss.weights(features), first)


def test_the_constant_control_is_what_the_schema_can_say_of_one_weight() -> None:
    """alpha 0 gives every sample z = 1 - beta: the batch's mean z, where that is known beforehand."""
    features = batch(64)["features"]
    mean = float(weights_of(build_loss("bias"), features).mean())
    data = batch(64)
    constant = mean_loss(build_loss("constant_bias"), **data)
    torch.testing.assert_close(constant, mean_loss(build_loss("bias", alpha=0.0, beta=1 - mean), **data))


@pytest.mark.parametrize("name", WEIGHTED)
def test_running_minimum_is_state_that_survives(name: str) -> None:
    first, second = (build_loss(name, normalization="running") for _ in range(2))
    first(**batch(seed=1))
    second.load_state_dict(first.state_dict())
    assert len(first.state_dict()) == (2 if name == "mean_variance_bias" else 1)
    torch.testing.assert_close(mean_loss(first, **batch(seed=2)), mean_loss(second, **batch(seed=2)), rtol=0, atol=0)


def test_running_scale_remembers_the_least_and_may_exceed_one() -> None:
    loss = build_loss("bias", normalization="running")
    quiet = batch(seed=1) | {"features": batch(seed=1)["features"] * 0.01}
    loss(**quiet)
    high = weights_of(loss, batch(seed=2)["features"] + torch.linspace(0, 1, 128).reshape(8, 4, 4))
    assert high.max().item() > math.exp(ALPHA) - BETA


def test_running_minimum_stays_put_in_evaluation() -> None:
    loss = build_loss("bias", normalization="running").eval()
    loss(**batch())
    assert all(value.isinf() for value in loss.state_dict().values())


def test_features_of_one_activation_have_no_variance() -> None:
    with pytest.raises(UserError, match="no variance"):
        weights_of(build_loss("bias"), torch.ones(4, 1, 1, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_tokens_and_vectors_are_weighted_as_feature_maps_are(name: str) -> None:
    maps = batch()["features"]
    expected = weights_of(build_loss(name), maps)
    for features in (maps.flatten(2), maps.flatten(2).transpose(1, 2), maps.flatten(1)):
        torch.testing.assert_close(weights_of(build_loss(name), features), expected)


@pytest.mark.parametrize("normalization", ["batch", "running"])
def test_a_batch_of_one_has_the_weight_of_zero_diversity(normalization: str) -> None:
    z = weights_of(build_loss("bias", normalization=normalization), batch(1)["features"])
    torch.testing.assert_close(z, torch.tensor([1 - BETA]))


@pytest.mark.parametrize("name", ["ce", "bias", "shuffled_bias"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": torch.rand(16, 10)}, "soft labels are not supported: these targets have a number for each class"),
        (
            {"targets": torch.ones(16)},
            "targets must be class numbers, int64 of shape (16,), not float32 of shape (16,)",
        ),
        ({"targets": torch.ones(16, dtype=torch.int32)}, "int64 of shape (16,), not int32 of shape (16,)"),
        ({"targets": torch.ones(15, dtype=torch.int64)}, "int64 of shape (16,), not int64 of shape (15,)"),
        ({"targets": torch.ones(16, 1, dtype=torch.int64)}, "int64 of shape (16,), not int64 of shape (16, 1)"),
        ({"logits": torch.ones(16)}, "logits must have the shape (N, K), not (16,)"),
    ],
)
def test_wrong_targets_and_logits_are_one_message(name: str, wrong: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError) as refused:
        build_loss(name)(**batch() | wrong)
    assert message in refused.value.what


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((15, 8, 4, 4), "features of 15 samples, but targets of 16"),
        ((16,), "features of shape (16,) have no variance within a sample"),
        ((16, 1), "features of shape (16, 1) have no variance within a sample"),
    ],
)
def test_wrong_features_are_one_message(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError) as refused:
        build_loss("bias")(**batch() | {"features": torch.ones(shape)})
    assert refused.value.what == message


def test_unknown_names_are_named() -> None:
    with pytest.raises(UserError, match="bais"):
        build_loss("bais")
    with pytest.raises(UserError, match="global"):
        build_loss("bias", normalization="global")


def test_a_weighted_loss_gives_losses_and_weights_a_plain_one_losses_alone() -> None:
    data = batch()
    plain, weighted = build_loss("ce")(**data), build_loss("bias")(**data)
    assert (plain.shape, plain.dtype) == ((16,), torch.float32)
    losses, weights = weighted
    torch.testing.assert_close(losses, weights * plain, rtol=0, atol=0)
    assert torch.equal(per_sample(build_loss("ce"), **data)[1], torch.ones(16))


class Returning(nn.Module):
    """A loss that returns the same for every batch."""

    def __init__(self, returned: object) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, **batch: torch.Tensor) -> object:
        return self.returned


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (torch.tensor(1.0), "()"),
        (torch.ones(15), "(15,)"),
        (torch.ones(16, 10), "(16, 10)"),
        ((torch.ones(16), torch.tensor(1.0)), "(16,) and ()"),
        ((torch.ones(16), None), "(16,) and NoneType"),
        ((torch.ones(16), torch.ones(16), torch.ones(16)), "(16,) and (16,) and (16,)"),
        (1.0, "float"),
        (None, "NoneType"),
    ],
)
def test_a_loss_that_is_not_one_number_per_sample_is_refused(returned: object, found: str) -> None:
    with pytest.raises(UserError) as refused:
        per_sample(Returning(returned), **batch())
    assert refused.value.what == f"the loss Returning returned {found} for 16 samples"
    assert "shape (16,)" in str(refused.value.hint)
