"""Rows carried by windows, by rows of all elements at once, or one by one: the same bounds."""

from __future__ import annotations

import pytest
import torch
from bounds_checks import contains
from bounds_nets import Net, around

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.forms import Forms
from phalanx.bounds.front import compute
from phalanx.bounds.options import Options
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import Region, box
from phalanx.bounds.windows import Place, Window, begun, joined, laid_out
from phalanx.graph.ir import Graph

PLAIN = {"padding": (1, 1), "dilation": (1, 1), "groups": 1}


def images(seed: int = 0, bias: bool = True) -> Graph:
    """Two blocks with a shortcut of another stride, as residual networks have."""
    net = Net(seed, (2, 12, 12))

    def conv(out: int, into: int, kernel: int, stride: int, padding: int) -> dict:
        tensors = {"weight": net.draw(out, into, kernel, kernel) / (into**0.5 * kernel)}
        if bias:
            tensors["bias"] = net.draw(out)
        steps = {**PLAIN, "padding": (padding, padding), "stride": (stride, stride)}
        return {"tensors": tensors, **steps}

    net.add("conv", **conv(3, 2, 3, 1, 1)).add("relu")
    first = net.last
    net.add("conv", **conv(4, 3, 4, 2, 1)).add("relu").add("conv", **conv(4, 4, 3, 1, 1))
    branch, net.last = net.last, first
    net.add("conv", **conv(4, 3, 1, 2, 0)).add("add", branch).add("relu")
    net.add("conv", **conv(3, 4, 3, 1, 0)).add("conv", **conv(3, 3, 2, 2, 1)).add("relu")
    return net.graph()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("bias", [True, False])
def test_windows_and_whole_images_give_the_same(monkeypatch, bias: bool, norm: str) -> None:
    for seed in range(3):
        graph = images(seed, bias)
        region = around(graph, 0.2, seed)
        if norm != "linf":
            region = Region(region.lower, region.upper, region.centre, norm, 0.6)
        monkeypatch.setattr("phalanx.bounds.engine.WORTH_A_PASS", 0)
        by_windows = compute(graph, region)
        contains(graph, region, by_windows, count=60, steps=4)
        monkeypatch.setattr("phalanx.bounds.windowed.settled_by_sign", lambda *_: False)
        whole = compute(graph, region)
        monkeypatch.setattr("phalanx.bounds.engine.possible", lambda _: False)
        torch.testing.assert_close(compute(graph, region).lower, whole.lower)
        monkeypatch.setattr("phalanx.bounds.engine.WORTH_A_PASS", 1 << 60)
        torch.testing.assert_close(compute(graph, region).lower, whole.lower)
        assert (by_windows.lower - whole.lower).abs().max() < 0.05
        monkeypatch.undo()


def test_turns_change_nothing(monkeypatch) -> None:
    graph = images(5)
    region = around(graph, 0.2, 5)
    found = compute(graph, region)
    monkeypatch.setattr("phalanx.bounds.engine.BLOCK", 1)
    torch.testing.assert_close(compute(graph, region).lower, found.lower)


def test_a_network_that_is_one_image_of_its_input() -> None:
    """Windows that reach the input: the first layer's bounds of an l2 ball, and of a box."""
    graph = images(2)
    boxes = around(graph, 0.3, 2)
    for region in (boxes, Region(boxes.lower, boxes.upper, boxes.centre, "l2", 0.5)):
        contains(graph, region, compute(graph, region), count=60, steps=0)


def test_windows_of_different_sizes_are_added_in_place() -> None:
    image = torch.arange(1.0, 26.0).reshape(1, 5, 5)
    at = torch.tensor([6, 18])
    large, small = Place((5, 5), start=(-1, -1), size=(3, 3)), Place((5, 5))
    first = Window(torch.ones(2, 1, 3, 3), at, large, (1, 5, 5))
    second = Window(2 * torch.ones(2, 1, 1, 1), at, small, (1, 5, 5))
    both = joined(second, first)
    assert both.place.start == (-1, -1)
    sums = [(w.values.flatten(1) * laid_out(image, w.place)[at]).sum(1) for w in (first, second)]
    found = (both.values.flatten(1) * laid_out(image, both.place)[at]).sum(1)
    assert torch.equal(found, sums[0] + sums[1])


def test_an_entry_is_where_it_is_said_to_be() -> None:
    entry = torch.tensor([0, 7, 17])
    window = begun((2, 3, 3), entry, torch.tensor([1.0, -1.0, 1.0]))
    image = torch.arange(18.0).reshape(2, 3, 3)
    found = (window.values.flatten(1) * laid_out(image, window.place)[window.at]).sum(1)
    assert found.tolist() == [0.0, -7.0, 17.0]


def test_forms_contain_what_they_speak_of() -> None:
    graph = prepare(Net(3, (4,)).dense(6, 2.0).add("relu").dense(6).add("relu").graph())
    region = around(graph, 0.4, 3)
    engine = Engine(graph, region, Settings(backward=False))
    engine.bound_all()
    forms = Forms(engine)
    for node in graph:
        wide = engine.boxes[node.name]
        tight = forms.cut(node, wide)
        assert (tight.lower >= wide.lower).all()
        assert (tight.upper <= wide.upper).all()
        form = forms.found[node.name]
        assert form.coefficients.shape == (4, 3, *node.shape)
    many = box(region.lower.repeat(300, 1), region.upper.repeat(300, 1))
    few, lot = compute(graph, region).lower, compute(graph, many).lower
    torch.testing.assert_close(lot, few.repeat(300, 1))


def test_rows_of_a_layer_whose_dead_entries_are_cut() -> None:
    """Arguments of ReLUs that are off are numbers like others where rows ask for them."""
    net = Net(7, (8,)).dense(80).add("relu").dense(80)
    layer = net.last
    graph = prepare(net.add("relu").dense(80).add("relu").dense(3).builder.graph(net.last))
    region = around(graph, 1e-3, 7)
    engine = Engine(graph, region, Settings())
    engine.bound_all()
    assert any(engine.boxes[layer].upper.flatten() < 0)
    rows = torch.eye(80, dtype=torch.float64).unsqueeze(1).expand(-1, 3, -1)
    found = engine.least({layer: rows}, None)
    box = engine.boxes[layer]
    assert (box.lower - 1e-6 <= found.T).all()
    assert (box.upper + 1e-9 >= found.T).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_windows_that_are_wide_from_the_start(norm: str) -> None:
    """One pixel is all window; in full it is bounded before it has a box to meet."""
    net = Net(4, (1, 4, 4))
    weight, steps = {"weight": net.draw(2, 1, 3, 3)}, {**PLAIN, "stride": (2, 2)}
    net.add("conv", tensors=weight, **{**steps, "padding": (0, 0)}).add("leaky-relu", slope=-0.5)
    boxes = around(graph := net.graph(), 0.4, 4)
    region = Region(boxes.lower, boxes.upper, boxes.centre, norm, 0.5)
    found = compute(graph, region, method="alpha-crown-full", options=Options(iterations=3))
    contains(graph, region, found, count=60, steps=0)
