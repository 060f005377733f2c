"""What the audit reports, against a count by hand."""

import numpy as np
import pytest

from phalanx.audit.measures import CLEAN, Answers, Figure, figures
from phalanx.errors import ParameterError


@pytest.fixture
def answers():
    """Two members, three protocols, four images."""
    right = np.array(
        [
            [[1, 1, 1, 0], [1, 1, 1, 1]],  # clean
            [[0, 1, 1, 0], [1, 1, 1, 1]],  # on the module that draws
            [[1, 0, 1, 0], [0, 0, 1, 1]],  # adaptive
        ],
        dtype=bool,
    )
    averaged = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]], dtype=bool)
    return Answers((CLEAN, "drawn", "adaptive"), right, averaged, np.array([0.5, 0.5]))


def test_every_figure_is_a_count(answers):
    assert answers.scored(CLEAN).tolist() == [1, 1, 1, 0.5]
    assert answers.scored("drawn").tolist() == [0.5, 1, 1, 0.5]
    assert answers.expected(["drawn"]).tolist() == [0.5, 1, 1, 0.5]
    assert answers.expected().tolist() == [0.5, 0, 1, 0.5]
    assert answers.every().tolist() == [False, False, True, False]
    assert answers.some().tolist() == [True, False, True, True]
    assert answers.together().tolist() == [True, False, True, True]
    assert answers.alone().tolist() == [[False, False, True, False], [False, False, True, True]]
    found = figures(answers, ["drawn"])
    assert {name: one.value for name, one in found.items()} == {
        "clean, expected": 0.875,
        "clean, averaged": 1.0,
        "published style": 0.75,
        "worst case, expected": 0.5,
        "worst case, every member right": 0.25,
        "worst case, some member right": 0.75,
        "worst case, averaged": 0.75,
        "worst case, best member alone": 0.5,
        "published - worst": 0.25,
        "averaged - worst": 0.25,
    }


def test_the_worst_case_is_never_above_any_protocol_and_ordered():
    random = np.random.default_rng(0)
    right = random.random((5, 3, 200)) < 0.7
    names = (CLEAN, *"abcd")
    answers = Answers(names, right, random.random((5, 200)) < 0.8, np.array([0.2, 0.3, 0.5]))
    worst = answers.expected()
    for name in names:
        assert (worst <= answers.scored(name) + 1e-12).all()
        assert (worst <= answers.expected([name]) + 1e-12).all()
    assert (answers.every() <= worst + 1e-12).all()
    assert (worst <= answers.some()).all()


def test_probabilities_weigh_the_members(answers):
    weighted = Answers(answers.protocols, answers.right, answers.averaged, np.array([0.9, 0.1]))
    assert weighted.scored(CLEAN).tolist() == pytest.approx([1, 1, 1, 0.1])


def test_transfer_counts_what_was_taken_from_another(answers):
    table = answers.transfer(["drawn", "adaptive"])
    assert table[0].tolist() == [1, 0]  # image 0 fell for member 0, and not for member 1
    assert table[1].tolist() == [0.5, 1]  # images 0 and 1 fell for member 1, image 1 for both
    nothing = answers.transfer([CLEAN, CLEAN])
    assert np.isnan(nothing).all()


def test_a_figure_has_the_interval_of_its_images():
    one = Figure.of([0.0] * 50 + [1.0] * 50)
    assert one.value == 0.5
    assert one.interval[0] < 0.45
    assert one.interval[1] > 0.55
    same = Figure.difference([1.0, 0.0], [1.0, 0.0])
    assert (same.value, same.interval) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize("change", ["names", "averaged", "first", "probabilities", "unknown"])
def test_what_does_not_fit_is_refused(answers, change):
    given = [answers.protocols, answers.right, answers.averaged, answers.probabilities]
    if change == "names":
        given[0] = (CLEAN, "drawn")
    elif change == "averaged":
        given[2] = answers.averaged[:, :2]
    elif change == "first":
        given[0] = ("drawn", CLEAN, "adaptive")
    elif change == "probabilities":
        given[3] = np.ones(1)
    with pytest.raises(ParameterError):
        Answers(*given).scored("square")
