"""Norms against singular values, constants against gradients, radii against attacks."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from bounds_nets import CASES, Net, around, network, points
from torch import Tensor, nn

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.front import compute, margins
from phalanx.bounds.lipschitz import recursive
from phalanx.bounds.lipschitz.eclipse import chain_constant, eclipse
from phalanx.bounds.lipschitz.local import KINDS, constant, jacobian, steepest
from phalanx.bounds.lipschitz.norms import convolution_norm, spectral_norm
from phalanx.bounds.lipschitz.product import constants, layer_norm, rates
from phalanx.bounds.lipschitz.radius import certified_radius, lipschitz_radius
from phalanx.bounds.lipschitz.recursive import products
from phalanx.bounds.lipschitz.slopes import SLOPES
from phalanx.bounds.ops import Affine, Box, rows
from phalanx.bounds.options import Options
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import Region
from phalanx.errors import GraphError, ParameterError
from phalanx.graph.ir import Graph, Node
from phalanx.graph.operators import OPERATORS
from phalanx.graph.run import run
from phalanx.models.model import InputSpec, Model

INF = float("inf")
RANDOM = torch.Generator().manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 7), (20, 5), (1, 1), (40, 40)])
@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e120])
def test_a_norm_is_the_largest_singular_value_and_never_below(shape, scale):
    matrix = scale * draw(*shape)
    exact, found = torch.linalg.matrix_norm(matrix, ord=2), spectral_norm(matrix)
    assert exact <= found * (1 + 1e-14)
    assert found <= exact * 1.001


def test_equal_singular_values_zero_and_complex_matrices():
    assert spectral_norm(torch.zeros(3, 2)) == 0
    assert 1 <= spectral_norm(torch.eye(30).double()) <= 1.0005
    matrix = torch.complex(draw(4, 6), draw(4, 6))
    exact = torch.linalg.matrix_norm(matrix, ord=2)
    assert exact <= spectral_norm(matrix) <= 1.001 * exact


def matrix_of(node: Node) -> Tensor:
    """The matrix of an affine operator of one variable."""
    row, size = rows.get(node.op), torch.Size(node.attributes["input"])
    assert isinstance(row, Affine)
    unit = torch.eye(size.numel(), dtype=torch.float64).reshape(-1, *size)
    return row.linear(node, unit).flatten(1).T


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        *itertools.product([(1, 1), (2, 1), (2, 3)], [(0, 0), (1, 2)], [(1, 1)], [1]),
        ((1, 1), (2, 1), (2, 1), 1),
        ((2, 2), (1, 1), (1, 2), 2),
    ],
)
@pytest.mark.parametrize("op", ["conv", "conv-transpose"])
def test_a_convolution_with_zero_padding_is_never_above_its_bound(
    op, stride, padding, dilation, groups
):
    if op == "conv-transpose" and padding == (1, 2) and stride == (2, 3):
        padding = (1, 1)
    net = Net(sum(stride) + groups, (2 * groups, 7, 6))
    shape = (4, 2, 3, 3) if op == "conv" else (2 * groups, 2, 3, 3)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if op == "conv-transpose":
        options["output_padding"] = (0, 0)
    net.add(op, tensors={"weight": net.draw(*shape)}, **options)
    (_, node) = prepare(net.builder.graph(net.last))
    exact = torch.linalg.matrix_norm(matrix_of(node), ord=2).item()
    found = layer_norm(node)
    assert exact <= found <= 1.35 * exact  # what the edges leave out of the circle


def test_on_a_large_image_the_bound_is_close_and_the_circle_of_its_own_size_is_below():
    """Zero padding cannot be taken for circular padding: wrapped windows are others."""
    weight = draw(1, 1, 3)
    options = {"stride": [1], "padding": [1], "dilation": [1]}
    big = torch.zeros(200, 200, dtype=torch.float64)
    for i, tap in itertools.product(range(200), range(3)):
        if 0 <= i + tap - 1 < 200:
            big[i, i + tap - 1] = weight[0, 0, tap]
    exact = torch.linalg.matrix_norm(big, ord=2).item()
    assert exact <= convolution_norm(weight, [200], **options) <= 1.001 * exact


def supported(graph: Graph) -> bool:
    try:
        constants(prepare(graph))
    except GraphError:
        return False
    return True


GLOBAL = [case for case in CASES if supported(network(case))]


def test_the_usual_operators_have_constants():
    named = {"relu", "sigmoid", "tanh", "gelu", "conv", "max-pool", "add", "concat", "take", "pad"}
    assert named <= set(GLOBAL)
    for case in ("exp", "square", "matmul"):
        with pytest.raises(GraphError, match="no Lipschitz constant"):
            constants(prepare(network(case)))


def jacobians(graph: Graph, x: Tensor) -> Tensor:
    """``(N, outputs, inputs)`` at points ``(N, *shape)``."""

    def one(point: Tensor) -> Tensor:
        return run(graph, point.unsqueeze(0))[0]

    return torch.stack([torch.autograd.functional.jacobian(one, p).flatten(1) for p in x])


@pytest.mark.parametrize(
    ("norm", "order", "dual"), [("l2", 2, 2), ("linf", INF, 1), ("l1", 1, INF)]
)
@pytest.mark.parametrize("case", GLOBAL)
def test_a_constant_is_above_every_gradient(case, norm, order, dual):
    graph = network(case, 3)
    prepared = prepare(graph)
    slopes = jacobians(graph, 2 * draw(40, *graph.input.shape))
    steepest = torch.linalg.matrix_norm(slopes, ord=order).max().item()
    found = constants(prepared, norm)[prepared.output]
    assert steepest <= found
    labels = torch.arange(3)
    wanted = margins(labels, 3, torch.float64)
    apart = rates(prepared, wanted.transpose(0, 1), norm).T
    length = torch.linalg.vector_norm(wanted, ord=dual, dim=2)
    assert (apart <= length * found * 1.001).all()
    found_slopes = torch.einsum("bsc,ncx->nbsx", wanted, slopes)
    assert (torch.linalg.vector_norm(found_slopes, ord=dual, dim=3).amax(0) <= apart).all()


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1), ("l1", INF)])
def test_the_rates_of_one_layer_are_exact(norm, dual):
    net = Net(4, (6,)).dense(3)
    graph = prepare(net.builder.graph(net.last))
    rows = draw(5, 1, 3)
    exact = torch.linalg.vector_norm(rows @ graph[graph.output].tensors["weight"], ord=dual, dim=2)
    found = rates(graph, rows, norm)
    assert (found >= exact).all()
    assert (found <= exact * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_slopes_contain_difference_quotients(name):
    node = Node("f", name, ("x",), (), {"slope": -0.4, "low": -0.5, "high": 0.7})
    for low, high in ((-3.0, 2.0), (0.1, 4.0), (-2.0, -0.2), (-0.1, 0.1), (1.0, 1.8)):
        ends = Box(*(torch.tensor([v], dtype=torch.float64) for v in (low, high)))
        x = torch.linspace(low, high, 400, dtype=torch.float64)
        y = OPERATORS[name](node, x)
        quotients = (y[1:] - y[:-1]) / (x[1:] - x[:-1])
        slopes = SLOPES[name](node, ends)
        assert quotients.min() >= slopes.lower - 1e-6
        assert quotients.max() <= slopes.upper + 1e-6


@pytest.mark.parametrize("curve", ["relu", "tanh"])
def test_eclipse_is_above_every_gradient_and_not_above_the_product(curve):
    for seed in range(4):
        net = Net(seed, (6,)).dense(12).add(curve).dense(9).add(curve).dense(7).add(curve).dense(3)
        graph = net.builder.graph(net.last)
        prepared = prepare(graph)
        steepest = torch.linalg.matrix_norm(jacobians(graph, draw(60, 6)), ord=2).max().item()
        product = constants(prepared)[prepared.output]
        assert steepest <= eclipse(prepared) <= product * (1 + 1e-4)
        assert eclipse(prepared) < 0.95 * product


def test_eclipse_of_one_layer_and_of_zero():
    weight = draw(3, 5)
    exact = torch.linalg.matrix_norm(weight, ord=2).item()
    assert exact <= chain_constant([weight]) <= exact * 1.001
    assert chain_constant([torch.zeros(4, 5), draw(2, 4)]) < 1e-6
    with pytest.raises(GraphError, match="fully connected"):
        eclipse(prepare(network("conv")))


def closed_form(layers: list[list[int]]) -> Fraction:
    """The square of `chain_constant` for diagonal weights, in rational numbers."""
    x = [Fraction(1)] * len(layers[0])
    for layer in layers:
        m = [w * w / one for w, one in zip(layer, x, strict=True)]
        scale = 2 / max(m)
        x = [scale - (scale / 2) ** 2 * own for own in m]
    return max(m)


@pytest.mark.parametrize("seed", range(8))
def test_eclipse_is_not_below_its_closed_form_by_roundings(seed):
    draws = random.Random(seed)
    layers = [[draws.randint(1, 64) for _ in range(3)] for _ in range(2 + seed % 4)]
    found = chain_constant([torch.diag(torch.tensor(layer).double()) for layer in layers])
    assert 1 <= Fraction(found) ** 2 / closed_form(layers) < 1 + 1e-9


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
def test_the_method_eclipse_is_above_no_output_and_below_no_operator_norm(norm):
    for seed in range(4):
        net = Net(seed, (6,)).dense(12).add("relu").dense(9).add("tanh").dense(3)
        graph = net.builder.graph(net.last)
        x = draw(2, 6)
        region = Region(x - 0.3, x + 0.3, x, norm, 0.0 if norm == "linf" else 0.3)
        rows = margins(torch.tensor([0, 2]), 3, torch.float64)
        found = compute(graph, region, method="eclipse", rows=rows).lower
        inside = points(region, 200, 0)
        values = torch.einsum("bsc,pbc->pbs", rows, torch.stack([run(graph, p) for p in inside]))
        assert (values >= found).all()
        if norm == "l2":
            assert (found > compute(graph, region, method="op-norm", rows=rows).lower).all()


LOCAL = ["relu", "leaky-relu falling", "sigmoid", "gelu", "exp", "square", "conv", "add", "sub"]


def local(graph: Graph, region, kind: str) -> Box:
    """Bounds of the three outputs' derivatives."""
    engine = Engine(prepare(graph), region, Settings())
    engine.bound_all()
    unit = torch.eye(3, dtype=torch.float64).unsqueeze(1).expand(3, len(region), 3)
    return jacobian(engine, unit, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [1e-4, 0.4])
@pytest.mark.parametrize("case", [*LOCAL, "concat", "take", "avg-pool"])
def test_local_jacobians_contain_every_gradient(case, eps, kind):
    graph = network(case, 2)
    region = around(graph, eps, 2)
    found = local(graph, region, kind)
    for x in points(region, 20):
        slopes = jacobians(graph, x).transpose(0, 1).reshape(found.lower.shape)
        assert (slopes >= found.lower - 1e-9).all()
        assert (slopes <= found.upper + 1e-9).all()


@pytest.mark.parametrize("case", [*LOCAL, "concat", "take", "avg-pool", "abs", "tanh"])
def test_several_layers_at_once_are_never_looser(case):
    gained = 0.0
    for seed, eps in enumerate((1e-3, 0.1, 0.5)):
        graph = network(case, seed)
        region = around(graph, eps, seed)
        plain, better = (local(graph, region, kind) for kind in KINDS)
        slack = 1e-12 * (1 + steepest(plain))
        assert (better.lower >= plain.lower - slack).all()
        assert (better.upper <= plain.upper + slack).all()
        gained += float((plain.upper - plain.lower - better.upper + better.lower).sum())
    # Of those left out no sign is open, or one layer is all there is.
    assert gained > 1e-3 or case in ("take", "avg-pool")


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_constants_are_above_sampled_norms_and_ordered(norm):
    net = Net(3, (6,)).dense(12, 2.0).add("relu").dense(9, 2.0).add("relu").dense(7).add("relu")
    graph = net.graph()
    region = around(graph, 0.6, 3, batch=1)
    engine = Engine(prepare(graph), region, Settings())
    engine.bound_all()
    unit = torch.eye(3, dtype=torch.float64).unsqueeze(1)
    plain, better = (constant(engine, unit, norm, kind)[:, 0] for kind in KINDS)
    seen = jacobians(graph, points(region, 300)[:, 0])
    order = {"l2": 2.0, "linf": 1.0, "l1": float("inf")}[norm]
    steepest_seen = torch.linalg.vector_norm(seen, ord=order, dim=2).amax(0)
    assert (steepest_seen <= better * (1 + 1e-12)).all()
    assert (better < 0.99 * plain).all()


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.4, 1.3), (0.2, 0.2), (-2.0, -1.0)])
def test_lines_of_products_are_on_their_side(ends):
    y = torch.linspace(-1.5, 2.5, 41, dtype=torch.float64).reshape(-1, 1, 1)
    slopes = Box(*(torch.full((1, 1), end, dtype=torch.float64) for end in ends))
    for low, high in ((-1.5, 2.5), (-0.1, 2.0), (0.0, 1.0), (-1.0, 0.0), (0.5, 0.5)):
        box = Box(*(torch.full((1, 1, 1), end, dtype=torch.float64) for end in (low, high)))
        lines = products(slopes, box)
        inside = y[(y >= low) & (y <= high)].reshape(-1, 1, 1)
        for share in (0.0, 0.3, 1.0):
            value = (ends[0] + share * (ends[1] - ends[0])) * inside
            assert (lines.low_slope * inside + lines.low <= value + 1e-12).all()
            assert (lines.high_slope * inside + lines.high >= value - 1e-12).all()
        ends_seen = torch.stack([end * side for end in ends for side in box])
        for side in box:  # at its ends the chord is the constant of the paper, or inside of it
            assert (lines.high_slope * side + lines.high <= ends_seen.amax() + 1e-12).all()
            assert (lines.low_slope * side + lines.low >= ends_seen.amin() - 1e-12).all()


def test_products_planted_too_low_are_caught(monkeypatch):
    def planted(slopes, y):
        found = products(slopes, y)
        return replace(found, high=0.5 * found.high)

    monkeypatch.setattr(recursive, "products", planted)
    caught = 0
    for seed in range(6):
        net = Net(seed, (2,)).dense(4, 2.0).add("relu").dense(4, 2.0).add("relu").dense(3)
        graph = net.builder.graph(net.last)
        region = around(graph, 0.6, seed)
        found = local(graph, region, "recurjac")
        for x in points(region, 60):
            slopes = jacobians(graph, x).transpose(0, 1).reshape(found.lower.shape)
            caught += int((slopes > found.upper + 1e-9).sum())
    assert caught > 0


def test_the_option_and_the_names_say_the_same():
    graph = network("relu", 1)
    region = around(graph, 0.4, 1)
    for kind in KINDS:
        named = compute(graph, region, method=kind).lower
        chosen = compute(graph, region, method="lipschitz", options=Options(jacobians=kind)).lower
        assert torch.equal(named, chosen)
    with pytest.raises(ParameterError, match="kind"):
        local(graph, region, "both")


def test_in_a_small_ball_slopes_beat_intervals():
    graph = network("sigmoid", 1)
    region = around(graph, 0.05, 1)
    by_slopes, by_boxes = (
        compute(graph, region, method=m).lower for m in ("lipschitz", "interval")
    )
    assert (by_slopes >= by_boxes - 1e-12).all()
    assert by_slopes.mean() > by_boxes.mean() + 1e-3


def model(*layers: nn.Module) -> Model:
    return Model(nn.Sequential(*layers).eval(), InputSpec(shape=(1, 6, 6)), 3)


def small(kind: str) -> Model:
    torch.manual_seed(3)
    head = (
        [nn.Flatten()] if kind == "dense" else [nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Flatten()]
    )
    size = 36 if kind == "dense" else 27
    return model(
        *head, nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    )


@pytest.mark.parametrize(
    ("kind", "by", "norm"),
    [
        ("dense", "product", "l2"), ("dense", "eclipse", "l2"), ("dense", "local", "l2"),
        ("conv", "product", "l2"), ("conv", "product", "linf"), ("conv", "product", "l1"),
        ("conv", "local", "linf"), ("conv", "local", "l1"),
        ("dense", "recurjac", "l2"), ("conv", "recurjac", "linf"),
    ],
)  # fmt: skip
def test_nothing_inside_a_radius_changes_the_label(kind, by, norm):
    net = small(kind)
    x = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = net(x).argmax(1)
    radii = lipschitz_radius(net, x, labels, by=by, norm=norm)
    assert (radii > 0).all()
    gaps = margins(labels, 3)
    for sign in range(30):
        move = torch.randn(x.shape, generator=torch.Generator().manual_seed(sign))
        if sign < 10:  # towards another class
            moved = x.clone().requires_grad_(True)
            worst = (net(moved).unsqueeze(1) * gaps).sum(2).amin(1).sum()
            move = -torch.autograd.grad(worst, moved)[0]
        if norm == "linf":
            move = move.sign()
        size = move.flatten(1).norm(dim=1, p={"l2": 2, "l1": 1, "linf": float("inf")}[norm])
        step = (0.999 * radii / size).float().view(-1, 1, 1, 1)
        assert (net(x + step * move).argmax(1) == labels).all()
    wrong = lipschitz_radius(net, x, (labels + 1) % 3, by=by, norm=norm)
    assert (wrong == 0).all()


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("by", ["product", "eclipse", "local", "recurjac"])
def test_the_radius_of_the_identity_is_the_distance_of_its_boundary(by, scale):
    """Both scores move: their difference falls by the square root of two times the step."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = scale * torch.eye(2)
    net = Model(nn.Sequential(layer).eval(), InputSpec(shape=(2,)), 2)
    x = torch.tensor([[0.875, 0.25], [0.5, 0.75]])
    radii = lipschitz_radius(net, x, torch.tensor([0, 1]), by=by, largest=1.0)
    exact = torch.tensor([0.625, 0.25], dtype=torch.float64) / 2**0.5
    assert bool((radii <= exact).all())
    assert bool((radii >= 0.7 * exact).all())


def test_tighter_constants_give_larger_radii():
    net = small("dense")
    x = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = net(x).argmax(1)
    product, local, better = (
        lipschitz_radius(net, x, labels, by=by) for by in ("product", "local", "recurjac")
    )
    assert (local > product).all()
    assert (better >= local * (1 - 1e-12)).all()
    assert (better > local).any()


def test_a_radius_of_nan_or_of_another_norm_is_none():
    nan = float("nan")
    gaps = torch.tensor([[1.0, nan], [1.0, -1.0], [nan, nan]])
    assert certified_radius(gaps, torch.ones(2)).tolist() == [0.0, 0.0, 0.0]
    assert certified_radius(torch.ones(1, 2), torch.tensor([nan, 1.0])).item() == 0
    net, x = small("dense"), torch.rand(1, 1, 6, 6)
    with pytest.raises(ParameterError, match="l2 norm"):
        lipschitz_radius(net, x, torch.tensor([0]), by="eclipse", norm="linf")
    with pytest.raises(ParameterError, match="largest"):
        lipschitz_radius(net, x, torch.tensor([0]), by="local", largest=nan)
