"""Proofs: they hold, what was tampered with does not, and no wrong one is ever accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from proof_nets import NOBODY, ROWS, answered, asked, proven, small
from verify_nets import case, double, tent

from phalanx.errors import DataError, GraphError, ParameterError
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case, Property
from phalanx.verdicts import Verdict
from phalanx.verify.portfolio import Portfolio
from phalanx.verify.proof.bounds import Bounds
from phalanx.verify.proof.boxes import extended, parsed
from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.check import check
from phalanx.verify.proof.evidence import ByBound, ByBoxes
from phalanx.verify.proof.file import Identity, Proof, read, write
from phalanx.verify.proof.passes import net_of
from phalanx.verify.proof.rows import Rows
from phalanx.verify.proof.signs import SignTree, paths_of
from phalanx.verify.proving import proof_of
from phalanx.verify.result import Result

KINDS = ("", "boxes", "signs")


def holds(proof: Proof, graph: Graph, prop: Property) -> bool:
    try:
        check(proof, net_of(graph), prop)
    except ProofBroken:
        return False
    return True


def test_what_is_broken_says_where_and_why() -> None:
    broken = ProofBroken("leaf 3", "its bound is -1")
    assert str(broken) == "proof does not hold: leaf 3: its bound is -1"
    assert broken.exit_code == 5


@pytest.mark.parametrize("kind", KINDS)
def test_proofs_of_random_networks_hold(kind: str, tmp_path: Path) -> None:
    for seed in range(6 if kind else 3):
        graph, prop = asked(seed, 0.02)
        proof = proven(graph, prop, kind)
        assert write(proof, tmp_path / "p.safetensors") > 0
        assert holds(read(tmp_path / "p.safetensors"), graph, prop), seed


def test_conjunctions_of_inputs_and_cases_side_by_side() -> None:
    """Rows that read inputs, several cases over two boxes, by bounds, boxes and signs together."""
    graph, rows, lowest = small(1)
    near = case(rows, [0.01 - lowest] * len(rows))
    far = case(rows, [9.0 - lowest] * len(rows), side=0.5)
    inputs = torch.tensor([[0.1, -0.1]] * len(rows), dtype=torch.float64)
    mixed = replace(near, inputs=inputs, offset=near.offset + 0.3)
    prop = Property((near, far, mixed))
    result = answered(graph, prop)
    assert (result.verdict, result.arithmetic) == (Verdict.VERIFIED, "outward")
    proof = proof_of(result, graph, prop, NOBODY)
    assert holds(proof, graph, prop)
    assert not holds(proof, graph, Property((near, replace(far, offset=near.offset - 9), mixed)))


@pytest.mark.parametrize("kind", ["boxes", "signs"])
@pytest.mark.parametrize("seed", range(8))
def test_no_proof_of_what_is_false_is_accepted(kind: str, seed: int) -> None:
    """The proof of a neighbouring property, and of nothing in particular, where the answer is sat.

    Enumeration of all activation patterns says what is true.
    """
    graph, prop = asked(seed, 0.05)
    proof, net = proven(graph, prop, kind), net_of(graph)
    draw = np.random.default_rng(seed)
    for slack in (-1e-6, -0.05, -1.0):
        _, wrong = asked(seed, slack)
        assert not holds(proof, graph, wrong)
        for _ in range(10):
            assert not holds(scrambled(proof, draw), graph, wrong)
        rows = Rows.of(wrong.cases[0], net)
        with pytest.raises(ProofBroken):
            extended(net, rows, ByBoxes(np.array([-1]), np.zeros(0)), out_of(40))


def test_a_proof_is_not_made_when_time_is_over() -> None:
    """Walking a tree of boxes and cutting it further takes as long as the search."""
    graph, prop = asked(3, 0.02)
    net, rows = net_of(graph), Rows.of(prop.cases[0], net_of(graph))
    boxes = proven(graph, prop, "boxes").boxes[0]
    assert len(extended(net, rows, boxes, lambda: False).inputs) == len(boxes.inputs)
    with pytest.raises(ProofBroken, match="time was over"):
        extended(net, rows, boxes, lambda: True)
    result = replace(answered(graph, prop), evidence={0: boxes})
    assert proof_of(result, graph, prop, NOBODY).boxes
    with pytest.raises(ProofBroken, match="time was over"):
        proof_of(result, graph, prop, NOBODY, lambda: True)


def out_of(steps: int) -> Callable[[], bool]:
    left = [steps]

    def expired() -> bool:
        left[0] -= 1
        return left[0] < 0

    return expired


def scrambled(proof: Proof, draw: np.random.Generator) -> Proof:
    """Random slopes, multipliers and shares, of any size; random cuts."""
    signs, boxes = {}, {}
    for number, tree in proof.signs.items():
        scale = 10.0 ** draw.integers(-3, 6)
        signs[number] = replace(
            tree,
            slopes=draw.random(tree.slopes.shape).astype(np.float16),
            multipliers=scale * draw.random(tree.multipliers.shape),
            shares=scale * draw.random(tree.shares.shape),
        )
    for number, found in proof.boxes.items():
        cuts = draw.uniform(-1.5, 1.5, found.places.shape)
        inputs = np.where(found.inputs < 0, -1, draw.integers(0, 2, found.inputs.shape))
        boxes[number] = ByBoxes(inputs, cuts)
    return replace(proof, signs=signs, boxes=boxes)


def of_signs() -> tuple[Graph, Property, Proof, SignTree]:
    """With several leaves, some of them closed by multipliers."""
    for seed in range(20):
        graph, prop = asked(seed, 0.005)
        proof = proven(graph, prop, "signs")
        if len(proof.signs[0].shares) > 3 and (proof.signs[0].multipliers > 0).any():
            return graph, prop, proof, proof.signs[0]
    raise AssertionError("no such network")


def changes(tree: SignTree) -> dict[str, SignTree]:
    """Everything that may not be said of a case."""
    split, leaf = tree.split, int(np.flatnonzero(tree.split < 0)[0])
    (name, entry), *rest = tree.units
    whole, half = np.ones_like(tree.slopes), np.zeros_like(tree.slopes)
    return {
        "leaf left out": replace(
            tree, split=np.delete(split, leaf), slopes=tree.slopes[1:], shares=tree.shares[1:]
        ),
        "leaf for a half": replace(tree, split=split[: leaf + 1]),
        "nothing": replace(tree, split=split[:0], slopes=half[:0], shares=tree.shares[:0]),
        "more behind the end": replace(tree, split=np.append(split, -1)),
        "a leaf more": replace(
            tree,
            split=np.append(split, -1),
            slopes=np.append(tree.slopes, half[:1], 0),
            shares=np.append(tree.shares, tree.shares[:1], 0),
        ),
        "no unit": replace(tree, split=np.where(split == split[0], 99, split)),
        "a unit twice": replace(tree, split=np.where(split >= 0, split[0], split)),
        "slopes above one": replace(tree, slopes=whole * np.float16(1.25)),
        "slopes below zero": replace(tree, slopes=whole * np.float16(-0.25)),
        "slopes of NaN": replace(tree, slopes=whole * np.float16(np.nan)),
        "negative multipliers": replace(tree, multipliers=-tree.multipliers),
        "negative shares": replace(tree, shares=-tree.shares),
        "no shares": replace(tree, shares=np.zeros_like(tree.shares)),
        "multipliers missing": replace(tree, multipliers=tree.multipliers[:-1]),
        "too many multipliers": replace(tree, multipliers=np.append(tree.multipliers, 1.0)),
        "multipliers of NaN": replace(tree, multipliers=tree.multipliers * np.nan),
        "infinite shares": replace(tree, shares=tree.shares * np.inf),
        "shares of more rows": replace(tree, shares=np.append(tree.shares, tree.shares, 1)),
        "unit of nothing": replace(tree, units=(("nothing", 0), *rest)),
        "entry of nothing": replace(tree, units=((name, 77), *rest)),
        "entry below zero": replace(tree, units=((name, -1), *rest)),
        "a unit by two names": replace(tree, units=((name, entry), (name, entry), *rest[1:])),
        "a unit less": replace(tree, units=tree.units[1:]),
    }


def test_tampered_signs_do_not_hold() -> None:
    graph, prop, proof, tree = of_signs()
    assert holds(proof, graph, prop)
    for what, other in changes(tree).items():
        assert not holds(replace(proof, signs={0: other}), graph, prop), what


def test_flipped_signs_do_not_hold() -> None:
    """What closes a leaf closes the one in whose place it is put, but for luck: not all of them."""
    graph, prop, proof, tree = of_signs()
    leaves = len(tree.shares)
    refused = 0
    paths = list(paths_of(tree.split, len(tree.units)))
    ends = np.cumsum([0, *map(len, paths)])
    for a in range(leaves):
        for b in range(a):
            if len(paths[a]) != len(paths[b]):
                continue
            order, weights = np.arange(leaves), tree.multipliers.copy()
            order[[a, b]] = b, a
            weights[ends[a] : ends[a + 1]] = tree.multipliers[ends[b] : ends[b + 1]]
            weights[ends[b] : ends[b + 1]] = tree.multipliers[ends[a] : ends[a + 1]]
            other = replace(
                tree, slopes=tree.slopes[order], shares=tree.shares[order], multipliers=weights
            )
            refused += not holds(replace(proof, signs={0: other}), graph, prop)
    assert refused > 0


def test_another_network_box_or_property_does_not_hold() -> None:
    for kind in ("boxes", "signs"):
        graph, prop = asked(3, 0.01)
        proof, (own,) = proven(graph, prop, kind), prop.cases
        nodes = tuple(
            replace(n, tensors={k: -t for k, t in n.tensors.items()}) if n.name == "y" else n
            for n in graph
        )
        assert not holds(proof, Graph(nodes, "y"), prop)
        wider = Case(own.lower * 4, own.upper * 4, own.outputs, own.offset - 1)
        assert not holds(proof, graph, Property((wider,)))
        assert not holds(proof, graph, Property((own, own)))
        assert not holds(replace(proof, signs={}, boxes={}), graph, prop)
        with pytest.raises(DataError):
            check(proof, net_of(graph), Property((Case(*[torch.zeros(3).double()] * 2,
                  torch.zeros(1, 2).double(), torch.ones(1).double()),)))  # fmt: skip


def test_tampered_boxes_do_not_hold() -> None:
    graph, prop = asked(2, 0.005)
    proof = proven(graph, prop, "boxes")
    found = proof.boxes[0]
    assert len(found.places) > 1
    first = int(np.flatnonzero(found.inputs < 0)[0])
    wrong = {
        "a half is missing": ByBoxes(np.delete(found.inputs, first), found.places),
        "cut off": ByBoxes(found.inputs[:-1], found.places),
        "nothing": ByBoxes(np.zeros(0, dtype=np.int64), np.zeros(0)),
        "more": ByBoxes(np.append(found.inputs, -1), found.places),
        "no input": ByBoxes(np.where(found.inputs >= 0, 9, -1), found.places),
        "below minus one": ByBoxes(np.where(found.inputs < 0, -2, found.inputs), found.places),
        "a place less": ByBoxes(found.inputs, found.places[:-1]),
        "NaN": ByBoxes(found.inputs, np.full_like(found.places, np.nan)),
        "uncut": ByBoxes(np.array([-1]), np.zeros(0)),
        "elsewhere": ByBoxes(found.inputs, np.full_like(found.places, 50.0)),
    }
    for what, tree in wrong.items():
        assert not holds(replace(proof, boxes={0: tree}), graph, prop), what


def test_tampered_bounds_do_not_hold() -> None:
    graph, prop = asked(5, 3.0)
    proof = proven(graph, prop)
    bounds = proof.bounds
    assert bounds is not None
    assert holds(proof, graph, prop)
    none, size = np.zeros(0, dtype=np.int64), bounds.slopes.shape[1]
    slopes = np.full((1, size), 1.5, dtype=np.float16)
    one = np.zeros(1, dtype=np.int64)
    for other in (
        replace(bounds, rows=bounds.rows + 7),
        replace(bounds, cases=bounds.cases + 1),
        replace(bounds, cases=bounds.cases - 1),
        replace(bounds, own=bounds.own + 5),
        replace(bounds, own=none),
        Bounds(none, none, none, bounds.slopes),
        replace(bounds, own=one, slopes=slopes),
        replace(bounds, own=one, slopes=slopes * np.float16(np.nan)),
        replace(bounds, own=one, slopes=np.zeros((1, size + 1), dtype=np.float16)),
    ):
        assert not holds(replace(proof, bounds=other), graph, prop)
    far = Property((replace(prop.cases[0], offset=prop.cases[0].offset - 100.0),))
    assert not holds(proof, graph, far)


def test_bounds_of_cases_and_rows_that_there_are_not_are_named() -> None:
    graph, prop = asked(5, 3.0)
    net = net_of(graph)
    bounds = proven(graph, prop).bounds
    assert bounds is not None
    rows = [Rows.of(own, net) for own in prop.cases]
    assert bounds.check(net, rows) == len(prop.cases)
    for other, why in (
        (replace(bounds, cases=bounds.cases + 1), "of a case that there is not"),
        (replace(bounds, cases=bounds.cases - 1), "of a case that there is not"),
        (replace(bounds, rows=bounds.rows + 7), "of a row that there is not"),
        (replace(bounds, own=bounds.own + 5), "by slopes that there are not"),
        (replace(bounds, own=bounds.own[:0]), "not every case has a row"),
    ):
        with pytest.raises(ProofBroken, match=why):
            other.check(net, rows)


def test_cases_on_boxes_with_one_side_in_common_are_bounded_on_their_own() -> None:
    """Above on the small box; on the larger one, whose upper corner is the same, it is not."""
    graph = tent(kind=torch.float64)
    net = net_of(graph)
    near = replace(case([[0.0, 1.0]], [0.75]), lower=double(-0.25, -0.25))
    far = case([[0.0, 1.0]], [0.75])
    slopes = np.zeros((0, 4), dtype=np.float16)
    numbers, own = np.arange(2, dtype=np.int64), np.full(2, -1, dtype=np.int64)
    bounds = Bounds(numbers, np.zeros(2, dtype=np.int64), own, slopes)
    both = [Rows.of(one, net) for one in (near, far)]
    assert len({rows.key for rows in both}) == 2
    found = bounds.lower(net, both)
    assert found[0] > 0 > found[1]
    with pytest.raises(ProofBroken, match="case 1"):
        bounds.check(net, both)


def test_witnesses_are_judged_without_tolerance() -> None:
    graph, prop = asked(4, -0.02)
    proof = proof_of(answered(graph, prop), graph, prop, NOBODY)
    assert proof.answer == "sat"
    assert holds(proof, graph, prop)
    assert proof.witness is not None
    x, _ = proof.witness
    for other in ((x + 5.0, 0), (x, 3), (x[:1], 0), (np.full_like(x, np.nan), 0)):
        assert not holds(replace(proof, witness=other), graph, prop)
    assert not holds(proof, graph, asked(4, 0.02)[1])


def test_on_the_boundary_a_witness_needs_strictness_to_fail() -> None:
    """|0| + |0| - 0 <= 0 holds at zero; < 0 does not, whatever the roundings."""
    row, zero = case([[0.0, 1.0]], [0.0]), np.zeros(2)
    graph = tent()
    proof = Proof(NOBODY, 1, witness=(zero, 0))
    strict = replace(row, strict=torch.ones(1, dtype=torch.bool))
    assert not holds(proof, graph, Property((strict,)))


# what can be proven at all


def test_other_operators_are_refused_before_the_search() -> None:
    graph, prop = asked(1, 0.01)
    nodes = tuple(replace(n, op="tanh") if n.op == "relu" else n for n in graph)
    with pytest.raises(GraphError, match="tanh"):
        answered(Graph(nodes, "y"), prop)


def test_engines_without_evidence_and_answers_without_proof() -> None:
    graph, prop = asked(1, 0.01)
    from phalanx.verify.front import verify

    with pytest.raises(ParameterError, match="milp"):
        verify(graph, prop, 60, plan=Portfolio(engines=("milp",), proof=True))
    for result in (Result(Verdict.UNKNOWN, "timeout", 1.0, 1), verify(graph, prop, 60)):
        with pytest.raises(ParameterError, match="a proof of"):
            proof_of(result, graph, prop, Identity("a", "b", "c"))


def test_a_case_without_rows_is_never_refuted() -> None:
    graph, _, _ = small(1)
    prop = Property((case([], []),))
    for proof in (
        Proof(NOBODY, 1, boxes={0: ByBoxes(np.array([-1]), np.zeros(0))}),
        Proof(NOBODY, 1, signs={0: SignTree((), np.array([-1]), np.zeros((1, 0), np.float16),
              np.zeros(0), np.zeros((1, 0)))}),
    ):  # fmt: skip
        assert not holds(proof, graph, prop)


def test_trees_are_read_as_they_were_walked() -> None:
    found = ByBoxes(np.array([1, -1, 0, -1, -1]), np.array([0.5, 0.25]))
    tree = parsed(found, 2)
    assert (tree.lower.tolist(), tree.upper.tolist()) == ([1, -1, 3, -1, -1], [2, -1, 4, -1, -1])
    assert ROWS


def test_cases_are_bounded_together_as_they_are_alone() -> None:
    """Over two boxes, with slopes of their own and without."""
    graph, rows, _ = small(7)
    net, draw = net_of(graph), np.random.default_rng(0)
    cases = [case(rows, [0.5 * k] * len(rows), side=1.0 - 0.5 * (k % 2)) for k in range(9)]
    own = [Rows.of(each, net) for each in cases]
    slopes = {node.name: draw.random(node.shape) for node in net.relus}
    told = {k: ByBound(k % len(rows), slopes if k % 3 else {}) for k in range(9)}
    together = Bounds.of(net, told)
    assert together.own.tolist() == [-1, 0, 1, -1, 2, 3, -1, 4, 5]
    alone = [Bounds.of(net, {k: bound}).lower(net, own)[0] for k, bound in told.items()]
    np.testing.assert_allclose(together.lower(net, own), alone, atol=1e-9)
    plain = Bounds.of(net, {k: ByBound(bound.row) for k, bound in told.items()}).lower(net, own)
    assert (np.abs(plain - alone) > 1e-3).any()


def test_leaves_are_cut_through_every_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search closes this box by both rows at once; alone, one leans on one input."""
    graph, prop = asked(133, 0.01)
    found = answered(graph, prop, "boxes")
    assert found.evidence is not None
    assert len(found.evidence[0].inputs) == 1
    left = iter(range(400))
    proof = proof_of(found, graph, prop, NOBODY, lambda: next(left, None) is None)
    assert len(proof.boxes[0].inputs) > 1
    assert holds(proof, graph, prop)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "signs"])
def test_no_proof_of_what_is_false_is_accepted_of_two_hundred(kind: str) -> None:
    for seed in range(100, 300):
        graph, prop = asked(seed, 0.01)
        proof, draw = proven(graph, prop, kind), np.random.default_rng(seed)
        assert holds(proof, graph, prop), seed
        for slack in (-1e-9, -0.01, -0.5):
            _, wrong = asked(seed, slack)
            assert not holds(proof, graph, wrong), seed
            for _ in range(20):
                assert not holds(scrambled(proof, draw), graph, wrong), seed
