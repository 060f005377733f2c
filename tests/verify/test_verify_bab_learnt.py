"""Learnt sets of signs: against all assignments, on wide networks, with a planted fault."""

from __future__ import annotations

import pytest
import torch
from bab_nets import drawn, least
from test_verify_bab_relus import ROWS, SHORT, decided, ready
from torch import Tensor
from verify_nets import case

from phalanx.verdicts import Verdict
from phalanx.verify.bab import learnt as module
from phalanx.verify.bab import relus
from phalanx.verify.bab.ascent import Ascent, Climbed, Steps
from phalanx.verify.bab.learnt import Learnt, with_fewer_signs
from phalanx.verify.bab.splits import Domains, root
from phalanx.verify.bab.whole import on_whole_box
from phalanx.verify.outcome import Clock

UNITS = 7


def drawn_signs(seed: int, count: int, share: float) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (count, UNITS), generator=draws) * 2 - 1
    return (signs * (torch.rand(count, UNITS, generator=draws) < share)).to(torch.int8)


def domains_of(signs: Tensor) -> Domains:
    one = root(UNITS, torch.zeros(UNITS), 1)
    every = one[torch.zeros(len(signs), dtype=torch.long)]
    return Domains(signs, every.alpha, every.beta, every.weights, torch.arange(float(len(signs))))


def has(assignment: Tensor, signs: Tensor) -> bool:
    return bool(((signs == 0) | (signs == assignment)).all())


@pytest.mark.parametrize("seed", range(12))
def test_exactly_the_assignments_without_a_set_are_left(seed: int) -> None:
    sets = drawn_signs(seed, 6, 0.4)
    sets = sets[(sets != 0).any(1)]
    before = domains_of(drawn_signs(100 + seed, 5, 0.4))
    learnt = Learnt(UNITS)
    learnt.add(sets)
    after = learnt.applied(before)
    left = dict(zip(after.bound.tolist(), after.signs, strict=True))
    for assignment in torch.cartesian_prod(*[torch.tensor([-1, 1])] * UNITS):
        refuted = any(has(assignment, one) for one in sets)
        for number, signs in enumerate(before.signs):
            inside = number in left and has(assignment, left[number])
            if inside:
                assert has(assignment, signs)
            if has(assignment, signs) and not refuted:
                assert inside, "an assignment that nothing refutes was lost"
    # Nothing that follows is left to be found.
    assert torch.equal(learnt.applied(after).signs, after.signs)


def test_nothing_decided_is_a_set_that_closes_everything() -> None:
    learnt = Learnt(UNITS)
    learnt.add(torch.zeros(1, UNITS))
    assert len(learnt.applied(domains_of(drawn_signs(0, 4, 0.5)))) == 0


def test_the_smallest_sets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    learnt = Learnt(3)
    learnt.add(torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, -1]]))
    assert len(learnt) == 2
    domains = root(3, torch.zeros(3), 1)
    assert learnt.applied(domains).signs.tolist() == [[-1, 0, 0]]


def test_fewer_signs_keep_the_bound_above_zero() -> None:
    graph = drawn(3, (6, 5), skip=True)
    rows = ROWS[0]
    own = case(rows, [0.3 - least(graph, case(rows, [0.0]))])
    made = ready(graph)
    known = on_whole_box(made, own, Clock()).units
    sides = known.sides(torch.float64)
    draws = torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, (64, len(known)), generator=draws) * 2 - 1).to(torch.int8)
    start = root(len(known), (sides[1] > -sides[0]).float(), 1)[torch.zeros(64).long()]
    ascent = Ascent(made, own, known, Clock())
    begun = Domains(signs, start.alpha, start.beta, start.weights, start.bound)
    found = ascent.climb(begun, Steps(iterations=20))
    above = (found.bound > 0).nonzero().squeeze(1)
    found = found.at(above)
    now = Domains(signs[above], found.alpha.half(), found.beta.half(), found.weights, found.bound)
    smaller, fewer = with_fewer_signs(ascent, now, found, sides)
    assert bool(fewer.any())
    assert bool((ascent.once(smaller[fewer]) > 0).all())
    lost = smaller.signs != now.signs
    assert bool((smaller.signs[lost] == 0).all())
    assert torch.equal(lost.any(1), fewer)


def test_the_signs_that_cost_least_are_the_ones_left_out() -> None:
    """Chords are ``-u l / (u - l) = 3/4, 1/2, 1, 1/2`` above; a multiplier costs its reach."""
    sides = torch.tensor([[-1.0, -1.0, -2.0, -1.0], [3.0, 1.0, 2.0, 1.0]]).double()
    kept = torch.tensor([[1, -1, 1, -1]], dtype=torch.int8)
    nothing = torch.zeros(1, 4)
    closed = Domains(kept, nothing.half(), nothing.half(), torch.zeros(1, 1), torch.ones(1))
    met, beta = torch.tensor([[-1.0, -1.0, -1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.0, 0.25]])
    found = Climbed(torch.ones(1), nothing, beta, torch.zeros(1, 1), met, nothing, nothing)

    class Patient:
        """Believes whatever keeps the signs it is told to keep."""

        def __init__(self, needed: list[int]) -> None:
            self.needed = needed

        def once(self, domains: Domains) -> Tensor:
            return (domains.signs[:, self.needed] != 0).all(1).double() - 0.5

    # What each costs: 3/4, 1/2, 1 and the multiplier's 1/4.
    for needed, left in (([2], [0, 0, 1, 0]), ([0], [1, 0, 1, 0]), ([1], [1, -1, 1, 0])):
        smaller, fewer = with_fewer_signs(Patient(needed), closed, found, (sides[0], sides[1]))
        assert smaller.signs.tolist() == [left]
        assert fewer.tolist() == [True]
    untouched, fewer = with_fewer_signs(Patient([3]), closed, found, (sides[0], sides[1]))
    assert torch.equal(untouched.signs, kept)
    assert not bool(fewer.any())


def search_of(seed: int, slack: float) -> Verdict:
    """A network on which sets are learnt and used."""
    graph, rows = drawn(seed, (5, 5, 3), skip=seed % 2 == 0), ROWS[0]
    own = case(rows, [slack - least(graph, case(rows, [0.0]))])
    return decided(graph, own, SHORT).verdict


@pytest.mark.parametrize("fault", [False, True])
def test_a_set_that_is_too_small_is_noticed(fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    honest = Learnt.add

    def add(self: Learnt, signs: Tensor) -> None:
        if fault:
            kept = signs.abs().cumsum(1) <= 1
            signs = signs * kept
        honest(self, signs)

    def applied(self: Learnt, domains: Domains) -> Domains:
        found = true_applied(self, domains)
        used.append(int(domains.signs.abs().sum()) != int(found.signs.abs().sum()))
        return found

    true_applied = Learnt.applied
    monkeypatch.setattr(Learnt, "add", add)
    monkeypatch.setattr(Learnt, "applied", applied)
    monkeypatch.setattr(relus.ReluOptions, "batch", 2, raising=False)
    right = [
        search_of(seed, slack) is (Verdict.VERIFIED if slack > 0 else Verdict.FALSIFIED)
        for seed in range(200, 206)
        for slack in (0.01, -0.01)
    ]
    assert any(used)
    assert all(right) is not fault


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_networks_with_learnt_sets() -> None:
    for seed in range(300, 500):
        assert search_of(seed, 0.003) is Verdict.VERIFIED, seed
        assert search_of(seed, -0.003) is Verdict.FALSIFIED, seed
