"""What runs as float32 is float32, and the process keeps its settings."""

from __future__ import annotations

import pytest
import torch

from phalanx.runtime.device import _switches, full_precision

CPU = torch.device("cpu")


def state() -> list:
    return [getattr(place, name) for place, name, _ in _switches()]


@pytest.mark.parametrize("asked", ["highest", "high", "medium"])
def test_every_switch_is_turned_and_put_back(asked):
    original = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(asked)
        before = state()
        with full_precision(CPU):
            assert state() == [exact for _, _, exact in _switches()]
        with pytest.raises(KeyError), full_precision(CPU):
            raise KeyError
        assert state() == before
        assert torch.get_float32_matmul_precision() == asked
    finally:
        torch.set_float32_matmul_precision(original)


def test_autocast_is_left_outside():
    a = torch.rand(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with full_precision(CPU):
            assert (a @ a).dtype == torch.float32
