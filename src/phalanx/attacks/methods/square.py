"""Square: random search by windows, from scores alone (Andriushchenko et al., ECCV 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from phalanx.attacks import Attack, Count, Share, attacks
from phalanx.attacks.objective import margin
from phalanx.attacks.rows import Rows
from phalanx.attacks.siege import Siege
from phalanx.attacks.windows import (
    as_images,
    corners,
    mask_of,
    pattern,
    places_of,
    share_at,
    sides,
    spans_of,
)
from phalanx.runtime.vectors import row_norms
from phalanx.specs.threat import spread

AHEAD = 32
"""Queries whose random numbers are drawn together."""
SPOTS = 5
"""Numbers of a query beside one a channel: two corners and an orientation."""
TILES = 5
TINY = 1e-12


@dataclass
class _Search(Rows):
    clean: Tensor
    x: Tensor
    loss: Tensor
    numbers: Tensor


@attacks.register("square")
class Square(Attack):
    """A window is changed, and the change kept where the expected margin does not grow by it.

    In linf a window gets one of both extremes, channel by channel; in l2 and l1 it takes over what
    another window had, as a pattern. An input that is no image is a row of pixels.

    Attributes:
        queries: a point and restart; published: 5000.
        first: share of the pixels in the first windows; published: 0.8.
        restarts: published: 1.
    """

    gradients: ClassVar[bool] = False
    queries: Count = 5000
    first: Share = 0.8
    restarts: Count = 1

    def run(self, siege: Siege) -> None:
        """At most ``queries + 1`` a point and restart."""
        for restart in range(self.restarts):
            at = siege.standing()
            if len(at):
                self._search(siege, at, restart)

    def _search(self, siege: Siege, at: Tensor, restart: int) -> None:
        draws, channels = siege.draws("square", restart), as_images(siege.x[at]).shape[1]
        drawn = SPOTS + channels
        begin = siege.draws("square-start", restart)
        x = self._begin(siege, at, begin.uniforms(at, 0, siege.x[0].numel()))
        loss = self._loss(siege, at, x)
        now = _Search(at, siege.x[at], x, loss, x.new_zeros(len(at), 0, drawn)).standing(siege)
        for query in range(self.queries):
            if not len(now):
                return
            if query % AHEAD == 0:
                numbers = draws.uniforms(now.at, query * drawn, AHEAD * drawn)
                now = replace(now, numbers=numbers.unflatten(1, (AHEAD, drawn)))
            proposed = self._propose(siege, now, query)
            loss = self._loss(siege, now.at, proposed)
            better = torch.nonzero(loss < now.loss).flatten()
            if len(better):  # seldom, late in a search, and for few: so their rows alone are moved
                now.x[better], now.loss[better] = proposed[better], loss[better]
            now = now.standing(siege)

    def _loss(self, siege: Siege, at: Tensor, x: Tensor) -> Tensor:
        scores = siege.look(at, x)
        return -margin(scores, siege.target.weights, siege.y[at])

    def _begin(self, siege: Siege, at: Tensor, numbers: Tensor) -> Tensor:
        threat, clean = siege.threat, siege.x[at]
        images = as_images(clean)
        count, channels, height, width = images.shape
        if threat.norm == "linf":  # vertical stripes
            stripes = numbers[:, : channels * width].view(count, channels, 1, width)
            moved = images + threat.eps * (2 * stripes - 1).sign()
            return threat.project(clean, moved.view_as(clean))
        side = max(1, min(height, width) // TILES)
        move, tile = torch.zeros_like(images), pattern(side, 2 if threat.norm == "l2" else 4)
        used = 0
        for top in range(0, height - side + 1, side):
            for left in range(0, width - side + 1, side):
                signs = (2 * numbers[:, used : used + channels] - 1).sign()[:, :, None, None]
                move[..., top : top + side, left : left + side] = signs * tile.to(move)
                used += channels
        move = threat.eps * move / spread(threat.length(move).clamp_min(TINY), move)
        return threat.project(clean, (images + move).view_as(clean))

    def _propose(self, siege: Siege, now: _Search, query: int) -> Tensor:
        numbers = now.numbers[:, query % AHEAD]
        clean, share = now.clean, share_at(query, self.first)
        images, moved = as_images(clean), as_images(now.x)
        if siege.threat.norm == "linf":
            moved = _flipped(moved, numbers, share, 2 * siege.threat.eps)
        else:
            power = 2 if siege.threat.norm == "l2" else 1
            moved = images + _traded(moved - images, numbers, share, siege.threat.eps, power)
        return siege.threat.project(clean, moved.view_as(clean))


def _flipped(moved: Tensor, numbers: Tensor, share: float, width: float) -> Tensor:
    """A window raised or lowered by the ball's width, channel by channel."""
    shape = (moved.shape[2], moved.shape[3])
    size = sides(share, *shape)
    top = corners(numbers[:, 0], shape[0] - size[0])
    left = corners(numbers[:, 1], shape[1] - size[1])
    signs = (2 * numbers[:, SPOTS:] - 1).sign()[:, :, None, None]
    tall, wide = spans_of(top, left, size, shape)
    heights = signs * width * tall[:, None, :, None]
    return torch.addcmul(moved, heights, wide[:, None, None, :].to(heights))


def _traded(move: Tensor, numbers: Tensor, share: float, eps: float, power: int) -> Tensor:
    """One window's length given to another, with what the ball has left, as a fresh pattern."""
    _, channels, height, width = move.shape
    side = max(round((share * height * width) ** 0.5), 3) | 1  # odd
    side = min(side, height, width)
    tops, lefts = (
        corners(numbers[:, [place, place + 2]], room - side).unbind(1)
        for place, room in ((0, height), (1, width))
    )
    masks = [mask_of(tops[i], lefts[i], (side, side), (height, width)) for i in (0, 1)]
    both = (move * (masks[0] | masks[1])).flatten(2).norm(p=power, dim=2)
    unused = (eps**power - row_norms(move.flatten(1), power) ** power).clamp_min(0)
    budget = (unused[:, None] / channels + both**power) ** (1 / power)
    places = places_of(tops[0], lefts[0], side, width)[:, None].expand(-1, channels, -1)
    old = move.flatten(2).gather(2, places)
    old = old / old.norm(p=power, dim=2, keepdim=True).clamp_min(TINY)
    fresh = pattern(side, 2 if power == 2 else 4).to(move)
    turned = (numbers[:, 4] > 0.5)[:, None, None]
    fresh = torch.where(turned, fresh.T, fresh).flatten(1)[:, None]
    mixed = fresh * (2 * numbers[:, SPOTS:] - 1).sign()[:, :, None] + old
    mixed = mixed / mixed.norm(p=power, dim=2, keepdim=True).clamp_min(TINY) * budget[..., None]
    kept = (move * ~masks[1]).flatten(2).scatter(2, places, mixed).view_as(move)
    if power == 1:
        return kept  # brought back into the ball by the projection
    return eps * kept / spread(row_norms(kept.flatten(1)).clamp_min(TINY), kept)
