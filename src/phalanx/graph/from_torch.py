"""Read a torch module as a `Graph`, by `torch.export` with a batch of any size.

The program is exported undecomposed: a linear layer is one node and not a transpose and a
product. Its shapes come from the export, in which the batch is a symbol; a program that mixes
the batch with another axis has no graph here and is refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from phalanx.errors import GraphError
from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph
from phalanx.graph.torch_rules import RULES, Call, load_rules
from phalanx.runtime.usercode import user_code

_OUTSIDE = ("placeholder", "output", "get_attr")


def from_torch(module: nn.Module, shape: Sequence[int]) -> Graph:
    """The graph of a module in evaluation mode.

    Args:
        module: maps ``(B, *shape)`` to one tensor ``(B, ...)``; left as it is.
        shape: of one input without the batch axis.

    Raises:
        GraphError: it cannot be exported, mixes rows of the batch, or has an operator that is
            not read; names the node and the operator.
    """
    name = type(module).__name__
    if any(part.training for part in module.modules()):
        raise GraphError(
            f"{name} is in training mode",
            why="Dropout and BatchNorm would make it a different function in every call",
            repair="call .eval() on it",
        )
    load_rules()
    program = _exported(module, tuple(shape), name)
    return _read(program, tuple(shape), name)


def _exported(module: nn.Module, shape: tuple[int, ...], name: str) -> Any:
    parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
    options: dict[str, Any] = {"dtype": torch.float32}
    if parameter is not None:
        options = {"dtype": parameter.dtype, "device": parameter.device}
    # Two rows would do; another number than the sizes of common axes shows in messages.
    example = torch.zeros((7, *shape), **options)
    batch = torch.export.Dim("batch", min=2, max=1 << 16)
    with user_code(f"exporting {name} with torch.export"), torch.no_grad(), _quiet():
        return torch.export.export(_OneInput(module), (example,), dynamic_shapes=({0: batch},))


class _OneInput(nn.Module):
    """The module under a signature of one tensor, whatever its own names it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = False

    def forward(self, x: Tensor) -> Any:
        """What the module returns."""
        return self.module(x)


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporter says to its own developers is not for the user."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def _read(program: Any, shape: tuple[int, ...], name: str) -> Graph:
    builder = Builder(shape)
    tensors = {**program.state_dict, **program.constants}
    stored = {
        spec.arg.name: tensors[spec.target].detach().cpu()
        for spec in program.graph_signature.input_specs
        if spec.target is not None
    }
    values: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = (
                builder.constant(stored[node.name], name=node.name)
                if node.name in stored
                else builder.input
            )
        elif node.op == "call_function":
            values[node] = _translated(node, values, builder)
        elif node.op not in _OUTSIDE:
            raise GraphError(f"node {node.name!r} of {name} is a {node.op}, which is not read")
    return builder.graph(_output(program, values, name))


def _output(program: Any, values: dict[fx.Node, Any], name: str) -> str:
    (outputs,) = next(node for node in program.graph.nodes if node.op == "output").args
    if len(outputs) != 1 or outputs[0] not in values:
        raise GraphError(
            f"{name} returns {len(outputs)} values", why="a classifier returns its logits"
        )
    return values[outputs[0]]


def _translated(node: fx.Node, values: dict[fx.Node, Any], builder: Builder) -> Any:
    call = Call(node, values, builder)
    if call.op not in RULES:
        raise GraphError(
            f"node {node.name!r} ({call.op}) is not supported: this operator is not read",
            repair=f"rewrite it with one of {', '.join(sorted(RULES))}",
        )
    return RULES[call.op](call)
