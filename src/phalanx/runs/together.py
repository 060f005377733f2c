"""An ensemble after smoothing a second time: its members' stored votes, and their one radius.

Shares no code with ``phalanx.smoothing``. A bound p on the one class is a signed radius
``Phi^-1(p)``; the ensemble's lies half way between the largest and the smallest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from statistics import NormalDist
from typing import Any

from phalanx.runs.arithmetic import lower_limits
from phalanx.runs.evidence import Evidence, Phase, Phases
from phalanx.runs.schema import ESTIMATION, INVALID, SELECTION, ClassifierRecord, Manifest

AFTER_SMOOTHING = "after-smoothing"
_NORMAL = NormalDist()


def members_of(manifest: Manifest) -> dict[str, list[str]]:
    """By ensemble after smoothing, the names of its members among the run's classifiers."""
    alone = {
        _member(c): c.name for c in reversed(manifest.classifiers) if not c.identity.get("reducer")
    }
    return {
        c.name: [alone.get(str(member), "") for member in c.identity.get("members", ())]
        for c in manifest.classifiers
        if c.identity.get("reducer") == AFTER_SMOOTHING
    }


def _member(record: ClassifierRecord) -> str:
    members = record.identity.get("members") or [None]
    return str(members[0])


def joint_evidence(names: Sequence[str], phases: Phases, config: Mapping[str, Any]) -> Evidence:
    """The votes of all members about the class most of their selection votes are for."""
    found, chosen = Evidence(), Counter[int]()
    members: list[Phase] = []
    for name in names:
        selection = phases.get((name, SELECTION), Phase()).first(config["n0"])
        estimation = phases.get((name, ESTIMATION), Phase()).first(config["n"])
        for part, wanted in ((selection, config["n0"]), (estimation, config["n"])):
            if part.rows != wanted or not part.adds_up:
                found.wrong.append(f"the votes of {name or 'a member'!r} are not all stored")
        chosen.update(selection.counts)
        members.append(estimation)
        found.invalid += selection.counts[INVALID] + estimation.counts[INVALID]
    if not found.wrong and not found.invalid:
        found.selection = chosen
        found.selected = min(chosen, key=lambda label: (-chosen[label], label))
        found.parts = [member.path(found.selected)[-1] for member in members]
        hits, seen = zip(*found.parts, strict=True)
        found.path = [(sum(hits), sum(seen))]
    return found


def joint_limit(parts: Sequence[tuple[int, int]], alpha: float) -> float:
    """The probability whose radius is the ensemble's, from (votes, samples) of each member.

    >>> round(joint_limit([(1000, 1000), (600, 1000)], 0.001), 6)
    0.898783
    """
    limits = lower_limits(list(parts), alpha / len(parts)).values()
    low, high = min(limits), max(limits)
    if low == 0:
        return 0.0
    signed = [_NORMAL.inv_cdf(p) if p < 1 else inf for p in (low, high)]
    return _NORMAL.cdf(sum(signed) / 2)
