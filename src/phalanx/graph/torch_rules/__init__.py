"""ATen operators in the graph's own terms: one function an operator, by its plain name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, fx

from phalanx.errors import GraphError
from phalanx.graph.build import Builder


@dataclass(frozen=True)
class Call:
    """One node of an exported program that is being translated.

    Attributes:
        node: of the program.
        values: what stands for the program's nodes: names of ours; None for sizes; in outlines
            refusals for what has no place in a graph.
        builder: takes the translation.
    """

    node: fx.Node
    values: Mapping[fx.Node, Any]
    builder: Builder

    @property
    def op(self) -> str:
        """The operator's name: ``conv2d`` for ``aten.conv2d.default``."""
        schema = getattr(self.node.target, "_schema", None)
        if schema is None:
            return getattr(self.node.target, "__name__", str(self.node.target))
        return schema.name.removeprefix("aten::")

    def arguments(self) -> dict[str, Any]:
        """By the names of the operator's schema, defaults filled in; nodes stay nodes."""
        schema: Any = self.node.target._schema  # type: ignore[union-attr]
        found = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        found |= {a.name: v for a, v in zip(schema.arguments, self.node.args, strict=False)}
        return found | dict(self.node.kwargs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result without its batch axis.

        Raises:
            GraphError: the first axis is not the batch, or another one depends on it.
        """
        value = self.node.meta["val"]
        return self.batchless(value.shape)

    def batchless(self, sizes: Any) -> tuple[int, ...]:
        """Sizes without the first, which must be the batch alone."""
        first, *rest = sizes
        whole = all(isinstance(size, int) for size in rest)
        symbol = getattr(getattr(first, "node", None), "expr", None)
        if not whole or symbol is None or not symbol.is_symbol:
            raise self.refusal(
                f"its shape {tuple(map(str, sizes))} mixes the batch with another axis",
                "keep the batch on the first axis: x.flatten(1), and batched products",
            )
        return tuple(rest)

    def is_constant(self, argument: Any) -> bool:
        """Whether an argument depends on no input."""
        if not isinstance(argument, fx.Node):
            return True
        return self.builder.value(self.value(argument)) is not None

    def constant(self, argument: Any) -> Tensor:
        """A constant argument as a tensor.

        Raises:
            GraphError: it depends on the input.
        """
        if isinstance(argument, Tensor | int | float):
            return torch.as_tensor(argument)
        found = self.builder.value(self.value(argument))
        if found is None:
            raise self.refusal(f"its argument {argument.name!r} depends on the input")
        return found

    def value(self, argument: Any) -> str:
        """The name of the node that stands for an argument.

        Raises:
            GraphError: there is none, or what was said when it was refused.
        """
        found = self.result(argument) if isinstance(argument, fx.Node) else None
        if not isinstance(found, str):
            raise self.refusal(f"its argument {argument!r} is not a tensor")
        return found

    def result(self, node: fx.Node) -> Any:
        """What stands for a node of the program.

        Raises:
            GraphError: what was said when it was refused.
        """
        found = self.values.get(node)
        if isinstance(found, GraphError):
            raise found
        return found

    def add(self, op: str, *inputs: str, tensors: Any = None, **attributes: Any) -> str:
        """A node of ours."""
        return self.builder.add(op, inputs, name=self.node.name, tensors=tensors, **attributes)

    def scaled(self, name: str, *, weight: Any = None, bias: Any = None) -> str:
        """``weight * x + bias``."""
        parts = {"weight": weight, "bias": bias}
        tensors = {key: _tensor(part) for key, part in parts.items() if part is not None}
        return self.add("scale", name, tensors=tensors)

    def divided(self, name: str, divisor: Tensor | float) -> str:
        """``x / divisor``."""
        return self.add("quotient", name, tensors={"divisor": _tensor(divisor)})

    def inner(self, axis: int, rank: int) -> int:
        """An axis of the program as one of the node.

        Raises:
            GraphError: it is the batch.
        """
        axis %= rank
        if axis == 0:
            raise self.refusal("it works along the batch", "an input's class must be its own")
        return axis - 1

    def rank(self, argument: Any) -> int:
        """Axes of an argument, the batch among them."""
        return argument.meta["val"].ndim

    @property
    def layer(self) -> str:
        """The module that calls it, by its name in the network; nothing for the network itself."""
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        return path.removeprefix("module").removeprefix(".")  # as `from_torch` wraps the network

    def refusal(self, why: str, repair: str = "") -> GraphError:
        """The error that names this node and its layer."""
        place = f" in layer {self.layer!r}" if self.layer else ""
        return GraphError(
            f"node {self.node.name!r} ({self.op}){place} is not supported", why=why, repair=repair
        )

    def opaque(self, refused: GraphError) -> Any:
        """What stands for a node that is not read: opaque nodes, one a result.

        Where a result has no batch in front, or depends on no input, there is no such node: then it
        is the refusal itself, for whoever reads it.
        """
        if any(value is refused for value in self.values.values()):
            refused = self.refusal(refused.what, refused.repair)  # of something that it reads
        found = self.node.meta.get("val")
        if isinstance(found, tuple | list):
            return [self._opaque(result, refused) for result in found]
        return self._opaque(found, refused)

    def _opaque(self, result: Any, refused: GraphError) -> str | GraphError:
        read = [self.values.get(source) for source in self.node.all_input_nodes]
        inputs = [name for name in read if isinstance(name, str)]
        first = next((value for value in read if isinstance(value, GraphError)), refused)
        if all(self.builder.value(name) is not None for name in inputs):
            return first
        try:
            shape = self.batchless(result.shape) if isinstance(result, Tensor) else None
        except GraphError:
            shape = None
        if shape is None:
            return first
        return self.builder.opaque(
            self.op, inputs, shape, refused, name=self.node.name, layer=self.layer
        )


def _tensor(part: Any) -> Tensor:
    if isinstance(part, Tensor):
        return part
    return torch.as_tensor(part, dtype=torch.get_default_dtype())


Rule = Callable[[Call], Any]

RULES: dict[str, Rule] = {}
"""Every rule by the name of its ATen operator; the modules of this package fill it."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: the function translates these ATen operators."""

    def keep(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return keep


def load_rules() -> None:
    """Fill `RULES`."""
    for module in ("elementwise", "layers", "layout"):
        import_module(f"phalanx.graph.torch_rules.{module}")
