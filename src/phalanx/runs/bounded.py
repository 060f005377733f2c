"""What a run of deterministic certificates says: verdicts, one image explained, consistency.

Its records hold no counts. Bounds follow from weights and data alone, so checking them again means
computing them again (``phalanx certify`` with another ``--out``, or ``--arithmetic outward``, which
checks every one on the way); what is seen here is whether the records contradict themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from phalanx.errors import RunError
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

WHY_NOT = "its bounds follow from weights and data, which a run does not hold"
MEANS = {
    "outward": "every bound was checked again in double precision with roundings counted",
    "real": "bounds hold in real arithmetic: roundings were not counted",
}

AUTO, FULL = "auto", "alpha-crown-full"
BOUNDING = (("alpha-crown", "lp"), (FULL,), ("kpoly",))
"""Methods in the order in which they are worth a try behind all others; of those in one place,
which come to about the same over the same boxes, the first is named."""
ENGINES = ("branch-and-bound", "milp")
"""Complete methods in that order."""
COMPLETE = (*ENGINES, "branch-and-bound-cuts", "branch-and-bound-lp", "smt")
PROGRAMS = ("kpoly", "milp")
"""Those of them that need HiGHS."""
JOINED = ("mean", "softmax", "weighted")
"""Reducers under which an ensemble is one network, as complete methods need it."""


def bounded_note(store: RunStore) -> str:
    """The verdicts of a run in a sentence, and the arithmetic they hold in.

    Where several methods took turns, by which of them images were decided.
    """
    records, config = store.certificates(), store.manifest.config
    counts = Counter(record.verdict for record in records)
    by = _deciders(records, config) if config.get("method") == AUTO else {}
    said = ", ".join(
        f"{count} {verdict.value}{by.get(verdict, '')}" for verdict, count in sorted(counts.items())
    )
    arithmetic = MEANS.get(str(store.manifest.config.get("arithmetic")), "")
    return f"Deterministic bounds: {said}; {arithmetic}."


def _deciders(
    records: Sequence[CertificateRecord], config: Mapping[str, Any]
) -> dict[Verdict, str]:
    """In brackets, who decided; an image is falsified by the attack that bounds leave it to."""
    proven = [record for record in records if record.verdict is Verdict.VERIFIED]
    # What a method tried before it is what is cheaper.
    proven.sort(key=lambda record: len(record.details.get("tried", ())))
    counts = Counter(record.details.get("method", "?") for record in proven)
    said = ", ".join(f"{count} by {method}" for method, count in counts.items())
    return {Verdict.VERIFIED: f" ({said})", Verdict.FALSIFIED: f" (by {config.get('falsify')})"}


def contradictions(record: CertificateRecord, config: Mapping[str, Any]) -> list[str]:
    """What a record says that cannot be together.

    >>> contradictions(CertificateRecord("m", 0, Verdict.VERIFIED, 1, True, 0.1), {"eps": 0.2})
    ['it is verified and has no positive margin', 'radius 0.1 is not the eps of the run, 0.2']
    """
    wrong, margin = [], record.details.get("margin")
    verified = record.verdict is Verdict.VERIFIED
    proven = isinstance(margin, int | float) and math.isfinite(margin) and margin > 0
    if verified and not proven:
        wrong.append("it is verified and has no positive margin")
    if verified and not config.get("search") and record.radius != config.get("eps"):
        wrong.append(f"radius {record.radius} is not the eps of the run, {config.get('eps')}")
    if verified and config.get("search") and not 0 < (record.radius or 0) <= config["eps"]:
        wrong.append(f"radius {record.radius} is outside of what was searched")
    if config.get("arithmetic") == "outward" and verified and not record.details.get("confirmed"):
        wrong.append("it was not confirmed with roundings counted")
    if not verified and record.verdict is not Verdict.ERROR and record.radius != 0.0:
        wrong.append(f"it is {record.verdict.value} and has radius {record.radius}")
    if record.verdict is Verdict.ERROR and (record.radius is not None or record.correct):
        wrong.append("it ended in an error and still claims something")
    return wrong


def explain_bounded(run: RunStore, classifier: str, image: int) -> list[str]:
    """One certificate in sentences.

    Raises:
        RunError: there is none for that image.
    """
    found = run.certificates(classifier, image)
    if not found:
        raise RunError(f"{classifier!r} has no certificate for image {image}")
    record, config = found[0], run.manifest.config
    said, label = record.details, run.labels().get(image)
    lines = [
        f"image {image} of {classifier!r}: {record.verdict.value}"
        + (f", {record.reason}" if record.reason else ""),
        f"answered {record.predicted}, label {'unknown' if label is None else label}",
    ]
    if record.verdict is Verdict.VERIFIED:
        lines.append(
            f"that is the answer to every input within {config['norm']} {record.radius:.6g},"
            f" proven by {said['method']}: its logit leads class {said['against']} by at least"
            f" {said['margin']:.4g}"
        )
        lines.append(MEANS.get(said["arithmetic"], said["arithmetic"]))
    elif record.verdict is Verdict.UNKNOWN:
        lines.append(f"tried: {', '.join(said['tried'])}")
        lines.append(_advice(record, run))
    return lines


def next_method(tried: Collection[str], *, complete: bool, programs: bool) -> str | None:
    """What to try behind these methods; None: nothing is left.

    Args:
        tried: names.
        complete: whether complete methods can be asked.
        programs: whether HiGHS is installed.

    >>> next_method(["interval", "crown"], complete=True, programs=True)
    'alpha-crown'
    >>> next_method(["alpha-crown", "alpha-crown-full"], complete=True, programs=False)
    'branch-and-bound'
    """
    left = [name for name in ENGINES if complete and name not in tried]
    if not any(name in COMPLETE for name in tried):
        last = max((at for at, names in enumerate(BOUNDING) if set(names) & set(tried)), default=-1)
        left = [names[0] for names in BOUNDING[last + 1 :]] + left
    return next((name for name in left if programs or name not in PROGRAMS), None)


def _advice(record: CertificateRecord, run: RunStore) -> str:
    """What may decide an image that is open."""
    config, tried = run.manifest.config, set(record.details["tried"])
    if config.get("options", {}).get("layers") == "full":
        tried.add(FULL)
    identity = next(c.identity for c in run.manifest.classifiers if c.name == record.classifier)
    joined = identity.get("reducer", JOINED[0]) in JOINED
    complete = config["norm"] == "linf" and joined
    name = next_method(tried, complete=complete, programs=find_spec("highspy") is not None)
    ways = ["a smaller radius"]
    if name is not None:
        ways.insert(
            0, f"--method {name}{' (complete, real arithmetic)' if name in COMPLETE else ''}"
        )
    if record.reason.endswith(": timeout"):
        ways.insert(0, "more time (--set seconds=...)")
    said = f"{' or '.join(filter(None, [', '.join(ways[:-1]), ways[-1]]))} may decide it"
    return said if name is not None else f"no tighter method is left here: {said}"
