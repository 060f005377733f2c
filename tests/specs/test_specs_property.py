import pytest
import torch

from phalanx.errors import DataError
from phalanx.specs.property import Case, Property


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def case(**changes):
    parts = {
        "lower": numbers(0, 0),
        "upper": numbers(1, 1),
        "outputs": numbers(1, -1, 0)[None],
        "offset": numbers(0.5),
    }
    return Case(**{**parts, **changes})


def test_a_point_is_unsafe_only_inside_the_box_and_below_zero():
    x = numbers([0.5, 0.5], [0.5, 1.5], [0.5, 0.5], [0.5, 0.5])
    y = numbers([0, 0.5, 9], [0, 5, 9], [0, 0.25, 9], [0, float("nan"), 9])
    assert case().holds(x, y).tolist() == [True, False, False, False]


def test_inputs_count_in_the_rows():
    mixed = case(inputs=numbers(2, 0)[None])
    x, y = numbers([0.25, 0.0]), numbers([0, 0, 0])[None]
    assert mixed.values(x, y).item() == 1.0


def test_every_row_must_hold():
    both = case(outputs=numbers([1, 0, 0], [0, 1, 0]), offset=numbers(0, 0))
    x = numbers([0.5, 0.5]).expand(2, 2)
    assert both.holds(x, numbers([-1, -1, 0], [-1, 1, 0])).tolist() == [True, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"lower": numbers(2, 0)},
        {"lower": numbers(float("nan"), 0)},
        {"upper": numbers(1, float("inf"))},
        {"offset": numbers(0, 0)},
        {"inputs": numbers(1, 1, 1)[None]},
        {"lower": torch.zeros(2)},
    ],
)
def test_a_case_that_says_nothing_is_refused(changes):
    with pytest.raises(DataError):
        case(**changes)


def test_a_property_has_cases_of_one_size():
    with pytest.raises(DataError, match="without a case"):
        Property(())
    with pytest.raises(DataError, match="different numbers"):
        Property((case(), case(outputs=numbers(1, 0)[None])))
    assert Property((case(),)).sizes == (2, 3)
