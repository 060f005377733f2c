"""What the stored votes of each certificate give: the evidence, and its bounds.

Shares no code with ``phalanx.smoothing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from phalanx.runs.arithmetic import lower_limit, lower_limits
from phalanx.runs.choices import alternatives, top_of
from phalanx.runs.double_sampling import NAME as DOUBLE_SAMPLING
from phalanx.runs.double_sampling import Found
from phalanx.runs.drawn import RANDOMISED, drawn_number, randomised_limit
from phalanx.runs.evidence import Evidence, evidence_of, phases_of
from phalanx.runs.imports import KIND as IMPORT
from phalanx.runs.lattice import charges
from phalanx.runs.schema import INVALID, CertificateRecord, SlopeRecord
from phalanx.runs.sequential import ANYTIME, FIXED, final_alpha, supported
from phalanx.runs.store import RunStore
from phalanx.runs.together import joint_evidence, joint_limit, members_of
from phalanx.verdicts import Verdict


@dataclass
class Case:
    """A certificate with what its stored votes say."""

    record: CertificateRecord
    label: int | None
    votes: Evidence = field(default_factory=Evidence)
    noise: SlopeRecord | None = None
    missing: str = ""
    imported: bool = False

    @property
    def pair(self) -> tuple[int, int] | None:
        """(n_A, n), where the votes are known and in order."""
        return self.votes.path[-1] if self.votes.path else None


def cases_of(run: RunStore, records: list[CertificateRecord]) -> list[Case]:
    """The cases of a run's certificates, which are ordered by image."""
    labels, config = run.labels(), run.manifest.config
    if run.manifest.kind == IMPORT:
        return [_published(record, labels.get(record.image)) for record in records]
    cases: list[Case] = []
    image, phases = None, phases_of([])
    members, slopes = members_of(run.manifest), run.slopes()
    for record in records:
        if record.image != image:
            image, phases = record.image, phases_of(run.chunks(record.image))
        if record.classifier in members and _joint_is_known(config):
            votes = joint_evidence(members[record.classifier], phases, config)
        elif record.classifier in members:
            missing = "there is no independent code for after-smoothing with this stop or bound"
            cases.append(Case(record, labels.get(record.image), missing=missing))
            continue
        else:
            votes = evidence_of(record, phases, config, labels.get(record.image))
        noise = slopes.get((record.image, record.classifier))
        cases.append(_counted(Case(record, labels.get(record.image), noise=noise), votes))
    return cases


def _joint_is_known(config: Mapping[str, Any]) -> bool:
    fixed = config.get("stop", FIXED) == FIXED and top_of(config) == 1
    return fixed and config.get("bound") != RANDOMISED


def _published(record: CertificateRecord, label: int | None) -> Case:
    case = Case(record, label, imported=True)
    if record.n_a is None or record.n is None:
        case.missing = "imported without counts"
    else:
        case.votes = Evidence(record.predicted, path=[(record.n_a, record.n)])
    return case


def _counted(case: Case, votes: Evidence) -> Case:
    record = case.record
    if record.verdict is Verdict.ERROR and not votes.invalid:
        case.missing = f"ended in an error: {record.reason or 'no reason stored'}"
        return case
    case.votes = votes
    if case.pair is not None and (record.n_a, record.n) != case.pair:
        stored = f"n_A {record.n_a} of {record.n}"
        votes.wrong.append(f"{stored} is stored, the votes give {case.pair[0]} of {case.pair[1]}")
    return case


class Limits:
    """The bounds that the votes of cases give under a run's configuration."""

    def __init__(self, cases: Sequence[Case], config: Mapping[str, Any]) -> None:
        self.config = config
        self.runner_up = float(config.get("runner_up") or 0.0)
        self.alpha, self.charged = final_alpha(config), charges(config)
        self.drawn = config.get("bound") == RANDOMISED
        known = [c for c in cases if c.pair is not None and not c.votes.parts]
        pairs = [c.pair for c in known if c.pair is not None and c.votes.second is None]
        self._fixed = {} if self.drawn else lower_limits(pairs, self.alpha)
        # Where two laws were sampled, each lower bound has half of alpha.
        both = (pair for c in known for pair in (c.pair, c.votes.second) if c.votes.second and pair)
        self._halved = lower_limits(both, self.alpha / 2)

    def lower(self, case: Case) -> float:
        """The lower bound on the probability of the selected class, after the charge."""
        stored, votes, taken = case.record.p_lower, case.votes, self.charged.probability
        if votes.parts:
            return max(0.0, joint_limit(votes.parts, self.alpha) - taken)
        if votes.second is not None and case.pair is not None:
            return self._halved[case.pair]
        if self.config.get("stop", FIXED) in ANYTIME and stored is not None:
            # Any look could have given it; what none supports is not what the votes give.
            counted = stored + taken if stored else 0.0
            return stored if supported(counted, votes.path, self.config) else 0.0
        return max(0.0, self._counted(case) - taken)

    def two_laws(self, case: Case) -> Found | None:
        """What the votes say where they are double sampling's; None for other certificates."""
        if self.config.get("certificate") != DOUBLE_SAMPLING or case.pair is None:
            return None
        second = case.votes.second
        q_lower = 0.0 if second is None else self._halved[second]
        return Found(case.pair, second, self.lower(case), q_lower)

    def _counted(self, case: Case) -> float:
        n_a, n = case.pair or (0, 1)
        return self._limit(case, n_a, n, self.alpha) if self.drawn else self._fixed[n_a, n]

    def _limit(self, case: Case, hits: int, n: int, alpha: float) -> float:
        if not self.drawn:
            return lower_limit(hits, n, alpha)
        drawn = drawn_number(self.config["seed"], case.record.image)
        return randomised_limit(hits, n, alpha, drawn)

    def others(self, case: Case, p_lower: float) -> list[float] | None:
        """Upper bounds on 1 .. k other classes together, where the run computed them."""
        if not self.runner_up or case.pair is None:
            return None
        n, top, taken = case.pair[1], top_of(self.config), self.charged.probability
        beside = {k: v for k, v in case.votes.estimation.items() if k != case.votes.selected}
        votes = sorted((v for k, v in beside.items() if k != INVALID), reverse=True)[:top]
        share = self.config["alpha"] * self.runner_up / max(alternatives(self.config) - 1, 1)
        votes += [0] * (top - len(votes))
        each = [1 - self._limit(case, n - v, n, share) for v in votes]
        sums = accumulate(reversed(each))
        return [min(total, 1 - p_lower - taken) + taken for total in sums]
