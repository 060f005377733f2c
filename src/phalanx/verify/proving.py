"""Proofs made of what a verification found: evidence that the checker accepts, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import phalanx
from phalanx.errors import ParameterError
from phalanx.graph.ir import Graph
from phalanx.specs.property import Property
from phalanx.verdicts import Verdict
from phalanx.verify.bounding import Found
from phalanx.verify.proof.bounds import Bounds
from phalanx.verify.proof.boxes import extended, never
from phalanx.verify.proof.check import digest_of
from phalanx.verify.proof.evidence import ByBound, ByBoxes, BySigns, Evidence
from phalanx.verify.proof.file import Identity, Proof, write
from phalanx.verify.proof.passes import Net, net_of
from phalanx.verify.proof.rounding import Array
from phalanx.verify.proof.rows import Rows
from phalanx.verify.proof.signs import SignTree
from phalanx.verify.result import Result


class CheckerBounds:
    """Bounds, once more as the checker of a proof will see them.

    Args:
        graph: of the network, not prepared.
        prop: the property.

    Raises:
        GraphError: an operator whose proofs are not checked.
    """

    def __init__(self, graph: Graph, prop: Property) -> None:
        self._net = net_of(graph)
        self._rows = [Rows.of(case, self._net) for case in prop.cases]

    def recheck(
        self, refuted: Sequence[tuple[int, Found]], kept: dict[int, Evidence]
    ) -> Iterator[tuple[int, bool]]:
        """Numbers of cases, and whether the checker agrees; where it does, how is kept."""
        found = {number: ByBound(one.row, _slopes(self._net, one)) for number, one in refuted}
        lower = Bounds.of(self._net, found).lower(self._net, self._rows)
        for (number, bound), least in zip(found.items(), lower, strict=True):
            stands = bool(least > 0)  # of NaN nothing is true
            if stands:
                kept[number] = bound
            yield number, stands


def _slopes(net: Net, found: Found) -> dict[str, Array]:
    """What alpha-CROWN moved the slopes below the best row's ReLUs to."""
    if found.trace is None:
        return {}
    row, element = found.place
    relus = {node.name for node in net.relus}
    return {
        name: np.asarray(place[0, row, element].detach().double().numpy(), dtype=np.float64)
        for name, place in found.trace.places.items()
        if name in relus
    }


def proof_of(
    result: Result,
    graph: Graph,
    prop: Property,
    identity: Identity,
    expired: Callable[[], bool] = never,
) -> Proof:
    """The proof of an answer; trees of boxes get the cuts that the checker needs besides.

    Args:
        result: of `verify` with ``Portfolio(proof=True)``.
        graph: of the network, not prepared.
        prop: the property.
        identity: of both.
        expired: whether time is over.

    Raises:
        ParameterError: an answer that has no proof, or was found without asking for one.
        ProofBroken: a tree that the checker does not accept, or no time left.
    """
    cases = len(prop.cases)
    if result.verdict is Verdict.FALSIFIED and result.witness is not None:
        witness = (result.witness.x.numpy(), result.witness.case)
        return Proof(identity, cases, witness=witness)
    if result.verdict is not Verdict.VERIFIED or len(result.evidence) != cases:
        raise ParameterError(
            f"a proof of {result.word!r}",
            why="only sat and unsat have one, where it was asked for before the search",
            repair="more --timeout",
        )
    net, found = net_of(graph), result.evidence
    bounds = {n: e for n, e in found.items() if isinstance(e, ByBound)}
    return Proof(
        identity,
        cases,
        Bounds.of(net, bounds) if bounds else None,
        {
            n: extended(net, Rows.of(prop.cases[n], net), e, expired)
            for n, e in found.items()
            if isinstance(e, ByBoxes)
        },
        {n: SignTree.of(e) for n, e in found.items() if isinstance(e, BySigns)},
    )


def proof_for(
    result: Result,
    graph: Graph,
    prop: Property,
    files: tuple[Path, Path],
    expired: Callable[[], bool] = never,
) -> Proof:
    """The proof of an answer about an ONNX file and a VNN-LIB file.

    Raises:
        ParameterError, ProofBroken: see `proof_of`.
    """
    network, query = (digest_of(path) for path in files)
    return proof_of(result, graph, prop, Identity(network, query, phalanx.__version__), expired)


def write_proof(
    result: Result, graph: Graph, prop: Property, files: tuple[Path, Path], out: Path
) -> int:
    """Write the proof of an answer about an ONNX file and a VNN-LIB file; its size in bytes.

    Raises:
        ParameterError, ProofBroken: see `proof_of`. StorageError: the disk refuses.
    """
    return write(proof_for(result, graph, prop, files), out)
