"""What is worked out once for a graph, and when it is worked out again."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from bounds_nets import Net, around, network

from phalanx.bounds import prepare as preparing
from phalanx.bounds.front import compute
from phalanx.bounds.lipschitz import eclipse, product
from phalanx.bounds.lipschitz.kept import once_a_graph
from phalanx.bounds.prepare import Prepared, prepare
from phalanx.graph.ir import Graph


def dense() -> Graph:
    net = Net(0, (4,)).dense(6).add("relu").dense(3)
    return net.builder.graph(net.last)


def test_a_graph_in_its_type_already_stays_itself() -> None:
    graph = dense()
    assert graph.to(torch.float64) is graph
    single = graph.to(torch.float32)
    assert single is not graph
    assert {t.dtype for node in single for t in node.tensors.values()} == {torch.float32}
    assert {t.dtype for node in graph for t in node.tensors.values()} == {torch.float64}
    assert single.to(torch.float32) is single


def test_a_prepared_graph_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepare(network("conv")).to(torch.float32)
    assert isinstance(ready, Prepared)
    monkeypatch.setattr(preparing, "simplify", None)
    region = around(ready.to(torch.float64), 0.1).to(torch.float32)
    assert torch.isfinite(compute(ready, region).lower).all()


@pytest.mark.parametrize(
    ("method", "module", "name"),
    [("op-norm", product, "layer_norm"), ("eclipse", eclipse, "chain_form")],
)
def test_norms_are_worked_out_once_and_again_for_other_weights(
    method: str, module, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a graph's weights are a module's, and written to behind autograd's back."""
    calls, find = [], getattr(module, name)

    def counted(*given):
        calls.append(given)
        return find(*given)

    monkeypatch.setattr(module, name, counted)
    graph = prepare(dense())
    regions = [around(graph, eps, seed=eps_at) for eps_at, eps in enumerate((0.1, 0.2, 0.3))]
    first = compute(graph, regions[0], method=method).lower
    once = len(calls)
    for region in regions:
        compute(graph, region, method=method)
    assert len(calls) == once > 0
    for node in graph:
        for tensor in node.tensors.values():
            tensor.data.mul_(3.0)
    again = compute(graph, regions[0], method=method).lower
    fresh = compute(dense_times(3.0), regions[0], method=method).lower
    assert torch.equal(again, fresh)
    assert not torch.equal(again, first)
    assert len(calls) > once


def dense_times(factor: float) -> Graph:
    graph = dense()
    for node in graph:
        for tensor in node.tensors.values():
            tensor.mul_(factor)
    return graph


def test_arguments_are_told_apart_and_graphs_are_let_go() -> None:
    named = once_a_graph(lambda graph, word, *, end="": graph.output + word + end)
    graph = dense()
    assert named(graph, "a") != named(graph, "b") != named(graph, "b", end="c")
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None
