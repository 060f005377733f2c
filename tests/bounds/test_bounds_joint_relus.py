"""ReLUs of sums over boxes and ReLUs taken together: cuts, hulls, and what they gain."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from bounds_checks import contains, enumerated, outputs
from bounds_nets import Net, around, network, points
from scipy.optimize import linprog

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.front import compute
from phalanx.bounds.options import Options
from phalanx.bounds.outward.octahedra import corners, directions
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.planes import GroupPlanes, SumPlanes
from phalanx.bounds.prepare import prepare
from phalanx.bounds.programs.groups import Sides, hull, together
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.strengthened import strongest, sums
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.graph.run import execute


def envelope(w: np.ndarray, b: float, low: np.ndarray, high: np.ndarray, x: np.ndarray) -> float:
    """The least concave function above ``relu(w x + b)`` on a box, at x.

    Of a convex function it is the best mean over the box's corners.
    """
    ends = np.array(list(itertools.product(*zip(low, high, strict=True))))
    values = np.maximum(ends @ w + b, 0)
    solved = linprog(
        -values, A_eq=np.vstack([ends.T, np.ones(len(ends))]), b_eq=np.append(x, 1.0), bounds=(0, 1)
    )
    assert solved.status == 0
    return float(-solved.fun)


def test_the_strongest_cut_is_the_hull() -> None:
    random = np.random.default_rng(0)
    met = 0
    for _ in range(60):
        w, b = random.standard_normal((2, 4)), 0.3 * random.standard_normal(2)
        low = random.standard_normal(4)
        high = low + random.random(4) * (random.random(4) > 0.1)  # some are points
        x = low + random.random(4) * (high - low)
        sides = torch.from_numpy(low), torch.from_numpy(high)
        found = strongest(torch.from_numpy(w), torch.from_numpy(b), sides, torch.from_numpy(x))
        slope, constant, there = (part.numpy() for part in found)
        for index in np.flatnonzero(there):
            best = envelope(w[index], b[index], low, high, x)
            assert slope[index] @ x + constant[index] == pytest.approx(best, abs=1e-9)
            met += 1
            for share in random.random((50, 4)).round(1):
                at = low + share * (high - low)
                below = max(w[index] @ at + b[index], 0)
                assert slope[index] @ at + constant[index] >= below - 1e-12
    assert met > 20


def test_sums_go_back_to_the_last_curve() -> None:
    net = Net(0, (3,)).dense(4).add("relu")
    net.add("reshape", shape=(2, 2)).add("reshape", shape=(4,)).dense(3)
    net.add("scale", tensors={"weight": torch.tensor([2.0, 1.0, 3.0]).double()}).add("relu")
    graph = prepare(net.graph())
    region = around(graph, 0.3)
    engine = Engine(graph, region, Settings())
    engine.bound_all()
    first, second = (node for node in graph if node.op == "relu")
    found = sums(engine, Matrices(), second.inputs[0])
    assert found is not None
    assert found.source == first.name
    values = execute(graph, region.centre, lambda node: node, keep=True)
    image = found.weights @ values[first.name][0].numpy() + found.shift
    np.testing.assert_allclose(image, values[second.inputs[0]][0].numpy(), atol=1e-12)
    assert sums(engine, Matrices(), first.name) is None


def test_octahedra_have_the_corners_of_their_parts() -> None:
    assert len(directions(3)) == 13
    # z1 in [-1, 1], z2 in [-1, 1], z1 + z2 <= 1: the square without a corner, and the axes' ends.
    low, high = np.array([-1.0, -9.0, -1.0, -9.0]), np.array([1.0, 9.0, 1.0, 1.0])
    found = {tuple(np.round(point, 9) + 0.0) for point in corners(low, high, 2)}
    expected = {(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, 0), (1, -1)}
    assert found == {tuple(map(float, point)) for point in expected}


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**28])
def test_the_corners_of_an_octahedron_are_those_of_its_image(scale: float) -> None:
    """What is computed of it scales exactly; so must what counts as a corner."""
    low, high = octahedron(np.random.default_rng(5), 3)
    found, image = corners(low, high, 3), corners(scale * low, scale * high, 3) / scale
    assert max(np.abs(image - corner).max(1).min() for corner in found) < 1e-9


def octahedron(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Around random points with all signs."""
    points = random.standard_normal((30, count)) @ random.standard_normal((count, count))
    image = points @ directions(count).T
    return image.min(0) - 0.1, image.max(0) + 0.1


@pytest.mark.parametrize("count", [2, 3])
def test_hulls_contain_all_their_points_and_touch_their_corners(count: int) -> None:
    random = np.random.default_rng(count)
    for scale in (1.0, 1.0, 1e-7, 3e8):
        low, high = (scale * side for side in octahedron(random, count))
        found = hull(low, high, count)
        assert found is not None
        inner = scale * random.uniform(-3, 3, (4000, count))
        image = inner @ directions(count).T
        inner = inner[((image >= low) & (image <= high)).all(1)]
        points = np.concatenate([inner, corners(low, high, count)])
        reach = points @ found.arguments.T + np.maximum(points, 0) @ found.answers.T
        size = 1 + np.abs(points).max()
        assert (reach <= found.most + 1e-12 * size).all()
        assert (found.most - reach.max(0) < 1e-7 * size).all()


def test_a_hull_is_the_least_set_of_its_kind() -> None:
    """Largest values of random functions over its sides are met at corners."""
    random = np.random.default_rng(0)
    low, high = octahedron(random, 2)
    found = hull(low, high, 2)
    assert found is not None
    ways = directions(2)
    zeros = np.zeros_like(ways)
    above = np.vstack(
        [
            np.hstack([found.arguments, found.answers]),
            np.hstack([ways, zeros]),
            np.hstack([-ways, zeros]),
        ]
    )
    most = np.concatenate([found.most, high, -low])
    points = corners(low, high, 2)
    graph = np.hstack([points, np.maximum(points, 0)])
    for cost in random.standard_normal((20, 4)):
        solved = linprog(-cost, A_ub=above, b_ub=most, bounds=(None, None))
        assert solved.status == 0
        assert -solved.fun == pytest.approx((graph @ cost).max(), rel=1e-6, abs=1e-6)


def test_what_is_flat_has_no_hull() -> None:
    thin = np.array([-1.0, 0.0, -1.0, -2.0]), np.array([1.0, 0.0, 1.0, 2.0])  # z1 = z2
    assert hull(*thin, 2) is None
    assert isinstance(hull(thin[0] - 0.1, thin[1] + 0.1, 2), Sides)
    nothing = np.full(4, -np.inf), np.full(4, np.inf)
    with np.errstate(all="ignore"):
        assert hull(*nothing, 2) is None


def test_groups_are_of_a_block() -> None:
    found = together(np.array([5.0, 1.0, 4.0, 2.0, 3.0]), 2, 3)
    assert {frozenset(pair) for pair in found.tolist()} == {
        *map(frozenset, [(0, 2), (0, 4), (2, 4), (3, 1)])
    }
    assert len(together(np.array([1.0]), 2, 3)) == 0


def shared(seed: int) -> Graph:
    """Four ReLUs of the same two inputs, whose sums are asked for."""
    net = Net(seed, (2,)).dense(4, 2.0).add("relu").dense(2)
    return net.builder.graph(net.last)


def test_more_is_closer_and_never_beyond() -> None:
    missing = dict.fromkeys(("lp", "cuts", "kpoly", "three"), 0.0)
    for seed in range(4):
        graph = shared(seed)
        region = around(graph, 1.0, seed)
        exact = enumerated(graph, region)
        lower = {
            "lp": compute(graph, region, method="lp").lower,
            "cuts": compute(graph, region, method="lp", options=Options(cuts=8)).lower,
            "kpoly": compute(graph, region, method="kpoly").lower,
            "three": compute(graph, region, method="krelu", options=Options(group=3)).lower,
        }
        for name, found in lower.items():
            assert (found <= exact + 1e-7).all(), name
            assert (found >= lower["lp"] - 1e-9).all(), name
            missing[name] += float((exact - found).sum())
    assert missing["cuts"] < 0.99 * missing["lp"] or missing["lp"] < 1e-6
    assert missing["kpoly"] < 0.6 * missing["lp"]
    assert missing["three"] <= missing["kpoly"] + 1e-6


def test_one_pass_through_cuts_is_between_lines_and_the_program_with_cuts() -> None:
    better = 0.0
    for seed in range(3):
        net = Net(seed, (4,)).dense(10, 2.0).add("relu").dense(10, 2.0).add("relu").dense(2)
        graph = net.builder.graph(net.last)
        region = around(graph, 0.5, seed)
        crown = compute(graph, region).lower
        fast = compute(graph, region, method="fast-c2v")
        full = compute(graph, region, method="lp", options=Options(cuts=20)).lower
        contains(graph, region, fast)
        assert (fast.lower >= crown - 1e-12).all()
        assert (fast.lower <= full + 1e-7).all()
        better += float((fast.lower - crown).sum())
    assert better > 0.01


def two_layers(seed: int) -> Graph:
    net = Net(seed, (4,)).dense(8, 2.0).add("relu").dense(8, 2.0).add("relu").dense(2)
    return prepare(net.builder.graph(net.last)).to(torch.float64)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("fast-c2v", Options()),
        ("lp", Options(cuts=4)),
        ("kpoly", Options()),
        ("kpoly", Options(group=3, cuts=2)),
    ],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_planes_hold_outward(method: str, options: Options, norm: str) -> None:
    for seed in range(2):
        graph = two_layers(seed)
        wide = around(graph, 0.5, seed)
        region = Region(wide.lower, wide.upper, wide.centre, norm, 0.6)
        found = compute(graph, region, method=method, options=options)
        lines = compute(graph, region, method="lp" if norm == "linf" else "crown").lower
        assert found.trace.planes
        assert found.upper is not None
        unit = torch.eye(2).double()
        values = outputs(graph, points(region, 500))
        for element in range(len(region)):
            asked = graph, region.element(element), torch.cat([unit, -unit])
            sure = recheck(*asked, found.trace, element)
            sought = torch.cat([found.lower[element], -found.upper[element]])
            least = torch.cat([values[:, element], -values[:, element]], 1).amin(0)
            assert (sure <= least).all()
            if norm == "linf":
                torch.testing.assert_close(sure, sought, rtol=1e-6, atol=1e-6)
        assert method == "fast-c2v" or (found.lower > lines + 1e-4).any()


def test_planes_that_say_too_much_are_not_believed() -> None:
    """Coefficients may be anything: constants are found anew."""
    graph = two_layers(0)
    region = around(graph, 0.5)
    found = compute(graph, region, method="kpoly", options=Options(cuts=2))
    random = torch.Generator().manual_seed(0)

    def strange(part: torch.Tensor) -> torch.Tensor:
        return 3 * torch.randn(part.shape, generator=random, dtype=torch.float64)

    least = outputs(graph, points(region, 500)).amin(0)
    for planes in found.trace.planes.values():
        for index, plane in enumerate(planes):
            if isinstance(plane, GroupPlanes):
                parts = strange(plane.arguments), strange(plane.answers)
                planes[index] = GroupPlanes(plane.node, plane.entries, *parts)
            else:
                parts = strange(plane.weights), strange(plane.slopes)
                planes[index] = SumPlanes(plane.node, plane.source, plane.entries, *parts)
    unit = torch.eye(2).double()
    for element in range(len(region)):
        sure = recheck(
            graph, region.element(element), torch.cat([unit, -unit]), found.trace, element
        )
        assert (sure[:2] <= least[element]).all()


@pytest.mark.parametrize("method", ["fast-c2v", "kpoly"])
def test_company_changes_nothing(method: str) -> None:
    graph = network("conv", 1)
    region = around(graph, 0.2, 1)
    together_ = compute(graph, region, method=method).lower
    alone = [compute(graph, region.element(i), method=method).lower for i in range(len(region))]
    torch.testing.assert_close(together_, torch.cat(alone), rtol=1e-6, atol=1e-6)
