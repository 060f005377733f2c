"""What a run of deterministic certificates says: verdicts, one image explained, consistency.

Its records hold no counts. Bounds follow from weights and data alone, so checking them again means
computing them again (``phalanx certify`` with another ``--out``, or ``--arithmetic outward``, which
checks every one on the way); what is seen here is whether the records contradict themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
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


def bounded_note(store: RunStore) -> str:
    """The verdicts of a run in a sentence, and the arithmetic they hold in."""
    counts = Counter(record.verdict for record in store.certificates())
    said = ", ".join(f"{count} {verdict.value}" for verdict, count in sorted(counts.items()))
    arithmetic = MEANS.get(str(store.manifest.config.get("arithmetic")), "")
    return f"Deterministic bounds: {said}; {arithmetic}."


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
        lines.append("a tighter method (--method alpha-crown), or a smaller radius, may decide it")
    return lines
