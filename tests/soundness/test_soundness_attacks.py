"""Every registered attack, by being registered; and attacks that cheat, which must be caught."""

from __future__ import annotations

import checks_attacks
import pytest
import torch

from phalanx.attacks import Attack, attacks, build_attack
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import Walk, random_start
from phalanx.errors import AttackError

pytestmark = pytest.mark.usefixtures("one_thread")

LONG = ("autoattack",)
EVERY_NORM = ("pgd", "apgd-ce", "fab", "fgsm")
"""Attacks whose checks are quick in every norm; the others' are in their first."""


def _case(name: str, norm: str) -> object:
    first = norm == attacks.get(name).norms[0]
    quick = name not in LONG and (first or name in EVERY_NORM)
    return pytest.param(name, norm, marks=[] if quick else [pytest.mark.slow])


CASES = [_case(name, norm) for name in attacks.names() for norm in attacks.get(name).norms]


@pytest.mark.parametrize("check", checks_attacks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_attack(name: str, norm: str, check) -> None:
    check(checks_attacks.built(name, check), norm)


class Leaving(Attack):
    """Leaves the ball and writes down the result itself."""

    def run(self, siege: Siege) -> None:
        """Twice as far as it may go."""
        siege.adversarial = siege.x + 2 * siege.threat.eps
        siege.now = torch.zeros_like(siege.now)


class Lying(Attack):
    """Says that it won, with inputs that change nothing."""

    def run(self, siege: Siege) -> None:
        """Nothing but words."""
        siege.now = torch.zeros_like(siege.now)


class Guessing(Attack):
    """Draws from torch's generator, so that its result depends on what came before."""

    def run(self, siege: Siege) -> None:
        """Random inputs of the ball."""
        at = siege.standing()
        noise = 2 * torch.rand(siege.x.shape) - 1
        siege.look(at, siege.threat.random_start(siege.x, noise)[at])


class Mixing(Attack):
    """Looks at the mean of the batch."""

    def run(self, siege: Siege) -> None:
        """A step away from the mean of the points in the batch."""
        at = siege.standing()
        step = (siege.x.mean(0, keepdim=True) - siege.x).sign()
        siege.look(at, siege.threat.project(siege.x, siege.x + siege.threat.eps * step)[at])


class Timid(Attack):
    """Goes half as far as it may."""

    def run(self, siege: Siege) -> None:
        """A random start of half the radius."""
        walk = Walk(siege.standing(), siege.x[siege.standing()])
        siege.look(walk.at, (walk.x + random_start(siege, walk.at, "timid")) / 2)


class Reaching(Attack):
    """Shows inputs outside of ball and box."""

    def run(self, siege: Siege) -> None:
        """Far away, in every direction."""
        at = siege.standing()
        for far in (-9.0, 9.0, 0.3, 1.7):
            siege.look(at, siege.x[at] * 0 + far)


@pytest.mark.parametrize("cheat", [Leaving, Lying])
def test_what_an_attack_only_claims_is_not_reported(cheat: type[Attack]) -> None:
    with pytest.raises(AttackError):
        checks_attacks.check_hopeless(cheat(), "linf")
    with pytest.raises(AttackError):
        checks_attacks.check_inside_and_confirmed(cheat(), "linf")


@pytest.mark.parametrize("cheat", [Guessing, Mixing])
def test_attacks_that_depend_on_company_are_caught(cheat: type[Attack]) -> None:
    with pytest.raises(AssertionError):
        checks_attacks.check_company(cheat(), "linf", share=3.0)


def test_attacks_that_find_nothing_are_caught() -> None:
    with pytest.raises(AssertionError):
        checks_attacks.check_radius(Timid(), "l2")


def test_inputs_outside_of_the_ball_do_not_count() -> None:
    model, x, y = checks_attacks.curved()
    threat = checks_attacks.Threat("linf", 0.01)
    found = checks_attacks.run(Reaching(), model, threat, x, y)
    assert not found.success.any()
    assert torch.equal(found.adversarial, x)


def test_a_hopeless_attack_reports_nothing() -> None:
    found = checks_attacks.check_hopeless(build_attack("pgd"), "linf")
    assert not found.success.any()
    assert (found.distance == 0).all()
    assert (found.queries > 0).all()
