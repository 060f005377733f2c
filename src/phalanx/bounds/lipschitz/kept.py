"""What holds on all inputs is worked out once for a graph, however many balls are asked about."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from phalanx.graph.ir import Graph

P = ParamSpec("P")
T = TypeVar("T")


def once_a_graph(find: Callable[Concatenate[Graph, P], T]) -> Callable[Concatenate[Graph, P], T]:
    """Decorator: an answer is kept while its graph lives and the numbers in it are the same.

    They are compared with a copy: a graph may share its tensors with a module that is trained on.

    >>> from phalanx.graph.build import Builder
    >>> asked = []
    >>> named = once_a_graph(lambda graph, word: asked.append(word) or graph.output + word)
    >>> graph = Builder((2,)).graph("input")
    >>> named(graph, "!"), named(graph, "!"), named(graph, "?"), asked
    ('input!', 'input!', 'input?', ['!', '?'])
    """
    kept: WeakKeyDictionary[Graph, tuple[list[Tensor], dict[object, T]]] = WeakKeyDictionary()

    @wraps(find)
    def found(graph: Graph, *args: P.args, **kwargs: P.kwargs) -> T:
        now = [tensor.detach() for node in graph for tensor in node.tensors.values()]
        if graph not in kept or not all(map(torch.equal, kept[graph][0], now)):
            kept[graph] = ([tensor.clone() for tensor in now], {})
        answers = kept[graph][1]
        asked = (args, tuple(sorted(kwargs.items())))
        if asked not in answers:
            answers[asked] = find(graph, *args, **kwargs)
        return answers[asked]

    return found
