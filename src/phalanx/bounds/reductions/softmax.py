"""Mean of the softmax confidences: the weighted one with equal weights."""

from __future__ import annotations

from phalanx.bounds.reductions import reductions
from phalanx.bounds.reductions.weighted import weighted

reductions.register("softmax")(weighted)
