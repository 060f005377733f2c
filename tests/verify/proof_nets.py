"""Networks around every operator that proofs may speak of, files of small ones, proofs of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from bab_nets import drawn, least
from verify_nets import case

from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case, Property
from phalanx.verify.front import verify
from phalanx.verify.outcome import Clock
from phalanx.verify.portfolio import Portfolio
from phalanx.verify.proof.file import Identity, Proof
from phalanx.verify.proving import proof_of
from phalanx.verify.result import Result

WIDTHS = ((4,), (3, 2), (4, 2), (2, 2, 1), (3, 3))
ROWS = ([[1.0, -1.0]], [[1.0, 0.0], [0.5, -1.0]])
NOBODY = Identity("network", "property", "0")
OPERATORS = (
    *("linear", "conv", "conv groups", "conv-transpose", "scale", "add", "sub", "reshape"),
    *(
        "quotient",
        "batch-norm",
        "transpose",
        "expand",
        "take",
        "concat",
        "pad",
        "reduce-sum",
        "avg-pool",
        "avg-pool padded",
    ),
)


def around(op: str, seed: int = 0) -> Graph:
    """An image of 32 numbers, a convolution, the operator between ReLUs, three outputs."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64) / 2

    plain = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    sizes = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 1}
    builder = Builder((2, 4, 4))
    tensors = {"weight": draw(4, 2, 3, 3), "bias": draw(4)}
    first = builder.add("conv", [builder.input], tensors=tensors, **plain)
    last = builder.add("relu", [first])
    arguments = {
        "linear": {"tensors": {"weight": draw(3, 4), "bias": draw(3)}},
        "conv": {"tensors": {"weight": draw(3, 4, 3, 2), "bias": draw(3)}, **sizes},
        "conv groups": {"tensors": {"weight": draw(6, 2, 3, 2)}, **sizes, "groups": 2},
        "conv-transpose": {
            "tensors": {"weight": draw(4, 3, 3, 2), "bias": draw(3)}, **sizes,
            "output_padding": (1, 0),
        },
        "scale": {"tensors": {"weight": draw(4, 1, 1), "bias": draw(4, 4)}},
        "quotient": {"tensors": {"divisor": 0.5 + draw(4, 1, 1).abs()}},
        "batch-norm": {
            "tensors": {
                **{key: draw(4) for key in ("mean", "weight", "bias")},
                "variance": draw(4).square() + 0.1,
            },
            "epsilon": 1e-5,
        },
        "reshape": {"shape": (8, 8)},
        "transpose": {"permutation": (2, 0, 1)},
        "expand": {"shape": (2, 4, 4, 4)},
        "take": {"axis": 1, "tensors": {"indices": torch.tensor([3, 0, 0])}},
        "pad": {"before": (0, 1, 0), "after": (0, 0, -1), "value": 0.7},
        "reduce-sum": {"axes": (0, 2)},
        "avg-pool": {"kernel": (2, 2), "stride": (2, 1), "padding": (0, 0), "count_padding": False},
        "avg-pool padded": {
            "kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "count_padding": False
        },
    }  # fmt: skip
    name = op.partition(" ")[0]
    if name in ("add", "sub", "concat"):
        tensors = {"weight": draw(4, 4, 1, 1), "bias": draw(4)}
        branch = builder.add("conv", [last], tensors=tensors, **{**plain, "padding": (0, 0)})
        constant = builder.constant(draw(4, 4))
        if name == "concat":
            constant = builder.constant(draw(2, 4, 4))
        options = {"axis": 0} if name == "concat" else {}
        both = builder.add(name, [last, branch], **options)
        last = builder.add(name, [both, constant], **options)
    else:
        last = builder.add(name, [last], **arguments[op])
    last = builder.add("relu", [last])
    numbers = int(np.prod(builder[last].shape))
    last = builder.add("reshape", [last], shape=(numbers,))
    last = builder.add("linear", [last], tensors={"weight": draw(3, numbers), "bias": draw(3)})
    return builder.graph(last)


def small(seed: int) -> tuple[Graph, list[list[float]], float]:
    """A network of two inputs, rows of a case, and the least value of the largest of them."""
    graph, rows = drawn(seed, WIDTHS[seed % len(WIDTHS)], skip=seed % 3 == 0), ROWS[seed % 2]
    return graph, rows, truth(seed)


@cache
def truth(seed: int) -> float:
    """By all activation patterns."""
    graph, rows = drawn(seed, WIDTHS[seed % len(WIDTHS)], skip=seed % 3 == 0), ROWS[seed % 2]
    return least(graph, case(rows, [0.0] * len(rows)))


def asked(seed: int, slack: float) -> tuple[Graph, Property]:
    """A property whose largest row is nowhere below ``slack``, and there is."""
    graph, rows, lowest = small(seed)
    return graph, Property((case(rows, [slack - lowest] * len(rows)),))


def answered(graph: Graph, prop: Property, kind: str = "") -> Result:
    """`verify` with evidence, by boxes or signs alone where that is asked for."""
    if not kind:
        return verify(graph, prop, 60, plan=Portfolio(proof=True))
    from phalanx.verdicts import Verdict
    from phalanx.verify.bab.ascent import Steps
    from phalanx.verify.bab.inputs import InputOptions
    from phalanx.verify.bab.relus import ReluOptions
    from phalanx.verify.bab.search import SearchOptions, search

    few = 32 if kind == "boxes" else -1
    steps = Steps(iterations=2)
    relus = ReluOptions(steps, steps, candidates=1, proof=True)
    options = SearchOptions(few, few, InputOptions(proof=True), relus)
    (own,) = prop.cases
    found = search(graph, own, Clock(60.0), options)
    evidence = {} if found.evidence is None else {0: found.evidence}
    if found.verdict is not Verdict.VERIFIED:
        raise AssertionError(found.reason)
    return Result(found.verdict, found.reason, 0.0, 1, 1, evidence=evidence)


def proven(graph: Graph, prop: Property, kind: str = "") -> Proof:
    """Its proof."""
    return proof_of(answered(graph, prop, kind), graph, prop, NOBODY)


def onnx_file(graph: Graph, path: Path) -> Path:
    """A network of `drawn` without skips, as a file."""
    import onnx

    helper, nodes, initial = onnx.helper, [], []
    for node in graph.nodes[1:]:
        if node.op == "relu":
            nodes.append(helper.make_node("Relu", [node.inputs[0]], [node.name], name=node.name))
            continue
        names = [f"{node.name}_{key}" for key in ("weight", "bias")]
        for name, key in zip(names, ("weight", "bias"), strict=True):
            initial.append(onnx.numpy_helper.from_array(node.tensors[key].float().numpy(), name))
        nodes.append(helper.make_node("Gemm", [node.inputs[0], *names], [node.name], transB=1))
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(n, kind, [1, 2]) for n in ("x", graph.output)]
    made = helper.make_graph(nodes, "net", ends[:1], ends[1:], initial)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def query_file(own: Case, path: Path) -> Path:
    """A case as VNN-LIB 1.0."""
    lines = [f"(declare-const {n} Real)" for n in ("X_0", "X_1", "Y_0", "Y_1")]
    for i, (low, high) in enumerate(zip(own.lower.tolist(), own.upper.tolist(), strict=True)):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {high!r}))"]
    for (a, b), shift in zip(own.outputs.tolist(), own.offset.tolist(), strict=True):
        sums = f"(+ (* {a!r} Y_0) (* {b!r} Y_1) {shift!r})"
        lines.append(f"(assert (<= {sums} 0.0))")
    path.write_text("\n".join(lines))
    return path
