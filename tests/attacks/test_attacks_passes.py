"""Sizes of passes: little padding, and never other bits."""

from __future__ import annotations

import pytest
import torch
from attacks_helpers import SHAPE, network, points
from torch import nn

import phalanx
from phalanx.attacks.passes import LEAST_ROWS, Ladder
from phalanx.attacks.target import Expected, Plain, same_bits
from phalanx.models.model import InputSpec, Model


@pytest.mark.parametrize("rows", [1, 8, 16, 40, 64, 256])
def test_cuts_hold_every_row_once_in_sizes_that_are_allowed(rows: int) -> None:
    asked: list[int] = []

    def alike(size: int) -> bool:
        asked.append(size)
        return size != 32

    ladder = Ladder(rows, alike)
    for count in range(1, 300):
        place = 0
        for first, size in ladder.cuts(count):
            assert first == place
            assert size == rows or (LEAST_ROWS <= size < rows and size != 32)
            place += size
        assert place >= count > place - size
    assert len(asked) == len(set(asked))


def test_padding_is_a_quarter_of_a_pass_and_less_than_the_least_pass_more() -> None:
    ladder = Ladder(256, lambda size: True)
    for count in range(1, 1000):
        (*_, (first, size)) = ladder.cuts(count)
        least = -(-(count - first) // LEAST_ROWS) * LEAST_ROWS
        assert (size - least) * 4 <= size


class Counting(nn.Module):
    """Scores that feel how many rows a pass has, by less than rounding usually shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x.flatten(1)[:, :3]
        return scores * (1 + (len(x) == 32) * 2.0**-23)


class Fussy(nn.Module):
    """Takes passes of 64 rows alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 64:
            raise ValueError("not that many")
        return x.flatten(1)[:, :3]


def test_a_size_that_moves_a_bit_is_not_used() -> None:
    target = Plain(Model(Counting().eval(), InputSpec((0.0, 1.0)), 3), 64)
    assert same_bits(target, SHAPE, 16)
    assert not same_bits(target, SHAPE, 32)
    fussy = Plain(Model(Fussy().eval(), InputSpec((0.0, 1.0)), 3), 64)
    assert not same_bits(fussy, SHAPE, 16)
    assert list(fussy.ladder(torch.rand(3, *SHAPE)).cuts(3)) == [(0, 64)]


@pytest.mark.parametrize("name", ["pgd", "apgd-t", "square"])
@pytest.mark.parametrize("several", [False, True])
def test_passes_of_every_size_give_the_same_outcome(name: str, several: bool) -> None:
    model = network()
    x, y = points(model, 90)
    target = Expected([model, network(1)], [0.3, 0.7], 64) if several else Plain(model, 64)
    short = {"queries": 60} if name == "square" else {"steps": 8}
    asked = {"attack": name, "eps": 0.1, **short}
    whole = phalanx.attack(target, x, y, **asked)
    assert 0 < whole.robust_accuracy < whole.accuracy
    parts = phalanx.attack(target, x, y, batch=7, **asked)
    for field in ("adversarial", "queries", "right_after"):
        assert torch.equal(getattr(parts, field), getattr(whole, field))
