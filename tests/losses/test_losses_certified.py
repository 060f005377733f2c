"""Certified training: what the losses bound, their formulas, and what a short training gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from losses_helpers import CLASSES, batch, convolutional, members_for, seeded
from losses_oracle import check
from torch import nn
from torch.nn.functional import cross_entropy

from phalanx.bounds.engine import Settings
from phalanx.bounds.front import compute, margins
from phalanx.bounds.region import ball
from phalanx.data.locate import load
from phalanx.errors import GraphError
from phalanx.graph.from_torch import LiveGraph
from phalanx.graph.run import run
from phalanx.losses import build_loss
from phalanx.losses._certified import Answer, watched
from phalanx.losses._interval_terms import interval_terms
from phalanx.specs.threat import Threat
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

NAMES = ("ibp", "crown-ibp", "crown", "wong-kolter")
EPS = 0.1
STEPS = 40


def relus(seed: int = 0, size: int = 36) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def seen(name, members, given, **options):
    """The loss's output, and question and answer of its one member."""
    loss = build_loss(name, {"sigma": 0.0, "eps": EPS, **options})
    kept = []

    def remember(self, question) -> Answer:
        kept.append((question, type(loss).answer(loss, question)))
        return kept[-1][1]

    own = type(loss)
    spy = type(own.__name__, (own,), {"answer": remember})
    return seeded(spy(sigma=0.0, eps=EPS, **options), members, given), *kept[-1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", NAMES)
def test_the_bounds_contain_what_the_member_answers_in_the_ball(name, norm):
    """In training, batch normalisation included: the margins on points of the ball."""
    given = batch(progress=float(STEPS))
    _, question, answer = seen(name, [convolutional().train()], given, norm=norm)
    move = torch.randn((200, *given.x.shape), generator=torch.Generator().manual_seed(0))
    if norm == "linf":
        move = EPS * move.sign()
    else:
        move = EPS * move / move.flatten(2).norm(dim=2).view(200, -1, 1, 1, 1)
    points = (given.x + move).clamp(0, 1)
    with torch.no_grad():
        logits = run(question.graph, points.flatten(0, 1)).reshape(200, len(given.y), CLASSES)
        found = torch.einsum("cbk,nbk->ncb", question.rows, logits)
    assert (found >= answer.lower - 1e-5).all()
    assert (answer.lower < found.amin(0)).any()


def test_the_live_graph_is_the_member_in_training_and_carries_its_gradients():
    member, x = convolutional().train(), batch().x
    member[5] = nn.Dropout(0.0)
    with watched(member) as statistics:
        logits = member(x)
    graph = LiveGraph(member, (1, 6, 6)).graph(statistics())
    again = run(graph, x)
    torch.testing.assert_close(again, logits)
    one, other = (
        torch.autograd.grad(value.square().sum(), list(member.parameters()), retain_graph=True)
        for value in (logits, again)
    )
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def worst_by_intervals(own, x, y, low, high):
    """Upper bounds of ``z_j - z_y`` of a net of one hidden layer."""
    w1, b1, w2, b2 = own
    middle, half = (low + high) / 2, (high - low) / 2
    centre, radius = middle @ w1.T + b1, half @ np.abs(w1).T
    lower, upper = np.maximum(centre - radius, 0), np.maximum(centre + radius, 0)
    rows = w2[None] - w2[y][:, None]
    shift = b2[None] - b2[y][:, None]
    return (np.maximum(rows, 0) * upper[:, None] + np.minimum(rows, 0) * lower[:, None]).sum(
        2
    ) + shift


def worst_by_duality(own, x, y, low, high):
    """Wong & Kolter's dual: ``z_j - z_y`` at most, with a chord and its parallel at every ReLU."""
    w1, b1, w2, b2 = own
    middle, half = (low + high) / 2, (high - low) / 2
    centre, radius = middle @ w1.T + b1, half @ np.abs(w1).T
    lower, upper = centre - radius, centre + radius
    slope = np.where(lower > 0, 1.0, np.where(upper < 0, 0.0, upper / (upper - lower)))
    bumps = np.where((lower < 0) & (upper > 0), -slope * lower, 0.0)
    rows = w2[None] - w2[y][:, None]
    back = (rows * slope[:, None]) @ w1
    shift = (rows * slope[:, None]) @ b1 + b2[None] - b2[y][:, None]
    inside = np.einsum("bcd,bd->bc", back, middle) + np.einsum("bcd,bd->bc", np.abs(back), half)
    return inside + shift + (np.maximum(rows, 0) * bumps[:, None]).sum(2)


def entropy(logits, y):
    rows = np.arange(len(y))
    most = logits.max(1, keepdims=True)
    return (np.log(np.exp(logits - most).sum(1)) + most[:, 0] - logits[rows, y]).mean()


@pytest.mark.parametrize(
    ("name", "worst", "kappa"),
    [("ibp", worst_by_intervals, 0.3), ("wong-kolter", worst_by_duality, 0.0)],
)
def test_value_and_slope_are_those_of_the_formula(name, worst, kappa):
    given, members = batch(12, progress=float(STEPS)), [relus()]
    x, y = given.x.flatten(1).double().numpy(), given.y.numpy()
    low, high = np.clip(x - EPS, 0, 1), np.clip(x + EPS, 0, 1)
    loss = build_loss(name, {"sigma": 0.0, "eps": EPS, "kappa": kappa})

    def formula(own):
        w1, b1, w2, b2 = own[0]
        clean = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
        robust = worst(own[0], x, y, low, high)
        return kappa * entropy(clean, y) + (1 - kappa) * entropy(robust, y)

    check(seeded(loss, members, given).loss, members, formula)


def test_crown_ibp_mixes_both_bounds():
    given, found = batch(progress=float(STEPS)), {}
    for beta in (0.0, 0.25, 1.0):
        members = [convolutional().train()]
        found[beta] = seen("crown-ibp", members, given, beta=beta)[2].lower
    torch.testing.assert_close(found[0.25], 0.75 * found[0.0] + 0.25 * found[1.0])
    assert not torch.allclose(found[0.0], found[1.0])


def test_linear_bounds_are_those_of_the_method():
    given, member = batch(progress=float(STEPS)), convolutional().eval()
    answer = seen("crown", [member], given)[2]
    region = ball(Threat("linf", EPS), given.x)
    graph = LiveGraph(member, (1, 6, 6)).graph()
    found = compute(graph, region, rows=margins(given.y, CLASSES)).lower
    own = nn.functional.one_hot(given.y, CLASSES).bool()
    others = answer.lower.T[~own].reshape(len(found), -1)
    torch.testing.assert_close(others, found, rtol=1e-4, atol=1e-5)
    assert (answer.lower.T[own] == 0).all()


def test_the_terms_of_shi_et_al_by_hand():
    given, member = batch(progress=5.0), relus()
    output, question, _ = seen("ibp", [member], given, regulariser=0.5)
    plain, _, _ = seen("ibp", [member], given)
    low, high = (side.flatten(1) for side in (question.region.lower, question.region.upper))
    weight, bias = member[1].weight, member[1].bias
    centre, radius = (low + high) / 2 @ weight.T + bias, (high - low) / 2 @ weight.abs().T
    lower, upper = centre - radius, centre + radius
    ratio = ((high - low) / 2).mean() / radius.mean()
    expected = max(0.0, 0.5 - ratio.item()) / 0.5
    spread = (centre - centre.mean()) ** 2
    for values, sign in ((centre, -1), (spread, 1)):
        on, off = values[lower > 0].sum(), sign * values[upper < 0].sum()
        if on > 0 and off > 0:
            expected += max(0.0, 0.5 - min(on / off, off / on).item()) / 0.5
    terms = sum(interval_terms(question.bounded(Settings(backward=False))))
    assert terms.item() == pytest.approx(expected, rel=1e-4)
    # Half of the ramp is behind, so half of the weight of 0.5 is left.
    assert (output.loss - plain.loss).item() == pytest.approx(0.25 * expected, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_radius_it_is_the_clean_loss(name):
    given, members = batch(progress=0.5), [convolutional().eval()]
    loss = build_loss(name, {"sigma": 0.0, "warmup_epochs": 1.0})
    clean = cross_entropy(members[0](given.x), given.y)
    output = seeded(loss, members, given)
    assert output.loss.item() == pytest.approx(clean.item(), rel=1e-6)
    assert output.metrics["eps"] == 0


def test_a_layer_without_a_bound_is_refused_by_name():
    class Sorted(nn.Module):
        def forward(self, x):
            return x.sort(1).values

    member = nn.Sequential(nn.Flatten(), Sorted(), nn.Linear(36, CLASSES))
    for name in NAMES:
        loss = build_loss(name, {"sigma": 0.0})
        with pytest.raises(GraphError, match="sort"):
            seeded(loss, [member], batch(progress=float(STEPS)))


def test_a_live_graph_keeps_no_module_alive():
    members = members_for(build_loss("ibp", {"sigma": 0.0}))
    graph = LiveGraph(members[0], (1, 6, 6))
    members.clear()
    with pytest.raises(GraphError, match="gone"):
        graph.graph()


@pytest.mark.slow
def test_ibp_training_certifies_digits_that_plain_training_does_not():
    fewer = ["epochs=6", "loss.warmup_epochs=0", "loss.ramp_epochs=3"]
    recipe = load_recipe("digits-ibp", fewer)
    plain = load_recipe("digits-ibp", ["epochs=2", "loss={name: gaussian, sigma: 0}"])
    data, rows = load("digits", split="test"), range(120)
    x, y = data.images(rows), data.labels(rows)
    shares = []
    for each in (recipe, plain):
        (model,) = train(each, workers=1)
        found = compute(model, Threat("linf", 0.05), x, method="interval", rows=margins(y, 10))
        shares.append((found.lower > 0).all(1).float().mean().item())
    assert shares[0] > 0.5
    assert shares[1] < 0.1
