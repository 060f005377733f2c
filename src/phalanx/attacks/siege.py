"""`Siege`: some points of one classifier under attack, and what is known of each so far.

An attack asks two questions of a siege, `look` (scores) and `climb` (loss and gradient). Whatever
it shows is judged on the way: an input that lies in ball and box and lowers the probability of the
right answer is moved inside to the last bit, run again through a plain pass, and kept only if that
confirms it. So an attack cannot claim a success; it can only come by one. A point that is never
answered rightly any more leaves the attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.attacks.draws import Draws
from phalanx.attacks.objective import Aimed, Objective
from phalanx.attacks.passes import in_passes, padded
from phalanx.attacks.target import Target, require_finite
from phalanx.errors import AttackError, ModelError, NonFiniteError
from phalanx.runtime.keys import noise_key
from phalanx.specs.threat import Threat

SEEN, BEFORE, CONFIRM, FINAL = "seen", "before", "confirm", "final"
"""What a pass is for, as it enters the keys of random draws."""
LEAST = 1e-9
"""A smaller change of a probability is rounding."""


@dataclass(frozen=True)
class Slope:
    """What `Siege.climb` found: loss ``(n,)``, gradient like the inputs, scores ``(S, n, C)``."""

    loss: Tensor
    gradient: Tensor
    scores: Tensor


class Siege:
    """Points under attack.

    Args:
        target: the classifier.
        threat: what may be done to an input.
        x: clean inputs ``(B, *shape)`` on the target's device.
        y: their classes ``(B,)``.
        samples: the number of each point in its data set: what its random numbers follow from.
        seed: of the attack.

    Attributes:
        before, now: probability of the right answer at ``x`` and at ``adversarial``, ``(B,)``.
        adversarial: the worst input found, ``x`` itself where none is.
        queries: inputs of each point that were shown to the classifier.
        flat: gradients of each point that were zero throughout.
        part: what is at work, for attacks made of several.
        by: the part that found `adversarial`, empty where nothing did.
    """

    def __init__(
        self,
        target: Target,
        threat: Threat,
        x: Tensor,
        y: Tensor,
        *,
        samples: Sequence[int],
        seed: int,
    ) -> None:
        self.target, self.threat, self.x, self.y = target, threat, x, y
        self.samples, self.seed = list(samples), seed
        self.queries = torch.zeros(len(x), dtype=torch.int64)
        self.flat = torch.zeros(len(x), dtype=torch.int64)
        self.before = target.right(x, y, self._keys(range(len(x)), BEFORE))
        self.now, self.adversarial = self.before.clone(), x.clone()
        self.part, self.by = "", [""] * len(x)

    def standing(self, among: Tensor | None = None) -> Tensor:
        """The points that are still answered rightly with some probability, as numbers ``(n,)``.

        Args:
            among: only of these.
        """
        every = torch.arange(len(self.x), device=self.x.device) if among is None else among
        return every[self.now[every] > LEAST]

    def draws(self, *parts: str | int) -> Draws:
        """Random numbers of every point, for one purpose."""
        keys = [noise_key(self.seed, sample, "attack", *parts) for sample in self.samples]
        return Draws(keys, self.x.device)

    def look(self, at: Tensor, x: Tensor) -> Tensor:
        """Scores ``(S, n, C)`` of inputs ``x`` ``(n, *shape)`` for the points ``at`` ``(n,)``.

        Raises:
            NonFiniteError: some are NaN or infinite.
        """
        keys = self._spent(at)
        with torch.inference_mode():
            ladder = self.target.ladder(x)
            shown = in_passes(lambda a, k: self.target.see(a, k).scores, x, keys, ladder)
        scores = shown.clone()
        require_finite(scores, self.target.name)
        self._judge(at, x, scores)
        return scores

    def climb(
        self,
        at: Tensor,
        x: Tensor,
        objective: Objective | Aimed,
        *,
        goal: Tensor | None = None,
        through: Target | None = None,
    ) -> Slope:
        """Loss, gradient and scores of inputs ``x`` ``(n, *shape)`` for the points ``at``.

        Args:
            at: numbers of the points ``(n,)``.
            x: one input for each.
            objective: what is to rise; with ``goal``, a class a row ``(n,)``, one that aims.
            goal: see there.
            through: another target, a member, whose gradient is wanted; it judges nothing.

        Raises:
            ModelError: the target has no gradients.
            NonFiniteError: scores or gradients are NaN or infinite.
        """
        target = through or self.target
        if not target.differentiable:
            raise _no_gradient(target)
        keys = self._spent(at)
        goals = () if goal is None else (goal,)
        found = [
            _climb(
                target,
                x[i : i + rows],
                self.y[at[i : i + rows]],
                keys[i : i + rows],
                objective,
                *(one[i : i + rows] for one in goals),
                rows=rows,
            )
            for i, rows in target.ladder(x).cuts(len(x))
        ]
        slope = _joined(found)
        self.flat[at.cpu()] += (slope.gradient.flatten(1) == 0).all(1).cpu()
        if through is None:
            self._judge(at, x, slope.scores)
        return slope

    def _judge(self, at: Tensor, x: Tensor, scores: Tensor) -> None:
        """Keep what lowers the probability of the right answer, once a plain pass confirms it."""
        shown = self.target.agreement(scores, self.y[at])
        lower = shown < self.now[at] - LEAST
        if not bool(lower.any()):
            return
        lower &= self.threat.contains(self.x[at], x)
        at, x = at[lower], x[lower]
        if len(at):
            self._confirm(at, self.threat.confine(self.x[at], x))

    def _confirm(self, at: Tensor, x: Tensor) -> None:
        keys = self._keys(at.tolist(), CONFIRM)
        self.queries[at.cpu()] += len(self.target.weights)
        really = self.target.right(x, self.y[at], keys)
        lower = really < self.now[at] - LEAST
        self.now[at[lower]] = really[lower]
        self.adversarial[at[lower]] = x[lower]
        for number in at[lower].tolist():
            self.by[number] = self.part

    def verified(self) -> Siege:
        """See, in one last plain pass, that what is kept is what it is said to be.

        Raises:
            AttackError: an adversarial input is outside of ball or box, or does not do what is
                claimed: an attack wrote what it must only find.
        """
        moved = (self.adversarial != self.x).flatten(1).any(1)
        claims = (self.now != self.before) | moved | torch.isnan(self.now)
        at = torch.nonzero(claims).flatten()
        if not len(at):
            return self
        x = self.adversarial[at]
        if not bool(self.threat.contains(self.x[at], x).all()):
            outside = int((~self.threat.contains(self.x[at], x)).sum())
            raise AttackError(
                f"{outside} adversarial inputs lie outside of the {self.threat.norm} ball or box",
                why="they are not what was asked for, so nothing of this attack is reported",
            )
        keys = self._keys(at.tolist(), CONFIRM)
        really = self.target.right(x, self.y[at], keys)
        # A GPU may add in another order than a moment ago; a CPU has no such excuse.
        unlike = ~((really - self.now[at]).abs() <= LEAST)
        if bool(unlike.any()):
            raise AttackError(
                f"{int(unlike.sum())} successes are not confirmed by running them again",
                why="an input counts as adversarial only where a plain pass says so",
            )
        if not self.target.exact:
            # The lowest of many estimates is too low: what is reported comes from draws of its own.
            self.now[at] = self.target.right(x, self.y[at], self._keys(at.tolist(), FINAL))
        return self

    def _spent(self, at: Tensor) -> list[int]:
        """Count a query of every point; keys of its random draws."""
        numbers = at.cpu()
        exact = self.target.exact
        keys = [0] * len(at) if exact else self._keys(numbers.tolist(), SEEN)
        self.queries[numbers] += len(self.target.weights)
        return keys

    def _keys(self, at: Sequence[int], purpose: str) -> list[int]:
        """Keys of random draws: one a point, or one a point and query."""
        target = self.target
        if target.exact:
            return [0] * len(at)
        anew = target.fresh and purpose == SEEN
        again = self.queries.tolist() if anew else [0] * len(self.x)
        return [noise_key(self.seed, self.samples[i], purpose, again[i]) for i in at]


def _joined(found: Sequence[Slope]) -> Slope:
    if len(found) == 1:
        return found[0]
    return Slope(
        torch.cat([one.loss for one in found]),
        torch.cat([one.gradient for one in found]),
        torch.cat([one.scores for one in found], 1),
    )


def _climb(
    target: Target,
    x: Tensor,
    y: Tensor,
    keys: Sequence[int],
    objective: Objective | Aimed,
    *goal: Tensor,
    rows: int,
) -> Slope:
    """One pass of at most ``rows`` inputs, padded to as many."""
    count = len(x)
    y, goal = padded(y, rows), tuple(padded(one, rows) for one in goal)
    keys = [*keys, *[0] * (rows - count)]
    with torch.enable_grad():
        moved = padded(x, rows).detach().clone().requires_grad_()
        seen = target.see(moved, keys)
        require_finite(seen.scores.detach()[:, :count], target.name)
        loss = objective(seen.steep, target.steep_weights, y, *goal)
        if not loss.requires_grad:
            raise _no_gradient(target)
        (gradient,) = torch.autograd.grad(loss.sum(), moved, allow_unused=True)
    if gradient is None:
        raise _no_gradient(target)
    gradient, loss = gradient[:count], loss.detach()[:count]
    if not bool(torch.isfinite(gradient).all() & ~loss.isnan().any()):
        broken = ~torch.isfinite(gradient.flatten(1)).all(1) | loss.isnan()
        raise NonFiniteError(
            f"{int(broken.sum())} of {count} gradients of {target.name} are NaN or infinite",
            why="a gradient attack cannot go on from them, and what it reports would mean nothing",
            repair="an attack on scores (--attack square), or a declared backward"
            " (phalanx.attacks.bpda)",
        )
    return Slope(loss, gradient, seen.scores.detach()[:, :count])


def _no_gradient(target: Target) -> ModelError:
    return ModelError(
        f"{target.name} gives scores without gradients",
        why="this attack follows gradients from the scores to the input",
        repair="an attack on scores (--attack square), or a declared backward"
        " (phalanx.attacks.bpda)",
    )
