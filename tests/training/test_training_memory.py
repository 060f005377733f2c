"""Less memory: steps in parts and activations computed again give the same training."""

import pytest
import torch

from phalanx.errors import ConfigurationError, DataError
from phalanx.losses import Batch, build_loss
from phalanx.models.build import build
from phalanx.models.recompute import recompute_blocks
from phalanx.training.recipe import Recipe
from phalanx.training.shelf import make_recipe
from phalanx.training.trainer import train

SHAPES = {"resnet20": (3, 8, 8), "resnet50": (3, 32, 32)}


def recipe(data, **changes):
    fields = {
        "data": {"name": data},
        "model": {"name": "mlp", "options": {"hidden": [12]}},
        "members": 2,
        "loss": {"name": "drt", "sigma": 0.25},
        "epochs": 2,
        "batch": 20,
        "precision": "fp32",
    }
    return make_recipe({**fields, **changes})


@pytest.mark.parametrize("loss", ["drt", "consistency", "smoothadv"])
def test_parts_of_a_step_add_up_to_it(numpy_file, loss):
    data = numpy_file(labelled=True)
    wanted = {"name": loss, "sigma": 0.25}
    whole = train(recipe(data, loss=wanted), workers=1)
    parts = train(recipe(data, loss=wanted, accumulate=3), workers=1)
    for one, other in zip(whole, parts, strict=True):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-5)
    history = [models[0].card.extra["history"] for models in (whole, parts)]
    for one, other in zip(*history, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert other["noisy_accuracy"] == pytest.approx(one["noisy_accuracy"], abs=0.02)


def test_a_part_without_images_is_refused(numpy_file):
    data = numpy_file(labelled=True)
    with pytest.raises(DataError, match="20 images for 21 parts"):
        train(recipe(data, accumulate=21), workers=1)


def pass_through(name, loss, *, again):
    """Loss, gradients and buffers after one step of two networks."""
    shape = SHAPES[name]
    members = [build(name, 10, shape, key=key).train() for key in range(2)]
    for member in members:  # right everywhere: DRT looks at gradients there alone
        member.fc.bias.data[3] += 2
    if again:
        assert all(recompute_blocks(member, name) > 0 for member in members)
    draw = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, 6, *shape, generator=draw)
    given = Batch(x, torch.full((6,), 3), lambda _: noise)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = build_loss(loss, {"sigma": 0.25})(members, given)
    assert loss != "drt" or output.metrics["gradient_diversity"] > 0
    output.loss.backward()
    parameters = [p for member in members for p in member.parameters()]
    buffers = [buffer for member in members for buffer in member.buffers()]
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    activations = sum(sizes.values()) - sum(p.nbytes for p in parameters if p.ndim == 4)
    return [output.loss.detach(), *(p.grad for p in parameters), *buffers], activations


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("resnet20", "gaussian"),
        ("resnet20", "drt"),
        pytest.param("resnet50", "gaussian", marks=pytest.mark.slow),
    ],
)
def test_recomputed_activations_change_no_bit(name, loss):
    """Batch normalisation counts every batch once, gradients of gradients are exact."""
    plain, kept = pass_through(name, loss, again=False)
    again, kept_again = pass_through(name, loss, again=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    if loss == "gaussian":  # a gradient that is differentiated holds what it was computed from
        assert kept_again < 0.6 * kept


def test_a_network_without_blocks_is_refused(numpy_file):
    wanted = recipe(numpy_file(labelled=True), checkpoint_activations=True)
    with pytest.raises(ConfigurationError, match="'mlp' has no blocks"):
        train(wanted, workers=1)


def test_recomputation_is_no_part_of_a_trainings_identity():
    fields = recipe("digits").model_dump() | {"checkpoint_activations": True}
    assert Recipe(**fields).as_dict() == recipe("digits").as_dict()
    assert recipe("digits", accumulate=2).as_dict()["accumulate"] == 2
