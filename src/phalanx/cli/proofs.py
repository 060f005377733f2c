"""Proofs: ``verify --proof`` writes them after the answer, ``runs recheck`` checks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from phalanx.cli.console import answer, answer_json, log
from phalanx.errors import ParameterError, RequirementUnmet

if TYPE_CHECKING:
    from phalanx.specs.property import Property
    from phalanx.verify.network import Network
    from phalanx.verify.result import Result


def require_files(network: str, out: Path) -> None:
    """Refuse a proof of what is no ONNX file, or in a folder that there is not.

    Raises:
        ParameterError: says which.
    """
    if not network.endswith((".onnx", ".onnx.gz")):
        raise ParameterError(
            f"--proof for {network}", why="a proof is about an ONNX file", repair="export it first"
        )
    if out.is_dir() or not out.parent.is_dir():
        raise ParameterError(f"--proof {out}", why="it cannot be a file", repair="another name")


def keep(
    result: Result,
    network: Network,
    prop: Property,
    files: tuple[str, str],
    out: Path,
    *,
    expired: Callable[[], bool],
    writing: Callable[[], None],
) -> None:
    """Write the proof of an answer that was printed; of other answers than sat and unsat say so.

    Args:
        result, network, prop, files: what the proof is about.
        out: where it is written.
        expired: whether time is over.
        writing: called when the file is begun, which nobody should interrupt.

    Raises:
        RequirementUnmet: the answer stands, but its checker does not accept what was found, or
            there was no time for it.
    """
    from phalanx.verify.proof.broken import ProofBroken
    from phalanx.verify.proof.file import write
    from phalanx.verify.proving import proof_for

    if result.word not in ("sat", "unsat"):
        log(f"no proof is written: the answer is {result.word}")
        return
    paths = Path(files[0]), Path(files[1])
    try:
        proof = proof_for(result, network.graph, prop, paths, expired)
    except ProofBroken as broken:
        late = "there was no time left" if expired() else "the checker does not accept it"
        raise RequirementUnmet(
            f"no proof is written: {broken.where}: {broken.reason}",
            why=f"the answer stands; {late}",
        ) from broken
    writing()
    size = write(proof, out)
    log(f"{out}: proof of {result.word}, {size} bytes")


def recheck_proof(proof: Path, network: Path | None, prop: Path | None, *, json: bool) -> None:
    """Check a proof by code that did not find it.

    Raises:
        ParameterError: without the files that it is about. ProofBroken: it does not hold.
    """
    from phalanx.verify.proof.broken import ProofBroken
    from phalanx.verify.proof.check import check_files

    if network is None or prop is None:
        raise ParameterError(
            f"a proof ({proof}) without what it is about",
            repair=f"phalanx runs recheck {proof} --network net.onnx --property p.vnnlib",
        )
    try:
        found = check_files(proof, network, prop)
    except ProofBroken as broken:
        if json:
            answer_json({"holds": False, "where": broken.where, "why": broken.reason})
        else:
            answer(broken.what)
        raise
    if json:
        answer_json(
            {
                "holds": True,
                "answer": found.answer,
                "cases": found.cases,
                "bounds": found.leaves,
                "seconds": found.seconds,
            }
        )
    else:
        answer(found.line())
