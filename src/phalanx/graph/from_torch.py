"""Read a torch module as a `Graph`, by `torch.export` with a batch of any size.

The program is exported undecomposed: a linear layer is one node and not a transpose and a
product. Its shapes come from the export, in which the batch is a symbol; a program that mixes
the batch with another axis has no graph here and is refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from weakref import ref

import torch
from torch import Tensor, fx, nn

from phalanx.errors import GraphError
from phalanx.graph.build import Builder
from phalanx.graph.formulas import recognised
from phalanx.graph.ir import Graph, refuse_opaque
from phalanx.graph.repairs import NOT_READ, repair_of
from phalanx.graph.torch_rules import RULES, Call, load_rules
from phalanx.runtime.usercode import user_code

_SIZES = (torch.SymInt, torch.SymBool, torch.SymFloat)
_OUTSIDE = ("placeholder", "output", "get_attr")


def from_torch(module: nn.Module, shape: Sequence[int]) -> Graph:
    """The graph of a module in evaluation mode.

    Args:
        module: maps ``(B, *shape)`` to one tensor ``(B, ...)``; left as it is.
        shape: of one input without the batch axis.

    Raises:
        GraphError: it cannot be exported, mixes rows of the batch, or has an operator that is
            not read; names the node, the operator and the layer.
    """
    return refuse_opaque(_graph(module, tuple(shape), opaque=False))


def torch_outline(module: nn.Module, shape: Sequence[int]) -> Graph:
    """`from_torch`, to look at: operators that are not read are opaque nodes.

    Raises:
        GraphError: it cannot be exported, or its output has no batch in front.
    """
    return _graph(module, tuple(shape), opaque=True)


def _graph(module: nn.Module, shape: tuple[int, ...], *, opaque: bool) -> Graph:
    name = type(module).__name__
    if any(part.training for part in module.modules()):
        raise GraphError(
            f"{name} is in training mode",
            why="Dropout and BatchNorm would make it a different function in every call",
            repair="call .eval() on it",
        )
    load_rules()
    program = _exported(module, shape, name)
    return _read(program, shape, name, opaque=opaque)


class LiveGraph:
    """The graph of a module that is being trained, with its tensors as they are now.

    The module is exported once, from a copy in evaluation mode; `graph` reads the program again
    with the module's own tensors in place, so that what is computed from the graph can be
    differentiated by the module's parameters.

    Args:
        module: in any mode; left as it is.
        shape: of one input without the batch axis.

    Raises:
        GraphError: see `from_torch`.

    >>> layer = nn.Linear(2, 1)
    >>> weight = LiveGraph(layer, (2,)).graph().nodes[-1].tensors["weight"]
    >>> weight is layer.weight
    True
    """

    def __init__(self, module: nn.Module, shape: Sequence[int]) -> None:
        load_rules()
        self._module, self._shape, self._name = ref(module), tuple(shape), type(module).__name__
        with user_code(f"copying {self._name}"):
            still = deepcopy(module).eval()
        self._program = _exported(still, self._shape, self._name)
        self.graph()  # what has no row is refused now

    def graph(self, given: Mapping[str, Tensor] | None = None) -> Graph:
        """The graph as of now.

        Args:
            given: tensors to take in place of the module's own, by their names in it: the
                statistics of a batch, ``1.running_mean``.
        """
        module = self._module()
        if module is None:
            raise GraphError(f"{self._name} is gone", why="a live graph keeps no module alive")
        live: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
        live.update(module.named_buffers(remove_duplicate=False))
        live.update(given or {})
        own = {f"module.{name}": tensor for name, tensor in live.items()}
        return refuse_opaque(_read(self._program, self._shape, self._name, own))


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


def _read(
    program: Any,
    shape: tuple[int, ...],
    name: str,
    given: Mapping[str, Tensor] | None = None,
    *,
    opaque: bool = False,
) -> Graph:
    """The program's graph; ``given`` are tensors to take, as they are, for stored ones.

    Parts of formulas may be opaque nodes in it that are no formula; with ``opaque`` whatever is
    not read.
    """
    builder = Builder(shape)
    own = dict(given or {})
    kept = {**program.state_dict, **program.constants}
    tensors = own | {k: tensor.detach().cpu() for k, tensor in kept.items() if k not in own}
    stored = {
        spec.arg.name: tensors[spec.target]
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
        elif isinstance(node.meta.get("val"), _SIZES):
            values[node] = None  # made of the batch's size: no node stands for it
        elif node.op == "call_function":
            values[node] = _translated(node, values, builder, opaque)
        elif node.op not in _OUTSIDE:
            raise GraphError(f"node {node.name!r} of {name} is a {node.op}, which is not read")
    return recognised(builder.graph(_output(program, values, name)))


def _output(program: Any, values: dict[fx.Node, Any], name: str) -> str:
    (outputs,) = next(node for node in program.graph.nodes if node.op == "output").args
    if len(outputs) != 1 or outputs[0] not in values:
        raise GraphError(
            f"{name} returns {len(outputs)} values", why="a classifier returns its logits"
        )
    if isinstance(refused := values[outputs[0]], GraphError):
        raise refused
    return values[outputs[0]]


def _translated(node: fx.Node, values: dict[fx.Node, Any], builder: Builder, opaque: bool) -> Any:
    call = Call(node, values, builder)
    try:
        if call.op not in RULES:
            raise call.refusal(NOT_READ, repair_of(call.op))
        return RULES[call.op](call)
    except GraphError as refused:
        if not opaque:
            raise
        return call.opaque(refused)
