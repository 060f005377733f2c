"""What units are worth deciding: by hand."""

from __future__ import annotations

import torch

from phalanx.verify.bab.scores import babsr, gaps
from phalanx.verify.bab.splits import Domains


def one(alpha: list[float], signs: list[int]) -> Domains:
    """One sub-problem of so many units."""
    nothing = torch.zeros(1, len(alpha))
    kept = torch.tensor([signs], dtype=torch.int8)
    return Domains(kept, torch.tensor([alpha]), nothing, torch.ones(1, 1), torch.zeros(1))


LOW, HIGH = torch.tensor([-1.0, -1.0, -2.0, -1.0]), torch.tensor([3.0, 3.0, 2.0, 1.0])


def test_babsr_is_the_rows_weight_times_how_far_the_lines_are_away() -> None:
    """Falling rows meet the chord's offset ``-u l / (u - l)``, rising ones the line below."""
    domains = one([0.5, 0.5, 0.25, 0.5], [0, 0, 0, 1])
    met = torch.tensor([[-2.0, 2.0, 2.0, -5.0]])
    # Below, the second unit's line is off by min(0.5, 1.5), the third one's by min(0.5, 1.5).
    assert babsr(domains, met, LOW, HIGH).tolist() == [[2 * 0.75, 2 * 0.5, 2 * 0.5, -1.0]]


def test_gaps_are_what_the_lines_cost_where_the_bound_is_least() -> None:
    domains = one([0.5, 0.5, 0.25, 0.5], [0, 0, 0, -1])
    met, read = torch.tensor([[-2.0, 2.0, 2.0, -5.0]]), torch.tensor([[0.0, -0.5, 9.0, 0.0]])
    # The chord at 0 is 3/4; the line below at -1/2 is -1/4; at 2 it is 1/2 instead of 2.
    assert gaps(domains, met, read, LOW, HIGH).tolist() == [[1.5, 0.5, 3.0, -1.0]]
