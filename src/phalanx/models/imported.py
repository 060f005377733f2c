"""An ONNX file as a `Model`, and any model as a graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError
from phalanx.graph.from_onnx import from_onnx
from phalanx.graph.from_torch import from_torch, torch_outline
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import GraphNetwork
from phalanx.models.declaration import Declaration, card_beside, wrap
from phalanx.models.model import Model

SUFFIXES = (".onnx", ".onnx.gz")
ARCHITECTURE = "onnx"


def is_onnx(path: Path) -> bool:
    """Whether a MODEL string names an ONNX file.

    >>> is_onnx(Path("net.onnx.gz")), is_onnx(Path("net.py"))
    (True, False)
    """
    return path.name.endswith(SUFFIXES)


def load_onnx(path: Path, declaration: Declaration | None = None) -> Model:
    """The model in an ONNX file; what it does not say is declared, or in a card beside it.

    Its number of classes is read off the graph. Images are given to it row by row where it reads
    vectors: a network of inputs ``(784, 1)`` takes images of 1x28x28.

    Raises:
        GraphError: see `from_onnx`. ModelError: range or normalisation are not declared, weights
            are declared too, or another number of classes is.
    """
    said = (declaration or Declaration()).over(card_beside(path))
    if said.weights is not None:
        raise ModelError(f"{path} has weights of its own", repair="leave --weights out")
    graph = from_onnx(path)
    classes = graph[graph.output].shape
    if len(classes) != 1 or said.classes not in (None, classes[0]):
        raise ModelError(
            f"{path} computes {' x '.join(map(str, classes)) or 'one'} numbers",
            why="a classifier computes one for each class",
            repair=f"--classes {classes[0]}" if len(classes) == 1 else "",
        )
    shape = graph.input.shape
    said = replace(said, classes=classes[0], shape=shape if len(shape) == 3 else None)
    name = path.name.removesuffix(".gz").removesuffix(".onnx")
    model = wrap(GraphNetwork(graph), said, name=name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    extra = {"file": path.name, "sha256": digest}
    model.card = replace(model.card, architecture=ARCHITECTURE, extra=extra)
    return model


def input_shape(model: Model) -> tuple[int, ...] | None:
    """Of one input: declared, or that of an imported graph; None where nothing is known."""
    if model.inputs.shape is None and isinstance(model.network, GraphNetwork):
        return model.network.graph.input.shape
    return model.inputs.shape


def graph_of(model: Model, shape: tuple[int, ...] | None = None) -> Graph:
    """The graph of a model, its normalisation inside, in input units.

    Args:
        model: in evaluation mode.
        shape: of one input, where neither the model nor its file says it.

    Raises:
        GraphError: the network cannot be read as a graph. ModelError: its input shape is not known.
    """
    return _in_input_units(model, shape, from_torch)


def outline_of(model: Model, shape: tuple[int, ...] | None = None) -> Graph:
    """`graph_of`, to look at: operators that are not read are opaque nodes.

    Raises:
        GraphError: not even that is known of the network. ModelError: its input shape is not known.
    """
    return _in_input_units(model, shape, torch_outline)


def _in_input_units(
    model: Model, shape: tuple[int, ...] | None, read: Callable[[nn.Module, Sequence[int]], Graph]
) -> Graph:
    shape = shape or input_shape(model)
    if shape is None:
        raise ModelError(
            f"the input shape of {model.card.name} is not known",
            why="a graph has the shapes of all its values",
            repair="pass data, or InputSpec(shape=...)",
        )
    if isinstance(model.network, GraphNetwork):
        graph = _with_input(model.network.graph, shape)
    else:
        graph = read(model.network, shape)
    if model.inputs.mean:
        graph = _behind(graph, model.mean.cpu(), model.std.cpu())
    return graph


def _with_input(graph: Graph, shape: tuple[int, ...]) -> Graph:
    """The graph with inputs of another shape that has as many numbers."""
    old = graph.input
    if shape == old.shape:
        return graph
    if torch.Size(shape).numel() != torch.Size(old.shape).numel():
        raise ModelError(f"the graph reads inputs of shape {old.shape}, not {shape}")
    fresh = Node(_unused(graph, "images"), "input", (), shape)
    turned = Node(old.name, "reshape", (fresh.name,), old.shape, {"shape": old.shape})
    return Graph((fresh, turned, *graph.nodes[1:]), graph.output)


def _behind(graph: Graph, mean: Tensor, std: Tensor) -> Graph:
    """The graph behind ``(x - mean) / std``, channel by channel."""
    old = graph.input
    sides = (-1, *[1] * (len(old.shape) - 1))
    fresh = replace(old, name=_unused(graph, "unnormalised"))
    shift, divisor = {"bias": -mean.reshape(sides)}, {"divisor": std.reshape(sides)}
    centred = Node(_unused(graph, "centred"), "scale", (fresh.name,), old.shape, {}, shift)
    scaled = Node(old.name, "quotient", (centred.name,), old.shape, {}, divisor)
    return Graph((fresh, centred, scaled, *graph.nodes[1:]), graph.output)


def _unused(graph: Graph, name: str) -> str:
    while name in graph.by_name():
        name += "-"
    return name
