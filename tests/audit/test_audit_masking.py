"""Every sign that gradients mislead is seen where it is planted, and nowhere else."""

import numpy as np
import pytest

from phalanx.audit.masking import checks
from phalanx.audit.measures import CLEAN, Answers
from phalanx.audit.protocols import EFFORTS, PUBLISHED, suite

IMAGES = 50
SUITE = suite(2, EFFORTS["quick"])
FOUND = {"scores": 0.4, "transfer": 0.4, "one-step": 0.6, "unbounded": 0.0}


def answers_with(**changes):
    """Both members alike; the share of images each kind of attack leaves, 0.4 unless changed."""
    right = [np.ones((2, IMAGES), dtype=bool)]
    for protocol in SUITE:
        kept = changes.get(protocol.name, {**FOUND, **changes}.get(protocol.kind, 0.4))
        right.append(np.tile(np.arange(IMAGES) < kept * IMAGES, (2, 1)))
    stacked = np.stack(right)
    names = (CLEAN, *(protocol.name for protocol in SUITE))
    return Answers(names, stacked, stacked[:, 0], np.array([0.5, 0.5]))


def alarms(flat=0.0, **changes):
    found = checks(answers_with(**changes), SUITE, np.full(IMAGES, flat))
    return [check.name for check in found if check.alarm]


def test_an_honest_defence_raises_no_alarm():
    assert alarms() == []


@pytest.mark.parametrize(
    ("planted", "sign"),
    [
        ({"scores": 0.2}, "scores find what gradients miss"),
        ({"transfer": 0.2}, "other classifiers' attacks find what its own gradients miss"),
        ({"one-step": 0.2}, "one step finds what ten miss"),
        ({"restarts": 0.2}, "restarts keep finding"),
        ({"unbounded": 0.3}, "accuracy is left where everything is allowed"),
        ({"flat": 0.5}, "gradients are zero at the image"),
        ({PUBLISHED: 0.8}, "the published protocol flatters"),
    ],
)
def test_a_planted_sign_is_found_alone(planted, sign):
    assert alarms(**planted) == [sign]
