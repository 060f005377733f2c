"""`Smoothed`: labels or ABSTAIN, and a typed refusal of everything else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ModelError, NonFiniteError, ParameterError, PhalanxError
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.noise.distributions import noise_of
from phalanx.smoothing.smoothed import Smoothed, placed
from phalanx.verdicts import ABSTAIN

SHAPE = (1, 4, 4)
X = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def model(
    seed: int = 0, *, sigma: float | None = None, shape=SHAPE, value_range=(0, 1), scale: float = 50
) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = nn.Linear(16, 3)
    nn.init.constant_(layer.bias, 0.0)
    layer.weight.data.mul_(scale)
    network = nn.Sequential(nn.Flatten(), layer).eval()
    return Model(network, InputSpec(value_range, shape=shape), 3, ModelCard("net", sigma=sigma))


def test_labels_of_inputs_however_they_are_given() -> None:
    smoothed = Smoothed(model(), 0.01)
    expected = model()(X).argmax(-1).tolist()
    for x in (X, X.double(), X.numpy(), X.numpy().astype(np.float64), X.tolist()):
        assert smoothed.predict(x, n=100) == expected
    assert smoothed.predict(X.flip(0), n=100) == expected[::-1]
    assert smoothed.predict(X[[0, 0, 1]], n=np.int64(100)) == [expected[i] for i in (0, 0, 1)]


def test_a_tie_abstains() -> None:
    assert Smoothed(model(scale=1e-3), 50.0).predict(X[:1], n=30) == [ABSTAIN]


@pytest.mark.parametrize(
    ("counts", "alpha", "label"),
    [
        ({0: 50, 1: 50}, 0.001, ABSTAIN),
        ({0: 60, 1: 40}, 0.05, ABSTAIN),  # two-sided: 0.0569
        ({0: 60, 1: 40}, 0.06, 0),
        ({2: 40, 1: 60}, 0.06, 1),
        ({5: 300, 0: 60, 1: 40}, 0.001, 5),
        ({5: 9}, 0.001, ABSTAIN),  # 2**-8
        ({5: 9}, 0.004, 5),
        ({5: 10}, 0.001, ABSTAIN),  # 2**-9
        ({5: 11}, 0.001, 5),
    ],
)
def test_a_label_is_given_at_the_level_of_a_two_sided_test(monkeypatch, counts, alpha, label):
    monkeypatch.setattr(Smoothed, "counts", lambda self, x, n: [counts])
    (found,) = Smoothed(model(), 0.1).predict(X[:1], alpha=alpha)
    assert found == label


def test_an_ensemble_is_smoothed_as_one() -> None:
    members = [model(seed) for seed in range(3)]
    ensemble = Ensemble(members, "weighted", weights=np.array([0, 0, 1]))
    alone = Smoothed(members[2], 0.1).counts(X, 50)
    assert Smoothed(ensemble, 0.1).counts(X, 50) == alone


def test_sigma_is_the_cards() -> None:
    trained = model(sigma=0.25)
    assert Smoothed(trained).sigma == Smoothed(trained, 0.25).sigma == 0.25
    assert Smoothed(trained, 0.5, allow_sigma_mismatch=True).sigma == 0.5


def test_bytes_for_a_model_of_bytes() -> None:
    x = (255 * X).to(torch.uint8)
    smoothed = Smoothed(model(value_range=(0, 255)), 1.0)
    assert smoothed.predict(x, n=50) == smoothed.predict(x.float(), n=50)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (X[0], r"expects a batch .*\(1, 4, 4\); repair: x\[None\]"),
        (X[0, 0], "expects a batch"),
        (X[:, :, :3], "expects a batch"),
        (X[:0], "non-empty batch"),
        (X[0, 0, 0], "non-empty batch"),
        ((255 * X).to(torch.uint8), "x / 255.0"),
        (torch.zeros(2, *SHAPE, dtype=torch.uint8), "x / 255.0"),
        (np.zeros((2, *SHAPE), dtype=np.int64), "x / 255.0"),
        (255 * X, "their declared range is 0 .. 1"),
        (X - 1, "their declared range is 0 .. 1"),
        (X.masked_fill(X > 0.9, float("nan")), "NaN or infinite"),
        (X > 0.5, "dtype torch.bool"),
        ("an image", "."),
        (None, "."),
    ],
)
def test_inputs_that_do_not_fit(x, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Smoothed(model(), 0.1).predict(x)


@pytest.mark.parametrize("n", [0, -3, 1.5, True, "100", None, float("nan")])
def test_numbers_of_samples_that_are_none(n) -> None:
    with pytest.raises(ParameterError, match=r"n is .*a whole number"):
        Smoothed(model(), 0.1).predict(X, n=n)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, float("nan"), "0.1", None])
def test_alpha(alpha) -> None:
    with pytest.raises(ParameterError, match="alpha is"):
        Smoothed(model(), 0.1).predict(X, alpha=alpha)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"batch": 2.0}, "batch is 2.0"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"precision": "fp7"}, "precision 'fp7'"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"sigma": None}, "no sigma was given"),
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"sigma": "0.5"}, "sigma is '0.5'"),
        ({"sigma": True}, "sigma is True"),
        ({"sigma": torch.tensor([0.5, 0.5])}, "sigma is tensor"),
    ],
)
def test_options_that_mean_nothing(options, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        Smoothed(model(), **{"sigma": 0.1, **options})


def test_another_sigma_than_the_cards() -> None:
    with pytest.raises(ParameterError, match=r"trained for 0\.25"):
        Smoothed(model(sigma=0.25), 0.5)
    with pytest.raises(ParameterError, match=r"trained for \[0.25, 0.5\]"):
        Smoothed(Ensemble([model(sigma=0.25), model(sigma=0.5)]))


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (model().network, r"Sequential is neither.*phalanx.Model\("),
        ([model(), model(1)], r"list is neither.*phalanx.Ensemble\(models\)"),
        ((), r"tuple is neither"),
        ("resnet20", "str is neither"),
        (None, "NoneType is neither"),
    ],
)
def test_what_is_no_model(thing, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Smoothed(thing, 0.1)


def test_models_that_are_no_function() -> None:
    with pytest.raises(ModelError, match="training mode"):
        Smoothed(model().train(), 0.1)
    nan = model(scale=float("inf"), shape=None)
    with pytest.raises(ModelError, match="not finite"):
        Smoothed(nan, 0.1)

    class Random(nn.Module):
        def forward(self, x):
            return torch.rand(len(x), 3)

    with pytest.raises(ModelError, match="two different answers"):
        Smoothed(Model(Random().eval(), InputSpec(), 3), 0.1).predict(X)
    broken = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Threshold(9.0, float("nan")))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        Smoothed(Model(broken.eval(), InputSpec(), 3), 0.1).predict(X)


def test_another_shape_for_a_model_that_declares_none() -> None:
    with pytest.raises(ModelError, match="shape"):
        Smoothed(model(shape=None), 0.1).predict(torch.rand(2, 1, 5, 5))


def test_an_abstention_is_neither_true_nor_a_class() -> None:
    for misread in (bool, int, lambda label: 1 if label else 0, lambda label: not label):
        with pytest.raises(PhalanxError, match="label is ABSTAIN"):
            misread(ABSTAIN)
    assert ABSTAIN != 0
    assert ABSTAIN in (1, ABSTAIN)
    assert [repr(label) for label in (3, ABSTAIN)] == ["3", "ABSTAIN"]


def test_noise_that_stays_float32_is_itself():
    gaussian, laplace = noise_of("gaussian", 0.5), noise_of("laplace", 0.5)
    assert placed(gaussian, (0.0, 1.0), "real", None) is gaussian
    assert placed(laplace, (0.0, 1.0), None, None) is laplace
    assert placed(gaussian, (0.0, 1.0), None, None) is not gaussian
