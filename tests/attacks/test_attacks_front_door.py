"""``phalanx.attack``: what it takes, returns and refuses."""

from __future__ import annotations

import pytest
import torch
from attacks_helpers import SHAPE, network, points
from torch import nn

import phalanx
from phalanx.attacks.bpda import DeclaredBackward
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble
from phalanx.errors import DataError, ModelError, NonFiniteError, ParameterError
from phalanx.models.model import InputSpec, Model


def test_the_result_speaks_of_every_input() -> None:
    model = network()
    x, y = points(model)
    y[0] = (y[0] + 1) % 4
    found = phalanx.attack(model, x, y, attack="pgd", eps=0.1, steps=10)
    assert len(found) == len(x)
    assert found.right_before.tolist() == [0.0] + [1.0] * 19
    assert not found.success[0]
    assert found.queries[0] == 0
    assert 0 < found.success.sum() < 19
    with torch.no_grad():
        assert ((model(found.adversarial).argmax(1) != y) == (found.right_after == 0)).all()
    assert found.robust_accuracy == float(found.right_after.mean())
    low, high = found.interval
    assert low < found.robust_accuracy < high
    assert "robust" in repr(found)


def test_the_same_seed_gives_the_same_inputs_and_another_seed_others() -> None:
    model = network()
    x, y = points(model)
    runs = [phalanx.attack(model, x, y, attack="pgd", eps=0.1, steps=5, seed=s) for s in (1, 1, 2)]
    assert torch.equal(runs[0].adversarial, runs[1].adversarial)
    assert not torch.equal(runs[0].adversarial, runs[2].adversarial)


def test_a_stronger_attack_is_at_least_as_strong() -> None:
    model = network()
    x, y = points(model, 40)
    robust = [
        phalanx.attack(model, x, y, attack=name, eps=0.05).robust_accuracy
        for name in ("fgsm", "pgd", "apgd-t")
    ]
    assert robust[0] >= robust[1] >= robust[2]


@pytest.mark.parametrize("reducer", ["mean", "softmax", "vote", "max-margin", "weighted:1,2,1"])
def test_every_reducer_can_be_attacked(reducer: str) -> None:
    members = [network(seed) for seed in range(3)]
    ensemble = Ensemble(members, reducer)
    x, _ = points(members[0])
    with torch.no_grad():
        y = ensemble(x).argmax(1)
    found = phalanx.attack(ensemble, x, y, attack="pgd", eps=0.3, steps=10)
    assert found.success.any()
    with torch.no_grad():
        assert ((ensemble(found.adversarial).argmax(1) != y) == found.success).all()


def test_a_random_ensemble_is_judged_exactly() -> None:
    members = [network(seed) for seed in range(3)]
    x, y = points(members[0])
    for model, options in (
        (members, {"reducer": "random-member"}),
        (members, {"reducer": "random-member:1,2,1"}),
        (RandomEnsemble(Ensemble(members), 2), {}),
    ):
        found = phalanx.attack(model, x, y, attack="pgd", eps=0.1, steps=5, **options)
        assert torch.equal(found.right_after, _expected(model, options, found.adversarial, y))
        assert torch.equal(found.right_before, _expected(model, options, x, y))
        assert (found.right_after <= found.right_before).all()
        assert found.outcome.judged is None


def _expected(model, options, x, y) -> torch.Tensor:
    """By hand: the sum over members (or pairs) of the probability of each that is right."""
    with torch.no_grad():
        if isinstance(model, RandomEnsemble):
            return model.judge(x, y).expected
        right = torch.stack([member(x).argmax(1) == y for member in model]).double()
    weights = [0.25, 0.5, 0.25] if ":" in options["reducer"] else [1 / 3] * 3
    return torch.tensor(weights, dtype=torch.float64) @ right


def test_member_by_member_attacks_beat_the_gradient_of_the_mean_where_members_disagree() -> None:
    """Two members with opposite gradients: the mean has none, and each falls on its own."""
    members = []
    for sign in (1.0, -1.0):
        layer = nn.Linear(4, 2)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[sign, 0, 0, 0], [-sign, 0, 0, 0]]))
            layer.bias.copy_(torch.tensor([0.5, -0.5]))
        members.append(Model(layer.eval(), InputSpec((-3.0, 3.0)), 2))
    x, y = torch.zeros(1, 4), torch.tensor([0])
    found = phalanx.attack(members, x, y, attack="arc", eps=1.0, reducer="random-member")
    assert found.right_after.item() == 0.5
    mean = phalanx.attack(members, x, y, attack="fgsm", eps=1.0, reducer="random-member")
    assert mean.right_after.item() == 1.0
    greedy = phalanx.attack(members, x, y, attack="greedy", eps=1.0, reducer="random-member")
    assert greedy.right_after.item() == 0.5


def test_a_smoothed_classifier_is_judged_by_votes() -> None:
    model = network()
    x, y = points(model, 6)
    found = phalanx.attack(
        model, x, y, attack="pgd", norm="l2", eps=3.0, steps=6, sigma=0.1, draws=8, judged=50
    )
    assert found.outcome.judged == 50
    assert found.success.any()
    again = phalanx.attack(
        model,
        x[:2],
        y[:2],
        attack="pgd",
        norm="l2",
        eps=3.0,
        steps=6,
        sigma=0.1,
        draws=8,
        judged=50,
    )
    assert torch.equal(again.adversarial, found.adversarial[:2])


class Jittery(nn.Module):
    """Draws from torch's generator, or from the one it is given."""

    def __init__(self, declared: bool) -> None:
        super().__init__()
        self.layer = network().network
        if declared:
            self.forward = self._declared  # type: ignore[method-assign]

    def _declared(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(x.shape, generator=generator)
        return self.layer(x + 0.05 * noise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + 0.05 * torch.randn_like(x))


def test_a_random_model_is_refused_unless_it_says_how_it_draws() -> None:
    plain = network()
    x, y = points(plain, 4)
    hidden = Model(Jittery(declared=False).eval(), InputSpec((0.0, 1.0)), 4)
    with pytest.raises(ModelError, match="generator"):
        phalanx.attack(hidden, x, y, attack="pgd", eps=0.1)
    options = {"attack": "pgd", "eps": 0.2, "steps": 4, "draws": 3, "judged": 20}
    forced = phalanx.attack(hidden, x, y, force_random=True, **options)
    declared = Model(Jittery(declared=True).eval(), InputSpec((0.0, 1.0)), 4)
    found = phalanx.attack(declared, x, y, **options)
    for one in (forced, found):
        assert one.outcome.judged == 20
        assert one.success.any()
    alone = phalanx.attack(declared, x[:1], y[:1], **options)
    assert torch.equal(alone.adversarial, found.adversarial[:1])
    assert torch.equal(alone.right_after, found.right_after[:1])


class Mixture(nn.Module):
    """A random ensemble that says its members and probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList([network(0).network, network(1).network])
        self.probabilities = torch.tensor([0.75, 0.25])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.members[0](x)


def test_members_and_probabilities_are_all_a_random_ensemble_must_say() -> None:
    model = Model(Mixture().eval(), InputSpec((0.0, 1.0)), 4)
    x, y = points(network(0))
    found = phalanx.attack(model, x, y, attack="pgd", eps=0.05, steps=5)
    assert set(found.right_after.tolist()) <= {0.0, 0.25, 0.75, 1.0}
    assert found.outcome.judged is None


class Rounding(nn.Module):
    """Quantises its input; its gradient is 0, or declared."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step, self.layer = step, network().network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.step(x))


def test_a_declared_backward_sees_through_a_step_without_gradient() -> None:
    def quantise(x: torch.Tensor) -> torch.Tensor:
        return (8 * x).round() / 8

    x, _ = points(network())
    found = []
    for step in (quantise, DeclaredBackward(quantise)):
        model = Model(Rounding(step).eval(), InputSpec((0.0, 1.0)), 4)
        with torch.no_grad():
            y = model(x).argmax(1)
        found.append(phalanx.attack(model, x, y, attack="pgd", eps=0.1, random_start=False))
    assert found[0].success.sum() == 0
    assert (found[0].outcome.flat > 0).all()
    assert found[1].success.sum() > 5


def test_scores_without_gradients_are_for_square() -> None:
    model = network()
    x, y = points(model)
    with pytest.raises(ModelError, match="square"):
        phalanx.attack(model, x, y, attack="pgd", eps=0.2, gradients=False)
    found = phalanx.attack(model, x, y, attack="square", eps=0.2, queries=100, gradients=False)
    assert found.success.any()

    class Detached(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model(x).detach()

    flat = Model(Detached().eval(), InputSpec((0.0, 1.0)), 4)
    with pytest.raises(ModelError, match="without gradients"):
        phalanx.attack(flat, x, y, attack="pgd", eps=0.2)


class BrokenRoot(nn.Module):
    """Finite scores whose gradient is NaN: the root of 0 has none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zero = (x - x).flatten(1).sum(1, keepdim=True).sqrt()
        return torch.cat([1 + zero, 0 * zero], 1)


class Overflowing(nn.Module):
    """NaN where an input leaves its first value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.flatten(1).sum(1, keepdim=True)
        bad = torch.where(total > 20, total * torch.nan, total)
        return torch.cat([bad, 0 * total], 1)


def test_nan_is_an_error_and_never_a_success() -> None:
    x, y = torch.full((2, *SHAPE), 0.5), torch.zeros(2, dtype=torch.int64)
    for network_ in (BrokenRoot(), Overflowing()):
        model = Model(network_.eval(), InputSpec((0.0, 1.0)), 2)
        with pytest.raises(NonFiniteError, match="NaN"):
            phalanx.attack(model, x, y, attack="pgd", eps=0.3)
    poisoned = network()
    with torch.no_grad():
        poisoned.network[3].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        phalanx.attack(poisoned, x, y, attack="pgd", eps=0.3)


def test_what_cannot_be_attacked_is_refused() -> None:
    model = network()
    x, y = points(model, 3)
    good = {"attack": "pgd", "eps": 0.1}
    refused = [
        ((model, x, None), good, DataError),
        ((model, x * 255, y), good, DataError),
        ((model, x * torch.nan, y), good, DataError),
        ((model, x, y + 4), good, DataError),
        ((model, x, y[:2]), good, DataError),
        ((model, x, y.float()), good, DataError),
        ((model, x[:0], y[:0]), good, DataError),
        ((model, (255 * x).byte(), y), good, DataError),
        ((network().train(), x, y), good, ModelError),
        ((model, x, y), {**good, "attack": "pgdd"}, ParameterError),
        ((model, x, y), {**good, "step": -1.0}, ParameterError),
        ((model, x, y), {**good, "speed": 1.0}, ParameterError),
        ((model, x, y), {**good, "objective": "hope"}, ParameterError),
        ((model, x, y), {**good, "norm": "l0"}, ParameterError),
        ((model, x, y), {**good, "eps": -0.1}, ParameterError),
        ((model, x, y), {**good, "batch": 0}, ParameterError),
        ((model, x, y), {**good, "rows": 0}, ParameterError),
        ((model, x, y), {**good, "sigma": -1.0}, ParameterError),
        ((model, x, y), {"attack": "cw", "norm": "linf", "eps": 0.1}, ParameterError),
        (([model, network(1)], x, y), {**good, "reducer": "random-member:0,0"}, ParameterError),
        (([model, network(1)], x, y), {**good, "reducer": "random-member:a"}, ParameterError),
    ]
    for arguments, options, kind in refused:
        with pytest.raises(kind):
            phalanx.attack(*arguments, **options)
    with pytest.raises(ModelError, match="input range"):
        phalanx.attack(nn.Linear(3, 2).eval(), x, y, **good)


def test_an_objective_of_ones_own(tmp_path) -> None:
    file = tmp_path / "aims.py"
    file.write_text(
        "def away(scores, weights, y):\n"
        "    return -scores.mean(0).gather(1, y[:, None])[:, 0]\n\n"
        "def short(scores, weights, y):\n    return scores.sum()\n\n"
        "def broken(scores, weights, y):\n    raise ValueError('no')\n"
    )
    model = network()
    x, y = points(model)
    found = phalanx.attack(model, x, y, attack="pgd", eps=0.2, objective=f"{file}:away")
    assert found.success.any()
    for name in ("short", "broken"):
        with pytest.raises(ModelError, match=name):
            phalanx.attack(model, x, y, attack="pgd", eps=0.2, objective=f"{file}:{name}")
