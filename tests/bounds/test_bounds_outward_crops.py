"""Rows of rectangles say what whole rows say, for a fraction of the work."""

from __future__ import annotations

from math import prod

import pytest
import torch
from bounds_nets import Net
from torch import Tensor

from phalanx.bounds.outward import affine, crops, passes, walk
from phalanx.bounds.outward.crops import Crop
from phalanx.bounds.outward.passes import Passes
from phalanx.bounds.outward.recheck import outward_ball
from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.specs.threat import Threat

PLAIN = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
CONVOLUTIONS = {
    "plain": PLAIN,
    "strided": {**PLAIN, "stride": (2, 3)},
    "wide padding": {**PLAIN, "padding": (4, 6)},
    "dilated": {**PLAIN, "padding": (2, 0), "dilation": (2, 3)},
    "grouped": {**PLAIN, "groups": 2, "stride": (2, 1)},
    "unpadded": {**PLAIN, "padding": (0, 0), "stride": (3, 2)},
}


def convolution(net: Net, name: str, out: int = 4) -> Net:
    options = CONVOLUTIONS[name]
    read = net.builder[net.last].shape[0] // options["groups"]
    tensors = {"weight": net.draw(out, read, 3, 3) / 3, "bias": net.draw(out)}
    return net.add("conv", tensors=tensors, **options)


def layer(op: str) -> Node:
    """One operator of an image, prepared."""
    net = Net(1, (2, 11, 9))
    if op in CONVOLUTIONS:
        convolution(net, op)
    elif op == "scale":
        net.add(op, tensors={"weight": net.draw(2, 1, 9)})
    else:
        first = net.last
        convolution(net, "plain", 2).add(op, first)
    return prepare(net.builder.graph(net.last)).to(torch.float64)[net.last]


@pytest.mark.parametrize("op", [*CONVOLUTIONS, "add", "sub", "scale"])
def test_rows_of_rectangles_are_those_of_the_adjoint(op: str) -> None:
    node = layer(op)
    assert crops.carries(node)
    entries = torch.arange(prod(node.shape))
    sign = entries.remainder(2).double() * 2 - 1
    unit = torch.diag(sign).reshape(-1, *node.shape)
    seen = torch.zeros(len(entries))
    for which, crop in crops.tiles(node.shape, entries):
        rows = crops.unit_rows(node.shape, entries[which], sign[which], crop)
        assert torch.equal(crop.whole(rows, node.shape), unit[which])
        wholes = affine.adjoint(node, unit[which])
        found = list(crops.adjoint(node, rows, crop))
        assert len(found) == len(wholes) == len(node.inputs)
        for (part, at), whole, shape in zip(found, wholes, node.attributes["inputs"], strict=True):
            torch.testing.assert_close(at.whole(part, shape), whole, rtol=1e-14, atol=0)
        seen[which] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("count", [1, 7, 60, 198])
def test_tiles_hold_their_entries_and_are_not_all_but_empty(count: int) -> None:
    shape = (2, 11, 9)
    entries = torch.randperm(prod(shape), generator=torch.Generator().manual_seed(0))[:count]
    found = list(crops.tiles(shape, entries))
    assert sorted(int(k) for which, _ in found for k in which) == list(range(count))
    for which, crop in found:
        place = entries[which] % 99
        assert ((place // 9 >= crop.top) & (place // 9 < crop.bottom)).all()
        assert ((place % 9 >= crop.left) & (place % 9 < crop.right)).all()
    assert len(found) <= max(1, count // crops.TOGETHER * 2)


def test_what_meets_is_held_whole() -> None:
    rows = torch.randn(2, 3, 3, 2), torch.randn(2, 3, 2, 4)
    places = Crop(1, 0, 4, 2), Crop(0, 1, 2, 5)
    first, second, both = crops.alike(*zip(rows, places, strict=True), (3, 6, 6))
    assert both == Crop(0, 0, 4, 5)
    for part, row, at in zip((first, second), rows, places, strict=True):
        assert torch.equal(both.whole(part, (3, 6, 6)), at.whole(row, (3, 6, 6)))
    first, second, both = crops.alike(
        (rows[0], places[0]), (torch.ones(2, 3, 6, 6), None), (3, 6, 6)
    )
    assert both is None
    assert torch.equal(first, places[0].whole(rows[0], (3, 6, 6)))
    assert torch.equal(second, torch.ones(2, 3, 6, 6))


def residual(seed: int, curve: str) -> Graph:
    """Convolutions of all kinds, branches that meet (three at one value), a scale, dense layers."""
    net = convolution(Net(seed, (2, 11, 9)), "plain").add(curve)
    start = net.last
    first = convolution(net, "plain").add(curve).last
    net.last = start
    net.add("scale", tensors={"weight": net.draw(4, 1, 1), "bias": net.draw(4, 1, 1)})
    net.add("add", first).add("sub", start).add(curve)
    convolution(net, "dilated").add(curve)
    convolution(net, "grouped").add(curve)
    convolution(net, "strided").add(curve)
    return prepare(net.flat().dense(6).add(curve).graph()).to(torch.float64)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("curve", ["relu", "sigmoid"])
def test_bounds_are_those_of_whole_rows(
    curve: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "FEW", 10**9)  # else a settled row stops where its company lets it
    graph = residual(3, curve)
    x = torch.rand(1, 2, 11, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    region = outward_ball(Threat(norm, 0.1 if norm == "linf" else 0.5), x)
    cropped, widths = Passes(graph, region), []
    before = crops.adjoint

    def seen(node: Node, rows: Tensor, crop: Crop):
        widths.append(rows[0].numel() / prod(node.shape))
        return before(node, rows, crop)

    monkeypatch.setattr(crops, "adjoint", seen)
    Passes(graph, region)
    monkeypatch.setattr(passes.crops, "carries", lambda node: False)
    whole = Passes(graph, region)
    loose = 0
    for node in graph:
        for side in ("lower", "upper"):
            ours, theirs = (getattr(p.sides[node.name], side) for p in (cropped, whole))
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        loose += int((whole.sides[node.name].lower < whole.sides[node.name].upper).sum())
    assert loose > 100
    assert min(widths) < 0.2, "rectangles were carried"
