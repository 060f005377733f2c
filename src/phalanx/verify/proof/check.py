"""`check`: whether a proof holds of a network and a property, by code that did not find it."""

from __future__ import annotations

import gzip
import hashlib
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phalanx.errors import DataError
from phalanx.graph.from_onnx import from_onnx
from phalanx.specs.property import Property
from phalanx.specs.vnnlib import read as read_query
from phalanx.verify.proof.boxes import replayed
from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.file import Proof, read
from phalanx.verify.proof.passes import Net, Passes, net_of
from phalanx.verify.proof.rounding import below
from phalanx.verify.proof.rows import Rows, weighed


@dataclass(frozen=True)
class Checked:
    """A proof that holds.

    Attributes:
        answer: ``sat`` or ``unsat``.
        cases: how many there are.
        leaves: sub-problems and boxes that were bounded.
        seconds: of checking, reading included.
    """

    answer: str
    cases: int
    leaves: int
    seconds: float

    def line(self) -> str:
        """For people.

        >>> Checked("unsat", 2, 7, 0.512).line()
        'proof holds: unsat, 2 cases, 7 bounds, 0.51 s'
        """
        return (
            f"proof holds: {self.answer}, {self.cases} case{'s' * (self.cases != 1)}, "
            f"{self.leaves} bounds, {self.seconds:.2f} s"
        )


def check_files(proof: Path, network: Path, prop: Path) -> Checked:
    """Check a proof against the files it speaks of.

    Raises:
        ProofBroken: it does not hold: where and why.
        RunError: no proof. GraphError, QueryError: the files cannot be read, or the network has an
            operator whose proofs are not checked. DataError: the property is of another network.
    """
    begun = time.monotonic()
    found = read(proof)
    for what, path, digest in (
        ("network", network, found.identity.network),
        ("property", prop, found.identity.prop),
    ):
        if digest_of(path) != digest:
            raise ProofBroken(f"the {what}", f"the proof is not about {path}")
    graph, query = from_onnx(network), read_query(prop)
    query.require_shapes(graph.input.shape, graph[graph.output].shape)
    leaves = check(found, net_of(graph), query.property)
    return Checked(found.answer, found.cases, leaves, time.monotonic() - begun)


def check(proof: Proof, net: Net, prop: Property) -> int:
    """Check a proof against a network and a property; how many bounds it took.

    Raises:
        ProofBroken: it does not hold: where and why. DataError: the property is of another network.
    """
    sizes = net.inputs, int(np.prod(net.size))
    if prop.sizes != sizes:
        raise DataError(f"a property of {prop.sizes} inputs and outputs", why=f"there are {sizes}")
    if proof.cases != len(prop.cases):
        raise ProofBroken("the property", f"it has {len(prop.cases)} cases, not {proof.cases}")
    if proof.witness is not None:
        _unsafe(*proof.witness, net, prop)
        return 1
    return _refuted(proof, net, [Rows.of(case, net) for case in prop.cases])


def _refuted(proof: Proof, net: Net, cases: list[Rows]) -> int:
    told = [*proof.boxes, *proof.signs]
    if proof.bounds is not None:
        told += proof.bounds.cases.tolist()
    missing = sorted(set(range(len(cases))) - set(told))
    if missing:
        raise ProofBroken(f"case {missing[0]}", "nothing refutes it")
    if any(case >= len(cases) or case < 0 for case in told):
        raise ProofBroken("cases", "one is refuted that there is not")
    count = 0 if proof.bounds is None else proof.bounds.check(net, cases)
    key, passes = b"", None
    for case, boxes in proof.boxes.items():
        try:
            count += replayed(net, cases[case], boxes)
        except ProofBroken as broken:
            raise ProofBroken(f"case {case}: {broken.where}", broken.reason) from None
    for case, tree in proof.signs.items():
        rows = cases[case]
        if passes is None or key != rows.key:
            key, passes = rows.key, Passes(net, rows.lower[None], rows.upper[None])
        try:
            count += tree.check(passes, rows)
        except ProofBroken as broken:
            raise ProofBroken(f"case {case}: {broken.where}", broken.reason) from None
    return count


def _unsafe(x: np.ndarray, case: int, net: Net, prop: Property) -> None:
    """Refuse what is no counterexample in exact arithmetic.

    Raises:
        ProofBroken: outside the box, or a row that is not surely at most zero.
    """
    if case >= len(prop.cases) or x.shape != (net.inputs,):
        raise ProofBroken("the witness", "it is of another property")
    own = prop.cases[case]
    if not bool(((x >= own.lower.numpy()) & (x <= own.upper.numpy())).all()):
        raise ProofBroken("the witness", "it lies outside of the box")
    passes, rows = Passes(net, x[None], x[None]), Rows.of(own, net)
    # What is not above zero: minus the rows are bounded below.
    turned = Rows(
        rows.lower, rows.upper, -rows.outputs,
        None if rows.inputs is None else -rows.inputs, below(-own.offset.numpy()),
    )  # fmt: skip
    at = np.zeros(len(rows), dtype=np.int64)
    least = weighed(passes, turned, np.eye(len(rows)), at).lower
    strict = np.zeros(len(rows), dtype=bool) if own.strict is None else own.strict.numpy()
    held = np.where(strict, least > 0, least >= 0)
    if not bool(held.all()):
        row = int(np.flatnonzero(~held)[0])
        raise ProofBroken(
            "the witness", f"row {row} is only known to be at most {-least[row]:.3g}, not 0"
        )


def digest_of(path: Path) -> str:
    """SHA-256 of a file, unfolded where its name ends in ``.gz``.

    Raises:
        DataError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", why=str(error)) from error
    return found.hexdigest()
