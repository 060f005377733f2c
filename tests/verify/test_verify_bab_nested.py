"""Networks for parts of a box: the same functions, every rounding counted, no wrong answer."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from bab_nets import drawn, least
from torch import Tensor
from verify_nets import case, double

from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.verdicts import Verdict
from phalanx.verify.bab import narrow, nested
from phalanx.verify.bab.bounders import DenseBounder, dense_bounder
from phalanx.verify.bab.dense import Dense
from phalanx.verify.bab.narrow import narrowed
from phalanx.verify.bab.nested import NestedBounder
from phalanx.verify.bab.search import search
from phalanx.verify.bab.walk import Walk
from phalanx.verify.outcome import Clock


def whole(seed: int, widths: tuple[int, ...] = (12, 10, 8)) -> tuple[Graph, DenseBounder]:
    """A network with a shortcut, on ``[-1, 1]^2``."""
    graph = prepare(drawn(seed, widths, skip=True).to(torch.float64))
    bounder = dense_bounder(graph, double(-1, -1), double(1, 1))
    assert bounder is not None
    return graph, bounder


def part(seed: int) -> tuple[Tensor, Tensor]:
    """A small box within ``[-1, 1]^2``."""
    draw = torch.Generator().manual_seed(seed)
    centre = torch.rand(2, dtype=torch.float64, generator=draw) * 1.6 - 0.8
    half = torch.rand(2, dtype=torch.float64, generator=draw) * 0.15
    return centre - half, centre + half


def on_part(network: Dense, lower: Tensor, upper: Tensor) -> Dense:
    walk = Walk(network, lower[None], upper[None])
    return narrowed(network, [(low[0], high[0]) for low, high in walk.boxes])


def exact(network: Dense, x: list[Fraction]) -> list[tuple[Fraction, Fraction]]:
    """Outputs of the matrices as they are, in rational numbers, and what they may be off by."""
    values = [[(v, Fraction(0)) for v in x]]
    assert network.output is not None
    for of in [*(layer.map for layer in network.layers), network.output]:
        errors, bias_error = of.errors()
        found = []
        for i, bias in enumerate(of.bias.tolist()):
            total, off = Fraction(bias), Fraction(float(bias_error[i]))
            for s, weight in of.weights.items():
                for w, e, (v, d) in zip(
                    weight[i].tolist(), errors[s][i].tolist(), values[s], strict=True
                ):
                    total += Fraction(w) * v
                    off += Fraction(e) * (abs(v) + d) + abs(Fraction(w)) * d
            found.append((total, off))
        if of is network.output:
            return found
        values.append([(max(v, Fraction(0)), d) for v, d in found])
    raise RuntimeError("no output")


@pytest.mark.parametrize("seed", range(6))
def test_a_part_has_the_same_function_and_says_how_exactly(seed: int) -> None:
    _, bounder = whole(seed)
    lower, upper = part(seed)
    small = on_part(bounder.network, lower, upper)
    assert small.neurons < bounder.network.neurons
    draw = torch.Generator().manual_seed(seed)
    for _ in range(5):
        x = lower + (upper - lower) * torch.rand(2, dtype=torch.float64, generator=draw)
        at = [Fraction(v) for v in x.tolist()]
        pairs = zip(exact(bounder.network, at), exact(small, at), strict=True)
        for (true, own), (found, off) in pairs:
            assert abs(found - true) <= off + own
            assert off < Fraction(1, 10**9)


def test_what_is_left_out_of_the_errors_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: products without their roundings are further off than they say."""

    def silent(
        left: Tensor, off: Tensor, right: Tensor, right_off: Tensor
    ) -> tuple[Tensor, Tensor]:
        return left @ right * (1 + 1e-12), 0 * (left.abs() @ right.abs())

    monkeypatch.setattr(narrow, "_product", silent)
    with pytest.raises(AssertionError):
        test_a_part_has_the_same_function_and_says_how_exactly(0)


@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e-300, 1e150])
def test_products_against_rational_numbers(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)

    def numbers(*shape: int, size: float = 1.0) -> Tensor:
        found = torch.randn(*shape, dtype=torch.float64, generator=draw) * size
        return torch.where(torch.rand(shape, generator=draw) < 0.3, 0.0, found)

    left, right = numbers(4, 7), numbers(7, 3, size=scale)
    off, right_off = numbers(4, 7).abs() * 1e-14, numbers(7, 3, size=scale).abs() * 1e-13
    for known in (off, torch.zeros_like(off)):
        found, error = narrow._product(left * scale, known * scale, right, right_off)
        for sign in (-1, 0, 1):  # what the matrices stand for, as far off as they may be
            for i in range(4):
                for j in range(3):
                    true = sum(
                        (Fraction(float(a * scale)) + sign * Fraction(float(d * scale)))
                        * (Fraction(float(b)) + sign * Fraction(float(e)))
                        for a, d, b, e in zip(
                            left[i], known[i], right[:, j], right_off[:, j], strict=True
                        )
                    )
                    if not torch.isfinite(found[i, j] + error[i, j]):
                        continue
                    assert abs(Fraction(float(found[i, j])) - true) <= Fraction(float(error[i, j]))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_bounds_of_a_part_contain_its_values(kind: torch.dtype) -> None:
    for seed in range(4):
        graph, bounder = whole(seed)
        lower, upper = part(seed)
        rows = torch.eye(2).reshape(2, 1, 2).to(kind)
        offset = torch.zeros(2, 1, dtype=kind)
        small = on_part(bounder.network, lower, upper).to(kind)
        found = Walk(small, lower[None], upper[None]).least(rows, None, offset)
        wide = Walk(bounder.network.to(kind), lower[None], upper[None]).least(rows, None, offset)
        draw = torch.Generator().manual_seed(seed)
        points = lower + (upper - lower) * torch.rand(200, 2, dtype=torch.float64, generator=draw)
        values = run(graph, points)
        assert bool((found.lower.double() <= values.T).all())
        line = found.coefficients[:, 0].double() @ points.T + found.constant.double()
        assert bool((line <= values.T).all())
        # The same relaxation: nothing but roundings is lost, and some is won.
        assert bool((found.lower >= wide.lower - 1e-4).all())


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks for parts from the first box on."""
    monkeypatch.setattr(nested, "HEAVY", 0)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("seed", range(12))
def test_searches_with_parts_answer_what_patterns_say(seed: int) -> None:
    graph = drawn(seed, ((4, 3), (3, 2, 2))[seed % 2], skip=seed % 3 == 0)
    truth = least(graph, case([[1.0, -1.0]], [0.0]))
    for slack in (0.02, -0.02):
        own = case([[1.0, -1.0]], [slack - truth])
        found = search(graph, own, Clock(30.0))
        assert found.verdict is (Verdict.VERIFIED if slack > 0 else Verdict.FALSIFIED)


def asked(bounder: NestedBounder, lower: Tensor, upper: Tensor) -> Tensor:
    rows = torch.eye(2, dtype=torch.float64)[:, None].expand(2, len(lower), 2)
    return bounder.least(lower, upper, rows, None, torch.zeros(2, len(lower)).double()).lower


@pytest.mark.usefixtures("everywhere")
def test_boxes_go_to_the_smallest_network_around_them() -> None:
    _, root = whole(1, (20, 15, 10))
    bounder = NestedBounder(root, double(-1, -1), double(1, 1))
    lower, upper = double(0.5, 0.5), double(0.6, 0.6)
    within = (lower[None] + 0.02, upper[None] - 0.02)
    before = asked(bounder, lower[None], upper[None])
    inner = asked(bounder, *within)
    ready = [own.bounder for own in bounder._parts if own.bounder not in (None, root)]
    assert ready
    assert ready[0].network.neurons < root.network.neurons
    assert bool((inner >= before - 1e-5).all())
    alone = root.least(*within, torch.eye(2).double()[:, None], None, torch.zeros(2, 1).double())
    torch.testing.assert_close(inner, alone.lower, atol=0.02, rtol=0.0)  # single precision


@pytest.mark.usefixtures("everywhere")
def test_few_networks_are_kept_and_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "MOST_NETWORKS", 3)
    _, root = whole(2, (20, 15, 10))
    bounder = NestedBounder(root, double(-1, -1), double(1, 1))
    corners = torch.cartesian_prod(*[torch.linspace(-1, 0.9, 8, dtype=torch.float64)] * 2)
    for _ in range(3):
        found = asked(bounder, corners, corners + 0.1)
        assert len(bounder._parts) <= 4
    again = torch.cat([asked(bounder, c[None], c[None] + 0.1) for c in corners], 1)
    torch.testing.assert_close(found, again, atol=0.02, rtol=0.0)
