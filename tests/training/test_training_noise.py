"""Training under any registered noise, and what certifying such a network takes for granted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

import phalanx
from phalanx.errors import ParameterError
from phalanx.models import checkpoint
from phalanx.noise.distributions import distributions, noise_of
from phalanx.noise.stream import NormalStream
from phalanx.smoothing.level import law_of, sigma_of
from phalanx.smoothing.smoothed import Smoothed
from phalanx.training.batches import Keys, StepNoise
from phalanx.training.recipe import NoisePart
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import plan_training, train

KEYS, SHAPE, ROWS = Keys(0, "0"), (1, 8, 8), 2000
MARGINS = {
    "gaussian": stats.norm(),
    "laplace": stats.laplace(scale=math.sqrt(0.5)),
    "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
}


def step_noise(law, rows=slice(0, ROWS)):
    like = torch.zeros(ROWS, *SHAPE)[rows]
    return StepNoise(KEYS, 3, 7, rows, ROWS, like, law)


@pytest.mark.parametrize("name", distributions.names())
def test_noise_has_its_law_at_level_one(name):
    drawn = step_noise(noise_of(name, 1.0))(2)
    assert drawn.shape == (ROWS, *SHAPE)
    assert drawn.dtype == torch.float32
    values = drawn.double().numpy()
    square = (values.reshape(ROWS, -1) ** 2).mean(1)
    assert abs(square.mean() - 1) < 4.5 * square.std() / math.sqrt(ROWS)
    if name in MARGINS:
        assert stats.kstest(values.ravel(), MARGINS[name].cdf).pvalue > 1e-3
    else:  # order 20 of 64 values: the mean square is of a Gamma law of shape 12
        assert stats.kstest(square * 12, stats.gamma(12).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", distributions.names())
def test_the_rows_of_a_process_are_those_of_the_whole_step(name):
    law = noise_of(name, 1.0)
    assert torch.equal(step_noise(law, slice(5, 90))(1), step_noise(law)(1)[5:90])


def test_gaussian_noise_is_the_normals_of_the_stream():
    """What recipes from before there was another noise trained with."""
    expected = NormalStream(KEYS("noise", 3, 7, 0), 64).rows(ROWS).view(ROWS, *SHAPE)
    assert torch.equal(step_noise(NoisePart().build())(0), expected)


def test_a_recipe_of_gaussian_noise_is_stored_as_before():
    plain = load_recipe("digits-gaussian")
    assert "noise" not in plain.as_dict()
    other = load_recipe("digits-gaussian", ["noise.name=laplace"])
    assert other.as_dict()["noise"] == {"name": "laplace", "order": None}


def trained(tiny, **noise):
    """One member, for an epoch, under some noise."""
    part = NoisePart(**noise)
    return train(tiny.model_copy(update={"noise": part, "members": 1, "epochs": 1}))[0]


@pytest.mark.parametrize(
    ("noise", "order"),
    [
        ({"name": "gaussian"}, None),
        ({"name": "laplace"}, None),
        ({"name": "generalised-gaussian"}, 20),
        ({"name": "generalised-gaussian", "order": 12}, 12),
    ],
)
def test_the_card_says_the_noise_and_certify_takes_it(tiny, tmp_path, noise, order):
    model = trained(tiny, **noise)
    checkpoint.save(model, tmp_path / "net.safetensors")
    loaded = checkpoint.load(tmp_path / "net.safetensors")
    assert (loaded.card.noise, loaded.card.order) == (noise["name"], order)
    assert loaded.card.extra["heldout"]["noisy_accuracy"] > 0.2
    x = torch.rand(2, *SHAPE)
    found = phalanx.certify(loaded, x, n=200, n0=20)
    config = found.store.manifest.config
    assert (config["noise"], config.get("order")) == (noise["name"], order)
    assert type(found.smoothed(loaded)._engine.noise) is type(Smoothed(loaded)._engine.noise)
    other = "uniform" if noise["name"] != "uniform" else "laplace"
    with pytest.raises(ParameterError, match="trained under"):
        phalanx.certify(loaded, x, n=200, n0=20, noise=other)
    with pytest.raises(ParameterError, match="trained under"):
        Smoothed(loaded, noise=other)
    allowed = phalanx.certify(loaded, x, n=200, n0=20, noise=other, allow_sigma_mismatch=True)
    assert allowed.store.manifest.config["noise"] == other


def test_weights_differ_by_noise_alone(tiny):
    one, other = trained(tiny, name="laplace"), trained(tiny, name="gaussian")
    again = trained(tiny, name="laplace")
    assert one.card.digest == again.card.digest != other.card.digest


def test_an_order_there_is_none_of_is_refused_before_training(tiny):
    part = NoisePart(name="generalised-gaussian", order=32)
    recipe = tiny.model_copy(update={"noise": part})
    with pytest.raises(ParameterError, match="order 32 in 64 dimensions"):
        plan_training(recipe, None, "cpu", None)


def test_what_is_certified_under_follows_the_cards(tiny):
    order_20, laplace = trained(tiny, name="generalised-gaussian"), trained(tiny, name="laplace")
    bare = trained(tiny)
    bare.card = type(bare.card)("bare", sigma=0.25)
    family = "generalised-gaussian"
    assert law_of([bare], None, None, allow_mismatch=False) == ("gaussian", None)
    assert law_of([bare], "uniform", None, allow_mismatch=False) == ("uniform", None)
    assert law_of([bare, laplace], None, None, allow_mismatch=False) == ("laplace", None)
    assert law_of([order_20], family, None, allow_mismatch=False) == (family, 20)
    assert law_of([order_20], family, 3, allow_mismatch=True) == (family, 3)
    assert law_of([order_20], "gaussian", None, allow_mismatch=True) == ("gaussian", None)
    for asked in ((family, 3), ("gaussian", None)):
        with pytest.raises(ParameterError, match=f"trained under {family} of order 20"):
            law_of([order_20], *asked, allow_mismatch=False)
    with pytest.raises(ParameterError, match="no noise was given"):
        law_of([order_20, laplace], None, None, allow_mismatch=True)


def test_noise_of_a_coordinate_of_a_family_is_not_a_gaussian():
    """Order 20 of 64 values mixes levels: the mean square varies more than that of normals."""
    squares = [
        (step_noise(noise_of(name, 1.0))(0) ** 2).flatten(1).mean(1).double().numpy()
        for name in ("gaussian", "generalised-gaussian")
    ]
    assert np.var(squares[0]) == pytest.approx(2 / 64, rel=0.2)
    assert np.var(squares[1]) == pytest.approx(1 / 12, rel=0.2)


def test_a_training_without_noise_says_so_and_is_certified_only_on_purpose(tiny):
    loss = tiny.loss.model_copy(update={"sigma": 0.0})
    recipe = tiny.model_copy(update={"loss": loss, "members": 1, "epochs": 1})
    model = train(recipe)[0]
    assert (model.card.sigma, model.card.noise, model.card.order) == (0.0, None, None)
    heldout = model.card.extra["heldout"]
    assert "noisy_accuracy" not in heldout
    assert heldout["clean_accuracy"] > 0.2
    with pytest.raises(ParameterError, match=r"trained without noise.*--allow-sigma-mismatch"):
        sigma_of([model], None, allow_mismatch=False)
    with pytest.raises(ParameterError, match=r"trained for 0.*--allow-sigma-mismatch"):
        sigma_of([model], 0.25, allow_mismatch=False)
    assert sigma_of([model], 0.25, allow_mismatch=True) == 0.25
