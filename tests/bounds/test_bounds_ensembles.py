"""Every reducer's bounds: they contain what the ensemble answers, and are not worse than apart."""

from __future__ import annotations

from functools import cache

import mpmath
import pytest
import torch
from bounds_checks import SLACK, enumerated
from bounds_nets import Net, around, points
from torch import Tensor, nn

from phalanx.bounds.front import compute, margins
from phalanx.bounds.options import Options
from phalanx.bounds.outward.ensembles import recheck_ensemble
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import methods
from phalanx.bounds.reductions import reductions
from phalanx.bounds.reductions._confidence import differences, least_confidence
from phalanx.bounds.reductions.vote import candidates
from phalanx.bounds.region import Region
from phalanx.ensembles.ensemble import Ensemble, reducers
from phalanx.errors import ParameterError
from phalanx.graph.from_torch import from_torch
from phalanx.graph.run import GraphNetwork
from phalanx.models.model import InputSpec, Model

REDUCERS = ["mean", "softmax", "weighted:1,2,0", "vote", "max-margin"]
CLASSES = 3


@cache
def fixed(seed: int, scale: float = 1.5, width: int = 8) -> Model:
    """A member as a graph, which takes no export."""
    return replace_by_graph(member(seed, scale, width))


def replace_by_graph(model: Model) -> Model:
    return Model(GraphNetwork(from_torch(model.network, (4,))), model.inputs, CLASSES)


def member(seed: int, scale: float = 1.5, width: int = 8) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, CLASSES))
    for parameter in layers.parameters():
        parameter.data *= scale
    return Model(layers.double().eval(), InputSpec((-9, 9), shape=(4,)), CLASSES)


def ensemble(reducer: str, seeds=(0, 1, 2), **options) -> Ensemble:
    return Ensemble([fixed(seed, **options) for seed in seeds], reducer).eval()


def region(eps: float, seed: int = 0) -> Region:
    net = Net(0, (4,)).dense(3)
    return around(net.builder.graph(net.last), eps, seed)


def scores(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x.flatten(0, 1)).reshape(*x.shape[:2], CLASSES)


def test_every_reducer_is_bounded():
    assert set(reductions.names()) == set(reducers.names())


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("reducer", REDUCERS)
def test_bounds_contain_every_score(reducer, method):
    options = Options(iterations=4)
    wanted = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1)).double()
    wanted[:3] = margins(torch.tensor([0]), CLASSES, torch.float64)[0, [0, 1, 1]]
    for seed, eps in enumerate((1e-6, 0.5)):
        net, inputs = ensemble(reducer), region(eps, seed)
        values = scores(net, points(inputs, 300))
        found = compute(net, inputs, method=method, options=options)
        assert (values >= found.lower - SLACK).all()
        assert (values <= found.upper + SLACK).all()
        combined = compute(net, inputs, method=method, rows=wanted, options=options).lower
        assert (values @ wanted.T >= combined - SLACK).all()


def apart(net: Ensemble, inputs: Region, method: str, rows: Tensor) -> Tensor:
    """The mean of the members' own bounds."""
    return torch.stack(
        [compute(each, inputs, method=method, rows=rows).lower for each in net.models]
    ).mean(0)


# Norms say nothing of what members have in common: a sum of networks is bounded by sums of them.
@pytest.mark.parametrize("method", sorted({*methods.names()} - {"op-norm", "eclipse"}))
def test_the_mean_is_at_least_as_tight_as_members_apart(method):
    rows = margins(torch.tensor([0, 1, 2]), CLASSES, torch.float64)
    gained = 0.0
    for seed in range(3):
        net, inputs = ensemble("mean"), region(0.3, seed)
        whole = compute(net, inputs, method=method, rows=rows).lower
        alone = apart(net, inputs, method, rows)
        assert (whole >= alone - SLACK).all()
        gained = max(gained, float((whole - alone).max()))
    assert (gained > 0.01) == (method != "interval")


def stacked(seeds):
    """The mean of networks of one hidden layer as one of them."""
    pairs = [(net.network[0], net.network[2]) for net in (member(s, width=3) for s in seeds)]
    first = {
        key: torch.cat([getattr(one, key).detach() for one, _ in pairs])
        for key in ("weight", "bias")
    }
    last = {
        "weight": torch.cat([two.weight.detach() for _, two in pairs], 1) / len(pairs),
        "bias": sum(two.bias.detach() for _, two in pairs) / len(pairs),
    }
    built = Net(0, (4,)).add("linear", tensors=first).add("relu").add("linear", tensors=last)
    return built.builder.graph(built.last)


def test_the_mean_is_exact_where_no_sign_is_open_and_sound_elsewhere():
    net = ensemble("mean", seeds=(3, 4), width=3)
    for eps in (1e-3, 0.3):
        inputs = region(eps)
        exact = enumerated(stacked((3, 4)), inputs)
        found = compute(net, inputs).lower
        assert (found <= exact + 1e-7).all()
        torch.testing.assert_close(compute(stacked((3, 4)), inputs).lower, found)
        if eps < 0.01:
            torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reducer", ["softmax", "weighted:1,2,1", "vote", "max-margin"])
def test_what_every_member_is_sure_of_the_ensemble_is_sure_of(reducer):
    models = [member(0) for _ in range(3)]
    random = torch.Generator().manual_seed(0)
    for parameter in (p for model in models for p in model.parameters()):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=random).double()
    models = [replace_by_graph(model) for model in models]
    net, certified = Ensemble(models, reducer).eval(), 0
    for seed in range(6):
        inputs = region(0.02, seed)
        labels = net(inputs.centre).argmax(1)
        rows = margins(labels, CLASSES, torch.float64)
        sure = torch.stack(
            [(compute(each, inputs, rows=rows).lower > 0).all(1) for each in net.models]
        ).all(0)
        found = (compute(net, inputs, rows=rows).lower > 0).all(1)
        assert (found | ~sure).all()
        certified += int(sure.sum())
    assert certified > 3


def test_a_majority_or_a_leader_is_enough():
    """One member that is against the others, or hardly cares, does not matter."""
    inputs = region(1e-4)
    label = member(0)(inputs.centre).argmax(1)
    rows = margins(label, CLASSES, torch.float64)
    turned = member(0)
    turned.network[2].weight.data *= -0.3
    turned.network[2].bias.data *= -0.3
    for reducer, models in (
        ("vote", [member(0), turned, member(0)]),
        ("max-margin", [turned, member(0, scale=2.5)]),
    ):
        if reducer == "max-margin":
            rows = margins(models[1](inputs.centre).argmax(1), CLASSES, torch.float64)
        found = compute(Ensemble(models, reducer).eval(), inputs, rows=rows).lower
        assert (found > 0).all(), reducer
    assert not (compute(turned, inputs, rows=rows).lower > 0).any()


def test_confidences_from_margins_by_sampling():
    random = torch.Generator().manual_seed(0)
    low = 3 * torch.randn(1, 4, generator=random).double()
    high = low + torch.rand(1, 4, generator=random).double()
    share = torch.rand(4000, 4, generator=random).double()
    share[:1000] = share[:1000].round()
    p = (low + share * (high - low)).softmax(1)
    bounds = (low.T - high).unsqueeze(2)
    bounds[range(4), range(4)] = 0
    found = differences(bounds)
    for c in range(4):
        for j in range(4):
            assert (p[:, c] - p[:, j]).min() >= found[c, j] - SLACK
    rows = torch.randn(5, 1, 4, generator=random).double()
    assert ((p @ rows[:, 0].T).amin(0) >= least_confidence(bounds, rows)[:, 0] - SLACK).all()
    unknown = torch.full((2, 2, 1), -torch.inf)
    unknown[range(2), range(2)] = 0
    assert differences(unknown)[0, 1] == -1


def test_a_reducer_without_a_reduction_is_refused():
    name = "planted-median"
    reducers.register(name)(lambda: lambda logits: logits.median(0).values)
    try:
        with pytest.raises(ParameterError, match="bounded reducer"):
            compute(ensemble(name), region(0.1))
    finally:
        reducers.unregister(name)


def exactly(net: Ensemble, x: Tensor) -> list[mpmath.mpf]:
    """Scores at one input, in fifty digits."""
    members = [_logits(model, x) for model in net.models]
    parts = [[mpmath.exp(z) / sum(map(mpmath.exp, zs)) for z in zs] for zs in members]
    name, options = net.reducer_name, net.reducer_options
    if name == "vote":
        tops = [zs.index(max(zs)) for zs in members]
        return [mpmath.mpf(tops.count(k)) for k in range(CLASSES)]
    if name == "max-margin":
        gaps = [sorted(part)[-1] - sorted(part)[-2] for part in parts]
        return parts[gaps.index(max(gaps))]
    weights = options.get("weights") or [1] * len(parts)
    total = sum(map(mpmath.mpf, weights))
    return [sum(w * p[k] for w, p in zip(weights, parts, strict=True)) / total for k in range(3)]


def _logits(model: Model, x: Tensor) -> list[mpmath.mpf]:
    values = [mpmath.mpf(value) for value in x.tolist()]
    for node in model.network.graph:
        if node.op == "relu":
            values = [max(value, mpmath.mpf(0)) for value in values]
        elif node.op == "linear":
            rows = zip(node.tensors["weight"].tolist(), node.tensors["bias"].tolist(), strict=True)
            values = [
                sum(mpmath.mpf(w) * v for w, v in zip(row, values, strict=True)) + bias
                for row, bias in rows
            ]
    return values


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown"])
@pytest.mark.parametrize("reducer", REDUCERS[1:])
def test_members_checked_again_contain_every_score_in_fifty_digits(reducer, method):
    wanted = margins(torch.tensor([0]), CLASSES, torch.float64)[0]
    wanted = torch.cat([wanted, torch.randn(2, CLASSES).double()])
    with mpmath.workdps(50):
        for seed, eps in enumerate((0.0, 0.3)):
            net, inputs = ensemble(reducer), region(eps, seed)
            inputs = Region(inputs.lower[:1], inputs.upper[:1], inputs.centre[:1])
            found = compute(net, inputs, method=method, rows=wanted)
            graphs = [prepare(m.network.graph, exact=True) for m in net.models]
            asked = net.reducer_name, net.reducer_options
            again = recheck_ensemble(graphs, inputs, wanted, asked, found.traces)
            assert (again >= found.lower[0] - 1e-6).all()
            for x in points(inputs, 12)[:, 0]:
                values = exactly(net, x)
                for row, bound in zip(wanted.tolist(), again.tolist(), strict=True):
                    score = sum(w * v for w, v in zip(row, values, strict=True))
                    assert score >= bound


def test_a_vote_that_single_precision_alone_decides_is_denied():
    """``relu(relu(x + B) - B)`` is zero there, whatever x is within half a unit of B."""
    large = torch.full((1,), 1.5 * 2.0**25)
    net = Net(0, (1,))
    for shift in (large, -large):
        net.add("linear", tensors={"weight": torch.ones(1, 1), "bias": shift}).add("relu")
    last = {"weight": torch.tensor([[-1.0], [0.0]]), "bias": torch.tensor([0.0, -0.25])}
    net.add("linear", tensors=last)
    graph = net.builder.graph(net.last)
    member = Model(GraphNetwork(graph), InputSpec((-9, 9), shape=(1,)), 2)
    vote = Ensemble([member, member, member], "vote").eval()
    inputs = Region(*(torch.tensor([[value]]) for value in (-1.5, 1.5, 0.0)))
    rows = torch.tensor([[1.0, -1.0]])
    found = compute(vote, inputs, method="interval", rows=rows)
    assert float(found.lower) > 0, "single precision sees a vote"
    exact = [prepare(graph.to(torch.float64), exact=True)] * 3
    wide = Region(*(side.double() for side in (inputs.lower, inputs.upper, inputs.centre)))
    assert float(recheck_ensemble(exact, wide, rows, ("vote", {}), found.traces)) <= 0


def test_a_member_of_which_roundings_leave_no_class_may_vote_for_any() -> None:
    """Every class behind another: that cannot be, so nothing is known."""
    margins = torch.tensor([[0.0, 1e-9], [1e-9, 0.0]]).reshape(1, 2, 2, 1)
    assert candidates(margins).all()
