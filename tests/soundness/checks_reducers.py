"""What every registered reducer must satisfy; each check takes a `ReducerFactory`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phalanx.ensembles.ensemble import INVALID_VOTE, ReducerFactory, decide

MEMBERS, ROWS, CLASSES = 3, 48, 5
BROKEN_VALUES = (float("nan"), float("inf"), float("-inf"))


def member_logits(members: int = MEMBERS, scale: float = 3.0) -> Tensor:
    """Random logits without ties."""
    draw = torch.Generator().manual_seed(members)
    return scale * torch.randn(members, ROWS, CLASSES, generator=draw)


def shape_and_finite(factory: ReducerFactory) -> None:
    """Finite logits (M, B, C) give finite scores (B, C), for any M and an empty batch too."""
    for members in (1, 2, 5):
        scores = factory()(member_logits(members))
        assert scores.shape == (ROWS, CLASSES)
        assert torch.isfinite(scores).all()
    assert factory()(torch.zeros(MEMBERS, 0, CLASSES)).shape == (0, CLASSES)


def broken_logit_is_no_class(factory: ReducerFactory) -> None:
    """One NaN or infinite logit of one member invalidates its row and no other."""
    reducer, healthy = factory(), member_logits()
    votes = decide(reducer, healthy)
    for value in BROKEN_VALUES:
        for row in range(MEMBERS * CLASSES):
            logits = healthy.clone()
            logits[row % MEMBERS, row, row // MEMBERS] = value
            found = decide(reducer, logits)
            assert found[row] == INVALID_VOTE, f"{value} became class {int(found[row])}"
            assert torch.equal(found[:row], votes[:row])
            assert torch.equal(found[row + 1 :], votes[row + 1 :])


def broken_logit_shows_in_scores(factory: ReducerFactory) -> None:
    """A reducer does not repair a member: its scores are not finite either."""
    for value in BROKEN_VALUES:
        for member in range(MEMBERS):
            logits = member_logits()
            logits[member, 0, 1] = value
            scores = factory()(logits)
            assert not torch.isfinite(scores[0]).all(), f"{value} of member {member} is hidden"
            assert torch.isfinite(scores[1:]).all()


def deterministic(factory: ReducerFactory) -> None:
    """The same logits give the same scores, from one reducer or from two, and are not changed."""
    logits, kept = member_logits(), member_logits()
    reducer = factory()
    first = reducer(logits)
    assert torch.equal(first, reducer(logits))
    assert torch.equal(first, factory()(logits))
    assert torch.equal(logits, kept)


def class_permutation(factory: ReducerFactory) -> None:
    """Renaming the classes renames the scores (without ties there is no order to prefer)."""
    logits, reducer = member_logits(), factory()
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(reducer(logits[..., order]), reducer(logits)[..., order])


def single_member_is_its_argmax(factory: ReducerFactory) -> None:
    """An ensemble of one decides as its member."""
    logits = member_logits(1)
    assert torch.equal(decide(factory(), logits), logits[0].argmax(-1))


def identical_members_decide_as_one(factory: ReducerFactory) -> None:
    """Copies of a member decide as the member, at every scale of its logits."""
    for scale in (1e-3, 1.0, 1e3):
        one = member_logits(1) * scale
        assert torch.equal(decide(factory(), one.repeat(4, 1, 1)), one[0].argmax(-1))


def company_does_not_matter(factory: ReducerFactory) -> None:
    """A row's decision does not depend on which rows stand beside it, nor where it stands."""
    logits, reducer = member_logits(), factory()
    votes = decide(reducer, logits)
    alone = torch.cat([decide(reducer, logits[:, i : i + 1]) for i in range(ROWS)])
    assert torch.equal(votes, alone)
    assert torch.equal(decide(reducer, logits.flip(1)), votes.flip(0))


CHECKS: list[Callable[[ReducerFactory], None]] = [
    shape_and_finite,
    broken_logit_is_no_class,
    broken_logit_shows_in_scores,
    deterministic,
    class_permutation,
    single_member_is_its_argmax,
    identical_members_decide_as_one,
    company_does_not_matter,
]
