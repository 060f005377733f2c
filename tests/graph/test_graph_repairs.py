"""What an error tells to write is the same function, is read, and is bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phalanx.bounds.prepare import prepare
from phalanx.errors import GraphError
from phalanx.graph.from_torch import from_torch
from phalanx.graph.onnx_rules import RULES as FROM_ONNX
from phalanx.graph.repairs import FORMULAS, OTHERWISE, WAYS, repair_of
from phalanx.graph.run import run

Function = Callable[[Tensor], Tensor]
ALPHA, LAMBD, WEIGHT = 0.7, 0.3, 0.2
SPACE = {name: getattr(torch, name) for name in ("relu", "exp", "log", "abs", "tanh", "floor")}
SPACE |= {"clamp": torch.clamp, "alpha": ALPHA, "lambd": LAMBD, "weight": WEIGHT}

ORIGINALS: dict[str, Function] = {
    "elu": lambda x: F.elu(x, ALPHA),
    "celu": lambda x: F.celu(x, ALPHA),
    "selu": F.selu,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "softsign": lambda x: x / (1 + x.abs()),  # torch spells it out itself
    "softshrink": lambda x: F.softshrink(x, LAMBD),
    "prelu": nn.PReLU(init=WEIGHT),
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "ceil": torch.ceil,
}
OTHERS: dict[str, Function] = {
    "erf": torch.erf,
    "amax": lambda x: x.amax(1),
    "max": lambda x: x.max(1).values,
    "amin": lambda x: x.amin(1),
    "min": lambda x: x.min(1).values,
    "adaptivemaxpool1d": lambda x: F.adaptive_max_pool1d(x.unsqueeze(1), 2),
    "adaptivemaxpool2d": lambda x: F.adaptive_max_pool2d(x.view(-1, 1, 2, 4), 2),
    "argmax": lambda x: x.argmax(1),
    "logsoftmax": lambda x: F.log_softmax(x, 1),
    "logsumexp": lambda x: x.logsumexp(1),
    "groupnorm": lambda x: F.group_norm(x, 2),
    "instancenorm": lambda x: F.instance_norm(x.unsqueeze(1)),
    "cumsum": lambda x: x.cumsum(1),
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(1, 1),
    "repeat": lambda x: x.repeat(1, 2),
    "tile": lambda x: x.tile(1, 2),
    "pixelshuffle": lambda x: F.pixel_shuffle(x.view(-1, 4, 1, 2), 2),
    "einsum": lambda x: torch.einsum("bi,bj->bij", x, x),
}
MAKERS: dict[str, Function] = {
    "zeros": lambda x: x + torch.zeros(8),
    "ones": lambda x: x + torch.ones(8),
    "full": lambda x: x + torch.full((8,), 2.0),
    "eye": lambda x: x @ torch.eye(8),
    "arange": lambda x: x + torch.arange(8),
    "linspace": lambda x: x + torch.linspace(0, 1, 8),
    "newzeros": lambda x: x + x.new_zeros(8),
    "newones": lambda x: x + x.new_ones(8),
    "newfull": lambda x: x + x.new_full((8,), 2.0),
    "liftfreshcopy": lambda x: x + torch.tensor([1.0] * 8),
    "scalartensor": lambda x: x + torch.scalar_tensor(1.0),
}
OTHERS |= MAKERS
OF_FILES = {name for name in WAYS if name.startswith("reduce")} | {
    "depthtospace", "instancenormalization", "layernormalization", "lstm", "gru", "rnn",
}  # fmt: skip


class Applied(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_every_way_is_tried() -> None:
    assert set(ORIGINALS) == set(FORMULAS)
    assert {*OTHERS, *OF_FILES} == set(WAYS)
    assert not {name.lower() for name in FROM_ONNX} & {"layernormalization", "elu", "reducemax"}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_the_same_function_and_is_bounded(name: str) -> None:
    code = compile(FORMULAS[name], name, "eval")

    def written(x: Tensor) -> Tensor:
        return eval(code, {**SPACE, "x": x})  # noqa: S307 - the table's own words

    x = torch.cat([torch.linspace(-6, 6, 97), torch.tensor([0.0, 50.0, -50.0])]).unsqueeze(1)
    torch.testing.assert_close(written(x), ORIGINALS[name](x), rtol=1e-5, atol=1e-6)
    graph = from_torch(Applied(written).eval(), (1,))
    torch.testing.assert_close(run(graph, x), written(x))
    prepare(graph)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "softsign"])
def test_the_operator_is_refused_with_its_formula(name: str) -> None:
    with pytest.raises(GraphError, match="not supported") as refused:
        from_torch(Applied(ORIGINALS[name]).eval(), (8,))
    assert refused.value.repair == f"write {FORMULAS[name]}, the same function"
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("name", OTHERS)
def test_the_operator_is_refused_with_a_way(name: str) -> None:
    with pytest.raises(GraphError, match="not supported") as refused:
        from_torch(Applied(OTHERS[name]).eval(), (8,))
    assert refused.value.repair == WAYS[name]


def test_trees_of_pairs_are_read() -> None:
    def largest(x: Tensor) -> Tensor:
        a, b = x[:, :4], x[:, 4:]
        return b + torch.relu(a - b)

    def smallest(x: Tensor) -> Tensor:
        a, b = x[:, :4], x[:, 4:]
        return b - torch.relu(b - a)

    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    for function, pair in ((largest, torch.maximum), (smallest, torch.minimum)):
        graph = from_torch(Applied(function).eval(), (8,))
        torch.testing.assert_close(run(graph, x), pair(x[:, :4], x[:, 4:]))


def test_of_others_it_says_what_is_left() -> None:
    assert repair_of("SomethingElse") == OTHERWISE
    assert "smoothing" in OTHERWISE
