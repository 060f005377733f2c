"""Threats: exact projections against independent computations, ball and box to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize_scalar

from phalanx.errors import ParameterError
from phalanx.specs.geometry import into_l1_ball, meet, onto_plane
from phalanx.specs.threat import NORMS, Threat

RADII = {"linf": 0.1, "l2": 0.7, "l1": 2.0}


def _points(rows: int = 64, values: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, values, generator=generator)
    x[: rows // 4] = (x[: rows // 4] * 2).floor()  # corners of the box
    return x, x + torch.randn(rows, values, generator=generator)


@pytest.mark.parametrize("norm", NORMS)
def test_projections_stay_inside_and_leave_inner_points_alone(norm: str) -> None:
    threat = Threat(norm, RADII[norm])
    x, moved = _points()
    near = threat.project(x, moved)
    assert threat.contains(x, near).all()
    assert torch.allclose(threat.project(x, near), near, atol=1e-6)
    assert (threat.distance(x, near) > 0.3 * threat.eps).all()


@pytest.mark.parametrize("norm", NORMS)
def test_confined_points_need_no_tolerance(norm: str) -> None:
    x, moved = _points(values=3072)
    for eps in (RADII[norm], 8 / 255, 1e-4):
        threat = Threat(norm, eps)
        near = threat.confine(x, moved)
        assert float(threat.distance(x, near).max()) <= eps * (1 + 1e-15)
        assert near.min() >= 0
        assert near.max() <= 1


def test_l1_projection_is_the_nearest_point() -> None:
    x, moved = _points(rows=40, values=12)
    for eps in (0.05, 0.5, 3.0, 50.0):
        near = into_l1_ball(x.double(), moved.double(), eps, 0.0, 1.0)
        for row in range(len(x)):
            expected = _bisected(x[row].double().numpy(), moved[row].double().numpy(), eps)
            assert np.abs(near[row].numpy() - expected).max() < 1e-9


def _bisected(x: np.ndarray, moved: np.ndarray, eps: float) -> np.ndarray:
    """The same point by bisection of the multiplier of the ball's constraint."""
    move = moved - x
    room = np.where(move > 0, 1 - x, x)

    def at(t: float) -> np.ndarray:
        return np.sign(move) * np.minimum(np.maximum(np.abs(move) - t, 0), room)

    low, high = 0.0, float(np.abs(move).max())
    if np.abs(at(0.0)).sum() <= eps:
        return x + at(0.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(at(middle)).sum() > eps else (low, middle)
    return x + at(high)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_shortest_moves_onto_planes_are_those_of_a_linear_programme(norm: str) -> None:
    x, normal, offset = _planes()
    move = onto_plane(norm, x, normal, offset, (0.0, 1.0))
    for row in range(len(x)):
        best = _programme(norm, x[row].numpy(), normal[row].numpy(), float(offset[row]))
        found = move[row].abs().max() if norm == "linf" else move[row].abs().sum()
        assert float(found) == pytest.approx(best, abs=1e-7)
    _reaches(x, normal, offset, move)


def test_shortest_euclidean_moves_onto_planes() -> None:
    x, normal, offset = _planes()
    move = onto_plane("l2", x, normal, offset, (0.0, 1.0))
    _reaches(x, normal, offset, move)
    for row in range(len(x)):
        # The dual: max over t of min over the box of |z - x|^2 / 2 + t (offset - <normal, z>).
        a, w, b = x[row].numpy(), normal[row].numpy(), float(offset[row])

        def dual(t: float, a: np.ndarray = a, w: np.ndarray = w, b: float = b) -> float:
            z = np.clip(a + t * w, 0, 1)
            return -float(((z - a) ** 2).sum() / 2 + t * (b - w @ z))

        best = minimize_scalar(dual, bounds=(-100, 100), method="bounded", options={"xatol": 1e-10})
        assert float((move[row] ** 2).sum() / 2) == pytest.approx(-best.fun, abs=1e-6)


def _planes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(50, 9, generator=generator, dtype=torch.float64)
    normal = torch.randn(50, 9, generator=generator, dtype=torch.float64)
    normal[:, 3] = 0
    inside = torch.rand(50, 9, generator=generator, dtype=torch.float64)
    return x, normal, (normal * inside).sum(1)


def _reaches(
    x: torch.Tensor, normal: torch.Tensor, offset: torch.Tensor, move: torch.Tensor
) -> None:
    assert torch.allclose((normal * (x + move)).sum(1), offset, atol=1e-9)
    assert (x + move).min() >= -1e-12
    assert (x + move).max() <= 1 + 1e-12


def _programme(norm: str, x: np.ndarray, normal: np.ndarray, offset: float) -> float:
    n = len(x)
    extra = 1 if norm == "linf" else n
    cost = np.r_[np.zeros(n), np.ones(extra)]
    bound = -np.ones((n, 1)) if norm == "linf" else -np.eye(n)
    rows = np.block([[np.eye(n), bound], [-np.eye(n), bound]])
    found = linprog(
        cost,
        A_ub=rows,
        b_ub=np.zeros(2 * n),
        A_eq=np.r_[normal, np.zeros(extra)][None],
        b_eq=[offset - normal @ x],
        bounds=[(-a, 1 - a) for a in x] + [(0, None)] * extra,
    )
    return float(found.fun)


def test_a_plane_out_of_reach_is_approached_as_far_as_the_box_goes() -> None:
    x, normal = torch.full((1, 3), 0.5), torch.tensor([[1.0, -1.0, 0.0]])
    for norm in NORMS:
        move = onto_plane(norm, x, normal, torch.tensor([9.0]), (0.0, 1.0))
        assert move.tolist() == [[0.5, -0.5, 0.0]]


def test_meeting_levels_of_flat_rows() -> None:
    assert meet(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([1.0])).item() == torch.inf
    assert meet(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0.0])).item() == 0.0


@pytest.mark.parametrize("norm", NORMS)
def test_dual_norm_is_what_the_steepest_move_gains(norm: str) -> None:
    threat = Threat(norm, 1.0)
    gradient = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(2))
    step = threat.steepest(gradient)
    assert torch.allclose(threat.length(step), torch.ones(20), atol=1e-6)
    assert torch.allclose((step * gradient).flatten(1).sum(1), threat.dual(gradient), rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_lie_inside_and_differ(norm: str) -> None:
    threat = Threat(norm, RADII[norm])
    x, _ = _points()
    noise = torch.randn(64, 30, generator=torch.Generator().manual_seed(3)).clamp(-1, 1)
    start = threat.random_start(x, noise)
    assert threat.contains(x, start).all()
    assert (threat.distance(x, start) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("l0", 1.0), "norm"),
        (("linf", 0.0), "radius"),
        (("linf", -1.0), "radius"),
        (("linf", float("nan")), "radius"),
        (("linf", float("inf")), "radius"),
        (("linf", "wide"), "numbers"),
        (("linf", 0.1, 1.0, 0.0), "range"),
        (("linf", 0.1, float("nan"), 1.0), "range"),
    ],
)
def test_threats_that_mean_nothing_are_refused(arguments: tuple, word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        Threat(*arguments)


def test_nan_is_nowhere() -> None:
    threat = Threat("linf", 0.1)
    x = torch.zeros(1, 2)
    assert not threat.contains(x, torch.full((1, 2), torch.nan)).any()


@pytest.mark.parametrize("norm", NORMS)
def test_large_inputs_are_measured_and_moved_alike_alone_and_together(norm: str) -> None:
    """Long rows, several threads: torch cuts the sum of a single one among them."""
    generator, threads = torch.Generator().manual_seed(2), torch.get_num_threads()
    x = torch.rand(3, 50_000, generator=generator)
    normal = torch.randn(3, 50_000, generator=generator)
    offset = (normal * torch.rand(3, 50_000, generator=generator)).sum(1)
    threat = Threat(norm, 0.5)

    def shown(at: slice) -> list[torch.Tensor]:
        move = onto_plane(norm, x[at], normal[at], offset[at], (0.0, 1.0))
        return [
            move,
            threat.length(move),
            threat.dual(normal[at]),
            threat.project(x[at], x[at] + move),
        ]

    try:
        torch.set_num_threads(2)
        together = shown(slice(None))
        for row in range(3):
            alone = shown(slice(row, row + 1))
            assert all(torch.equal(a[0], t[row]) for a, t in zip(alone, together, strict=True))
    finally:
        torch.set_num_threads(threads)
