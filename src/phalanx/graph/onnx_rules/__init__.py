"""ONNX operators in the graph's own terms: one function an operator, by its ONNX name.

ONNX fixes where the batch axis is only by habit: files say ``(1, 784)``, ``(N, 784)`` or nothing
at all, and transpose it away and back. A `Value` therefore carries its shape as ONNX sees it
with a batch of one, and which of these axes is the batch. The node behind it never has that
axis, so the graph is right for any batch: an operator on row b of the batch is what the file
says of its one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from phalanx.errors import GraphError
from phalanx.graph.build import Builder


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph.

    Attributes:
        name: the node that computes it.
        shape: as ONNX sees it, the batch being one.
        axis: which axis of ``shape`` is the batch, and no axis of the node; None where the
            node has every axis of ``shape``.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True)
class Call:
    """One ONNX node that is being translated.

    Attributes:
        name, op: of the node.
        attributes: plain values.
        outputs: how many results are read.
        version: of the operator set.
        builder: takes the translation.
        read: attributes that the rule has asked for; a file with others is refused.
    """

    name: str
    op: str
    attributes: Mapping[str, Any]
    outputs: int
    version: int
    builder: Builder
    read: set[str] = field(default_factory=set)

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or what stands for it where it is absent."""
        self.read.add(key)
        return self.attributes.get(key, default)

    def number(self, key: str, default: float) -> float:
        """An attribute that the file, and its standard for it, hold in single precision."""
        return float(np.float32(self.get(key, default)))

    def flag(self, key: str, default: int = 0) -> bool:
        """An attribute that is 0 or 1."""
        found = self.get(key, default)
        if found not in (0, 1):
            raise self.refusal(f"its {key} is {found!r}")
        return bool(found)

    def only(self, **values: Any) -> None:
        """Refuse attributes of other values than those that are read."""
        for key, value in values.items():
            if (found := self.get(key, value)) != value:
                raise self.refusal(f"its {key} is {found!r}")

    def pass_over(self, *keys: str) -> None:
        """Attributes that say nothing about the values."""
        self.read.update(keys)

    def add(
        self,
        op: str,
        values: Sequence[Value],
        shape: Sequence[int] | None = None,
        *,
        axis: int | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        **attributes: Any,
    ) -> Value:
        """A node on values, as a value whose batch axis is ``axis`` (of ``shape``, or of its own
        shape with that axis put in).
        """
        inputs = [value.name for value in values]
        name = self.builder.add(op, inputs, name=self.name, tensors=tensors, **attributes)
        found = self.builder[name].shape
        if self.builder[name].op == "constant":
            axis = None
        if shape is None:
            shape = found if axis is None else (*found[:axis], 1, *found[axis:])
        elif axis is None and tuple(shape) != found:
            name = self.builder.add("reshape", [name], shape=tuple(shape))
        return Value(name, tuple(shape), axis)

    def constant(self, value: Value) -> Tensor | None:
        """What a value is where it does not depend on the input."""
        return self.builder.value(value.name)

    def needed(self, value: Value | None, what: str) -> Tensor:
        """A constant that the translation cannot do without."""
        found = None if value is None else self.constant(value)
        if found is None and value is not None and not self.builder.depends(value.name):
            raise self.refusal(
                f"its {what} is computed from constants, and would have to be rounded",
                f"fold the constants of the file, so that it stores the {what}",
            )
        if found is None:
            raise self.refusal(f"its {what} depends on the input", f"export a constant {what}")
        return found

    def refusal(self, why: str, repair: str = "") -> GraphError:
        """The error that names this node."""
        return GraphError(
            f"node {self.name!r} ({self.op}) is not supported",
            why=why,
            repair=repair or "export the network with other operators or attributes",
        )

    def opaque(self, values: Sequence[Value], shape: Sequence[int], refused: GraphError) -> Value:
        """An opaque node in place of what was refused; the batch stays where an input has it."""
        places = [v.axis for v in values if v.axis is not None and v.axis < len(shape)]
        axis = next((place for place in places if shape[place] == 1), None)
        inner = tuple(shape) if axis is None else _without(shape, axis)
        names = [value.name for value in values]
        name = self.builder.opaque(self.op, names, inner, refused, name=self.name)
        return Value(name, tuple(shape), axis)

    def plain(self, value: Value) -> Value:
        """The same tensor with every axis of its ONNX shape in the node."""
        if value.axis is None:
            return value
        return Value(self._shaped(value, value.shape), value.shape)

    def batched(self, value: Value, axis: int = 0) -> Value:
        """The same tensor with its batch on ``axis``.

        Raises:
            GraphError: that axis has another size than one.
        """
        if value.axis == axis:
            return value
        if axis >= len(value.shape) or value.shape[axis] != 1:
            raise self.refusal(
                f"its input has shape {value.shape}, and no batch on axis {axis}",
                "export with a batch of one on the first axis",
            )
        return Value(self._shaped(value, _without(value.shape, axis)), value.shape, axis)

    def reshaped(self, value: Value, shape: Sequence[int], axis: int | None) -> Value:
        """Another shape for the same numbers in the same order, its batch on ``axis``."""
        shape = tuple(shape)
        if self.constant(value) is not None:
            axis = None
        inner = shape if axis is None else _without(shape, axis)
        return Value(self._shaped(value, inner), shape, axis)

    def _shaped(self, value: Value, inner: tuple[int, ...]) -> str:
        if self.builder[value.name].shape == inner:
            return value.name
        return self.builder.add("reshape", [value.name], shape=inner)


Rule = Callable[[Call, list[Any]], "Value | list[Value]"]
"""``rule(call, values) -> value``; absent optional inputs are None."""

R = TypeVar("R", bound=Rule)

RULES: dict[str, Rule] = {}
"""Every rule by the name of its ONNX operator; the modules of this package fill it."""


def rule(*names: str) -> Callable[[R], R]:
    """Decorator: the function translates these ONNX operators."""

    def keep(function: R) -> R:
        RULES.update(dict.fromkeys(names, function))
        return function

    return keep


def inner_axis(value: Value, axis: int) -> int | None:
    """Which axis of the node axis ``axis`` of the ONNX shape is; None for the batch.

    >>> inner_axis(Value("x", (1, 3, 8), 0), -1), inner_axis(Value("x", (5, 1), 1), 0)
    (1, 0)
    """
    axis %= max(len(value.shape), 1)
    if value.axis is None:
        return axis
    return None if axis == value.axis else axis - (axis > value.axis)


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])
