"""Proofs as files: safetensors, with what is said in words in its header; ``.gz``: compressed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from phalanx.errors import RunError, StorageError
from phalanx.runtime.files import read_limited
from phalanx.verify.proof.bounds import Bounds
from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.evidence import ByBoxes
from phalanx.verify.proof.signs import SignTree

FORMAT = "phalanx-proof-1"
KEY = "proof"
LARGEST = 1 << 32
"""Bytes of a file, and of what a compressed one unfolds into."""
SAT, UNSAT = "sat", "unsat"
OUTWARD = "outward"


@dataclass(frozen=True)
class Identity:
    """What a proof is about.

    Attributes:
        network, prop: SHA-256 of the files' contents, unfolded.
        version: of phalanx, that found it.
        arithmetic: ``outward``.
    """

    network: str
    prop: str
    version: str
    arithmetic: str = OUTWARD


@dataclass(frozen=True, eq=False)
class Proof:
    """An answer and why it is right.

    Attributes:
        identity: see `Identity`.
        cases: how many the property has.
        bounds: of cases refuted so.
        boxes, signs: by the number of the case.
        witness: of ``sat``: the input ``(n,)``, and which case it is unsafe in.
    """

    identity: Identity
    cases: int
    bounds: Bounds | None = None
    boxes: Mapping[int, ByBoxes] = field(default_factory=dict)
    signs: Mapping[int, SignTree] = field(default_factory=dict)
    witness: tuple[np.ndarray, int] | None = None

    @property
    def answer(self) -> str:
        """``sat`` or ``unsat``."""
        return UNSAT if self.witness is None else SAT


def write(proof: Proof, path: Path) -> int:
    """Write a proof; its size in bytes.

    Raises:
        StorageError: the disk refuses.
    """
    identity = proof.identity
    said: dict[str, Any] = {
        "format": FORMAT,
        "answer": proof.answer,
        "version": identity.version,
        "arithmetic": identity.arithmetic,
        "network": identity.network,
        "property": identity.prop,
        "cases": proof.cases,
        "units": {str(case): list(map(list, t.units)) for case, t in proof.signs.items()},
        "boxes": sorted(proof.boxes),
    }
    tensors: dict[str, np.ndarray] = {}
    if proof.bounds is not None:
        for name in ("cases", "rows", "own", "slopes"):
            tensors[f"bounds/{name}"] = getattr(proof.bounds, name)
    for case, boxes in proof.boxes.items():
        tensors[f"boxes/{case}/inputs"] = boxes.inputs.astype(np.int32)
        tensors[f"boxes/{case}/places"] = boxes.places
    for case, tree in proof.signs.items():
        tensors[f"signs/{case}/split"] = tree.split.astype(np.int32)
        for name in ("slopes", "multipliers", "shares"):
            tensors[f"signs/{case}/{name}"] = getattr(tree, name)
    if proof.witness is not None:
        tensors["witness"], said["case"] = proof.witness
    content = save(
        {k: np.ascontiguousarray(t) for k, t in tensors.items()}, {KEY: json.dumps(said)}
    )
    if path.suffix == ".gz":
        content = gzip.compress(content, 6, mtime=0)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(f"{path} cannot be written", why=str(error)) from error
    return len(content)


def read(path: Path) -> Proof:
    """Read a proof; nothing in it is believed yet but its form.

    Raises:
        RunError: the file cannot be read, or is no proof. ProofBroken: it is one, and has parts
            missing, of other types, or with NaN.
    """
    content = read_limited(path, LARGEST, RunError)
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        said = json.loads(header["__metadata__"][KEY])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no proof", why=str(error) or type(error).__name__) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise RunError(f"{path} is no proof of format {FORMAT}", repair="write it anew")
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not bool(np.isfinite(tensor).all()):
            raise ProofBroken(name, "it has numbers that are NaN or infinite")
    return _Parts(said, tensors).proof()


class _Parts:
    """What a file holds, taken by name and type."""

    def __init__(self, said: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        self._said, self._tensors = said, tensors

    def proof(self) -> Proof:
        """All of it."""
        said = self._word
        identity = Identity(said("network"), said("property"), said("version"), said("arithmetic"))
        if identity.arithmetic != OUTWARD:
            raise ProofBroken("the arithmetic", f"it is {identity.arithmetic!r}")
        if (answer := said("answer")) not in (SAT, UNSAT):
            raise ProofBroken("the answer", f"it is {answer!r}")
        cases = self._number("cases")
        if answer == SAT:
            case = self._number("case")
            return Proof(identity, cases, witness=(self._tensor("witness", "f8", 1), case))
        bounds = None
        if "bounds/cases" in self._tensors:
            cases_, rows, own = (
                self._tensor(f"bounds/{name}", "i8", 1) for name in ("cases", "rows", "own")
            )
            bounds = Bounds(cases_, rows, own, self._tensor("bounds/slopes", "f2", 2))
        listed = self._said.get("boxes")
        if not isinstance(listed, list) or not all(isinstance(n, int) for n in listed):
            raise ProofBroken("boxes", "they are no list of cases")
        boxes = {
            n: ByBoxes(
                self._tensor(f"boxes/{n}/inputs", "i4", 1).astype(np.int64),
                self._tensor(f"boxes/{n}/places", "f8", 1),
            )
            for n in listed
        }
        return Proof(identity, cases, bounds, boxes, dict(self._signs()))

    def _signs(self) -> list[tuple[int, SignTree]]:
        units = self._said.get("units")
        if not isinstance(units, dict):
            raise ProofBroken("units", "they are in no table")
        found = []
        for key, pairs in units.items():
            if not key.isdecimal() or not isinstance(pairs, list) or not all(map(_is_unit, pairs)):
                raise ProofBroken(f"units of case {key}", "not all are a name and a number")
            tree = SignTree(
                tuple((name, entry) for name, entry in pairs),
                self._tensor(f"signs/{key}/split", "i4", 1).astype(np.int64),
                self._tensor(f"signs/{key}/slopes", "f2", 2),
                self._tensor(f"signs/{key}/multipliers", "f8", 1),
                self._tensor(f"signs/{key}/shares", "f8", 2),
            )
            found.append((int(key), tree))
        return found

    def _tensor(self, name: str, kind: str, axes: int) -> np.ndarray:
        found = self._tensors.get(name)
        if found is None or found.dtype != np.dtype(kind) or found.ndim != axes:
            raise ProofBroken(name, "it is missing, or of another type")
        return found

    def _word(self, name: str) -> str:
        if not isinstance(found := self._said.get(name), str):
            raise ProofBroken(name, "it is missing")
        return found

    def _number(self, name: str) -> int:
        found = self._said.get(name)
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            raise ProofBroken(name, "it is no number")
        return found


def _is_unit(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], int)
    )
