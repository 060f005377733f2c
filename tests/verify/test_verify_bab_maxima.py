"""Max-pools as ReLUs: the same function, and decided as whole numbers decide it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.prepare import prepare
from phalanx.bounds.programs.encode import encode
from phalanx.bounds.programs.exact import least_exactly
from phalanx.bounds.region import box
from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab.maxima import by_relus
from phalanx.verify.bab.search import SearchOptions, search
from phalanx.verify.outcome import Clock
from phalanx.verify.programs import asked

WINDOWS = {
    "pairs": {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)},
    "overlapping": {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)},
}
NEVER = SearchOptions(few=0, very_few=0)


def pooled(seed: int, windows: str) -> Graph:
    """A convolution, the largest of its windows, and a row of them."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    net = Builder((1, 5, 5))
    steps = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    last = net.add("conv", [net.input], tensors={"weight": draw(2, 1, 2, 2)}, **steps)
    last = net.add("max-pool", [last], **WINDOWS[windows], ceil_mode=True)
    size = torch.Size(net[last].shape).numel()
    last = net.add("reshape", [last], shape=(size,))
    return net.graph(net.add("linear", [last], tensors={"weight": draw(1, size) / size**0.5}))


def around(seed: int, level: float) -> Case:
    x = torch.randn(25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    return Case(x - 0.4, x + 0.4, one, torch.tensor([-level], dtype=torch.float64))


@pytest.mark.parametrize("windows", WINDOWS)
def test_the_function_is_the_same(windows: str) -> None:
    graph = prepare(pooled(0, windows), exact=True).to(torch.float64)
    split = by_relus(graph)
    assert not any(node.op == "max-pool" for node in split)
    x = torch.randn(50, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(run(graph, x), run(split, x))
    assert by_relus(split) is split


@pytest.mark.parametrize("windows", WINDOWS)
def test_decisions_are_those_of_whole_numbers(windows: str) -> None:
    pytest.importorskip("highspy")
    split = 0
    for seed in range(6):
        graph = pooled(seed, windows)
        ready, own = prepare(graph).to(torch.float64), around(seed, 0.0)
        engine = Engine(ready, box(own.lower.reshape(1, 1, 5, 5), own.upper.reshape(1, 1, 5, 5)))
        engine.bound_all()
        program, cost, constant = asked(own, engine, encode(ready, engine.boxes, exact=True))
        least = least_exactly(program, cost, constant).claimed
        found = search(graph, around(seed, least - 0.02), Clock(60), NEVER)
        assert found.verdict is Verdict.VERIFIED, seed
        split += found.stats["domains"]
        found = search(graph, around(seed, least + 0.02), Clock(1), NEVER)
        assert found.verdict is not Verdict.VERIFIED, seed
    assert split > 12, "some need more than their whole box"
