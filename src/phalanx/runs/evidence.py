"""Which stored votes a certificate rests on: those of its phases, up to where its rule ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from phalanx.runs.choices import foreign, top_of
from phalanx.runs.double_sampling import NAME as DOUBLE_SAMPLING
from phalanx.runs.double_sampling import samples_of_first
from phalanx.runs.schema import (
    ESTIMATION,
    INVALID,
    SECOND_LAW,
    SELECTION,
    CertificateRecord,
    ChunkRecord,
)
from phalanx.runs.sequential import ANYTIME, FIXED, STAGED


@dataclass
class Phase:
    """The votes of one classifier in one phase, chunk by chunk."""

    chunks: list[ChunkRecord] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of noise."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def counts(self) -> Counter[int]:
        """Votes by class."""
        return sum((Counter(chunk.counts) for chunk in self.chunks), Counter())

    @property
    def adds_up(self) -> bool:
        """Whether every chunk has one vote a row, none negative."""
        return all(
            sum(chunk.counts.values()) == chunk.rows and min(chunk.counts.values(), default=0) >= 0
            for chunk in self.chunks
        )

    def first(self, rows: int) -> Phase:
        """The chunks that make up the first ``rows`` rows; all of them where none ends there."""
        ends = list(accumulate(chunk.rows for chunk in self.chunks))
        return Phase(self.chunks[: ends.index(rows) + 1]) if rows in ends else self

    def path(self, label: int) -> list[tuple[int, int]]:
        """(votes for a class, rows) after each chunk."""
        hits = accumulate(chunk.counts.get(label, 0) for chunk in self.chunks)
        return list(zip(hits, accumulate(chunk.rows for chunk in self.chunks), strict=True))


Phases = Mapping[tuple[str, str], Phase]
"""By classifier and name of the phase."""


@dataclass
class Evidence:
    """What the stored votes say of one certificate.

    Attributes:
        selected: the class with most selection votes (lowest index on a tie), or the label.
        selection, estimation: votes by class.
        path: of that class through the estimation votes, up to where the rule ended.
        second: of double sampling, (votes for that class, rows) under the second law, if any.
        second_counts: all of these, by class.
        parts: of an ensemble after smoothing, (votes for that class, rows) of each member.
        invalid: votes with logits that were not finite.
        wrong: what does not fit the run's configuration.
    """

    selected: int | None = None
    selection: Counter[int] = field(default_factory=Counter)
    estimation: Counter[int] = field(default_factory=Counter)
    path: list[tuple[int, int]] = field(default_factory=list)
    second: tuple[int, int] | None = None
    second_counts: Counter[int] = field(default_factory=Counter)
    parts: list[tuple[int, int]] = field(default_factory=list)
    invalid: int = 0
    wrong: list[str] = field(default_factory=list)


def phases_of(chunks: Iterable[ChunkRecord]) -> dict[tuple[str, str], Phase]:
    """The phases of one image; ``chunks`` in their order."""
    found: dict[tuple[str, str], Phase] = {}
    for chunk in chunks:
        found.setdefault((chunk.classifier, chunk.phase), Phase()).chunks.append(chunk)
    return found


def evidence_of(
    record: CertificateRecord, phases: Phases, config: Mapping[str, Any], label: int | None = None
) -> Evidence:
    """The votes a certificate rests on, or what is wrong with them.

    Args:
        label: the image's, which is the class that a certificate of the k > 1 most likely
            speaks of; elsewhere, and without one, it is that of the selection votes.
    """
    rule, found = config.get("stop", FIXED), Evidence()
    stage, rows = _stage(record, config) if rule == STAGED else (0, config["n"])
    if rule in ANYTIME and record.n is not None and 0 < record.n <= config["n"]:
        rows = record.n  # any look will do
    for earlier in range(stage):
        for phase in (SELECTION, ESTIMATION):
            found.invalid += _phase(record, phases, phase, earlier).counts[INVALID]
    selection = _phase(record, phases, SELECTION, stage).first(config["n0"])
    found.selection, second = selection.counts, 0
    if config.get("certificate") == DOUBLE_SAMPLING:
        rows = samples_of_first(config, found.selection)
        second = config["n"] - rows
    estimation = _phase(record, phases, ESTIMATION, stage).first(rows)
    found.estimation = estimation.counts
    parts = [(selection, config["n0"], SELECTION), (estimation, rows, ESTIMATION)]
    if second:
        parts.append((_phase(record, phases, SECOND_LAW, 0).first(second), second, SECOND_LAW))
        found.second_counts = parts[-1][0].counts
    found.invalid += sum(part.counts[INVALID] for part, _, _ in parts)
    found.wrong += _incomplete(parts, ended=found.invalid > 0)
    for part, _, said in parts:
        if others := foreign(config, part.counts):
            found.wrong.append(f"its {said} has votes for {others}, which the run leaves out")
    if not found.wrong and not found.invalid:
        most = max(found.selection.values())
        found.selected = min(key for key, votes in found.selection.items() if votes == most)
        if label is not None and top_of(config) > 1:
            found.selected = label
        found.path = estimation.path(found.selected)
        if second:
            found.second = found.second_counts[found.selected], second
    return found


def _incomplete(parts: Iterable[tuple[Phase, int, str]], *, ended: bool) -> list[str]:
    """Phases that have not the rows they should have; an error may end the counting early."""
    wrong = []
    for part, wanted, said in parts:
        if part.rows != wanted and not ended:
            wrong.append(f"{part.rows} of {wanted} rows of its {said} are stored")
        if not part.adds_up:
            wrong.append(f"the votes of its {said} do not add up to its rows")
    return wrong


def _phase(record: CertificateRecord, phases: Phases, phase: str, stage: int) -> Phase:
    name = f"{phase}-{stage}" if stage else phase
    return phases.get((record.classifier, name), Phase())


def _stage(record: CertificateRecord, config: Mapping[str, Any]) -> tuple[int, int]:
    """Which stage a certificate ended in, and its size: told by its number of samples."""
    sizes: list[int] = [*config["stages"], config["n"]]
    stage = sizes.index(record.n) if record.n in sizes else 0
    return stage, sizes[stage]
