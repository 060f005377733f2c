"""Networks by name: the literature's sizes, reproducible weights, refusals."""

from __future__ import annotations

import pytest
import torch

from phalanx.errors import ModelError, ParameterError
from phalanx.models.build import build, lay_out, networks
from phalanx.models.digest import weights_digest
from phalanx.models.initialise import initialise
from phalanx.models.resolve import usual

PARAMETERS = {
    "mnist-cnn": 1_974_762,
    "lenet5": 61_706,
    "mlp": 784 * 256 + 256 + 256 * 256 + 256 + 2570,
    "resnet18": 11_173_962,
    "resnet20": 272_474,
    "resnet56": 855_770,
    "resnet110": 1_730_714,
    "resnet50": 25_557_032,
    "dm-small": 329_606,
    "cnn-small": 166_406,
    "cnn7": 17_192_650,
    "cnn-double": 13_314_634,
}


def test_every_network_has_a_known_size():
    assert set(PARAMETERS) == set(networks.names())


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameter_count_and_output_shape(name):
    classes, shape = usual(name)
    with torch.device("meta"):
        network = lay_out(name, classes, shape)
        logits = network(torch.zeros(2, *shape))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    assert logits.shape == (2, classes)


def test_small_images_and_other_class_counts():
    for name in ("mnist-cnn", "mlp", "resnet20"):
        assert build(name, 7, (1, 8, 8)).eval()(torch.zeros(3, 1, 8, 8)).shape == (3, 7)


def test_weights_follow_from_the_key_alone():
    torch.manual_seed(1)
    one = weights_digest(build("resnet20", 10, (3, 32, 32), key=2**127 + 5))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert weights_digest(build("resnet20", 10, (3, 32, 32), key=2**127 + 5)) == one
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_digest(build("resnet20", 10, (3, 32, 32), key=5)) != one


def test_initialisation_has_the_stated_spread():
    conv = initialise(torch.nn.Conv2d(16, 64, 3), key=1)
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert not conv.bias.any()
    linear = initialise(torch.nn.Linear(400, 50), key=1)
    assert float(linear.weight.detach().abs().max()) <= 1 / 20
    assert float(linear.weight.detach().std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("key", [-1, 2**128])
def test_keys_outside_128_bits_are_refused(key):
    with pytest.raises(ParameterError, match="2\\*\\*128"):
        build("mlp", 10, (4,), key=key)


@pytest.mark.parametrize(
    ("name", "classes", "shape", "options", "error", "says"),
    [
        ("resnet21", 10, (3, 32, 32), {}, ParameterError, "resnet20"),
        ("mlp", 1, (4,), {}, ModelError, "at least 2"),
        ("mlp", 10, (), {}, ModelError, "at least 1"),
        ("mlp", 10, (4,), {"width": 3}, ParameterError, "width"),
        ("mlp", 10, (4,), {"hidden": [0]}, ParameterError, "at least 1"),
        ("mnist-cnn", 10, (784,), {}, ModelError, "channels, height, width"),
        ("resnet20", 10, (3, 4, 4), {}, ModelError, "at least 8 x 8"),
    ],
)
def test_refusals(name, classes, shape, options, error, says):
    with pytest.raises(error, match=says):
        build(name, classes, shape, **options)


def test_the_scheme_of_interval_training_keeps_boxes_as_wide_as_they_come():
    """After a layer and its ReLU: the mean width of boxes around centres of zero."""
    wide = build("mlp", 10, (2000,), hidden=[2000], initialisation="ibp")[1]
    assert wide.weight.std().item() == pytest.approx((2 * torch.pi) ** 0.5 / 2000, rel=0.01)
    assert (wide.bias == 0).all()
    radius = wide.weight.abs() @ torch.ones(2000)
    # A box around zero comes out of the ReLU with half of its width.
    assert (radius / 2).mean().item() == pytest.approx(1.0, rel=0.01)
    with pytest.raises(ParameterError, match="initialisation"):
        build("mlp", 10, (4,), initialisation="magic")
