"""ECLipsE-Fast (Xu & Sivaranjani, NeurIPS 2024, arXiv 2404.04375): fully connected networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phalanx.bounds.lipschitz.kept import once_a_graph
from phalanx.bounds.lipschitz.norms import UNIT, spectral_norm
from phalanx.bounds.outward.rounding import gamma
from phalanx.errors import GraphError
from phalanx.graph.ir import INPUT, Graph

GENTLE = ("relu", "sigmoid", "tanh", "clip")
"""Curves whose slopes lie in [0, 1]."""


def chain_constant(weights: list[Tensor]) -> float:
    """Lipschitz constant of ``W_L s(W_{L-1} ... s(W_1 x))`` for slopes of s in [0, 1], from above.

    The square root of `chain_form`'s norm.

    >>> one, other = torch.diag(torch.tensor([2.0, 0.0])), torch.tensor([[0.0, 3.0]])
    >>> round(chain_constant([one, other]), 4), 2 * 3
    (4.2426, 6)
    """
    form, error = chain_form(weights)
    return math.sqrt(float(spectral_norm(form)) + error) * (1 + 8 * UNIT)


def chain_form(weights: list[Tensor]) -> tuple[Tensor, float]:
    """M with ``(r f(x) - r f(y))^2 <= r^T M r |x - y|^2`` for every row r, and M's own error.

    A feasible point of the semidefinite program of LipSDP in closed form, layer by layer: with
    ``M_i = W_i X_{i-1}^-1 W_i^T``, ``X_i = l_i I - (l_i / 2)^2 M_i``, ``l_i = 2 / |M_i|``,
    ``X_0 = I``, it is ``M_L``. Its norm is never above the square of the product of the norms, up
    to roundings: ``X_i >= I / |M_i|``.

    Roundings: the eigenvalues of X_i lie in ``[l_i / 2, l_i]``, so that solving with it is
    harmless; M_i is replaced by ``M_i + e I`` with e above its error, which only raises what
    follows.
    """
    x, inverse, error = None, 1.0, 0.0
    m = torch.zeros(len(weights[-1]), len(weights[-1]), dtype=torch.float64)
    for index, weight in enumerate(weights):
        w = weight.double()
        solved = w.T if x is None else torch.cholesky_solve(w.T, torch.linalg.cholesky(x))
        found = w @ solved
        found = (found + found.T) / 2
        error = 64 * max(w.shape) ** 2 * UNIT * inverse * float(w.square().sum())
        unit = torch.eye(len(found), dtype=torch.float64)
        found = found + error * unit
        if index == len(weights) - 1:
            return found, error
        norm = float(spectral_norm(found)) + error
        if norm == 0:  # nothing passes this layer
            break
        scale = 2 / norm
        x = scale * unit - (scale / 2) ** 2 * found
        inverse = 2 / scale
    return m, 0.0


def eclipse(graph: Graph) -> float:
    """`chain_constant` of a graph of linear layers and curves of slopes in [0, 1].

    Raises:
        GraphError: it is another graph; names the first node that does not fit.
    """
    return chain_constant(chain(graph))


def eclipse_rates(graph: Graph, rows: Tensor) -> Tensor:
    """How fast rows ``(S, B, C)`` of such a graph's output can change, in l2: float64 ``(S, B)``.

    ``sqrt(r^T M r)``, rounded upward: a row counts within the last layer's form.

    Raises:
        GraphError: see `eclipse`.
    """
    form, error = _form(graph)
    rows = rows.double()
    square = ((rows @ form) * rows).sum(2)
    loss = gamma(2 * len(form) + 4) * ((rows.abs() @ form.abs()) * rows.abs()).sum(2)
    return (square + loss + error * rows.square().sum(2)).sqrt() * (1 + 8 * UNIT)


@once_a_graph
def _form(graph: Graph) -> tuple[Tensor, float]:
    return chain_form(chain(graph))


def chain(graph: Graph) -> list[Tensor]:
    """The weights of a graph that is one chain of linear layers and curves.

    What ends in a curve ends in the identity behind it: a row is bounded within the last layer's
    form, as if nothing were between the two.

    Raises:
        GraphError: see `eclipse`.
    """
    weights: list[Tensor] = []
    before, bent = INPUT, True
    for node in graph:
        if node.op == INPUT:
            before = node.name
            continue
        fits = node.inputs == (before,)
        if node.op == "linear" and len(node.shape) == 1 and fits:
            weight = node.tensors["weight"].double()
            # Two layers without a curve between them: the identity is one of slopes in [0, 1].
            weights.append(weight)
            bent = False
        elif not (fits and node.op in (*GENTLE, "reshape")):
            raise GraphError(
                f"node {node.name!r} ({node.op}) is no part of a fully connected chain",
                why=f"ECLipsE speaks of linear layers with {', '.join(GENTLE)} between them",
                repair="the product of norms: phalanx.bounds.lipschitz.product",
            )
        elif node.op != "reshape":
            bent = True
        before = node.name
    if bent:
        weights.append(torch.eye(math.prod(graph[graph.output].shape), dtype=torch.float64))
    return weights
