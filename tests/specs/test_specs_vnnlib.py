"""VNN-LIB files are read as what they say, or refused with the line."""

from __future__ import annotations

import csv
import gzip
import random
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from vnnlib_meaning import NoQuery, forms, unsafe

from phalanx.errors import DataError, QueryError
from phalanx.specs.property import Property
from phalanx.specs.vnnlib import parse, read
from phalanx.specs.vnnlib.tokens import DEEPEST

HEAD = """; a comment (with parentheses
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
"""
BOX = """(assert (>= X_0 -1)) (assert (<= X_0 1.5))
(assert (<= X_1 2.0))(assert (>= X_1 0))
"""
OUTSIDE = HEAD + BOX + "(assert (<= Y_0 Y_1))\n(assert (>= Y_0 0.5))"
CASES = HEAD + BOX + "(assert (or (and (<= Y_0 Y_1)(>= Y_0 2))(and (>= Y_1 3.25))))"
BOXES = (
    HEAD
    + """(assert (or
  (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (<= Y_0 0.25))
  (and (>= X_0 -3) (<= X_0 -2) (>= X_1 0) (<= X_1 1) (<= Y_0 Y_1))))"""
)
MIXED = HEAD + BOX + "(assert (<= (+ (* 2 X_0) (- Y_0) (* Y_1 (- 1.5))) (- X_1 0.5)))"
SEVERAL = (
    HEAD
    + BOX
    + """(assert (or (<= X_0 0) (>= X_0 1)))
(assert (or (>= Y_0 1) (and (or (>= Y_1 2) (<= Y_1 -2)) (<= Y_0 0))))"""
)
TEXTS = {
    "outside": OUTSIDE,
    "cases": CASES,
    "boxes": BOXES,
    "mixed": MIXED,
    "several": SEVERAL,
}


def holds(prop: Property, point: list[float]) -> bool:
    """Whether a point of all variables is unsafe in any case."""
    inputs = prop.sizes[0]
    x, y = (torch.tensor([part], dtype=torch.float64) for part in (point[:inputs], point[inputs:]))
    return any(bool(case.holds(x, y)) for case in prop.cases)


def agrees(text: str, prop: Property, draw: random.Random, points: int) -> None:
    """A property means what the other reader says, at points on a grid around it."""
    inputs, outputs = prop.sizes
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    tree = forms(text)
    for _ in range(points):
        case = draw.choice(prop.cases)
        point = [draw.randint(-16, 16) / 4.0 for _ in names]
        if draw.random() < 0.8:
            for i in range(inputs):
                low, high = float(case.lower[i]), float(case.upper[i])
                point[i] = draw.choice([low, high, (low + high) / 2])
        values = dict(zip(names, map(Fraction, point), strict=True))
        assert holds(prop, point) == unsafe(tree, values), (text, point)


@pytest.mark.parametrize("name", TEXTS)
def test_every_form_means_what_another_reader_says(name: str) -> None:
    agrees(TEXTS[name], parse(TEXTS[name]).property, random.Random(name), 300)


def test_a_property_is_cases_of_boxes_and_rows() -> None:
    found = parse(MIXED).property.cases[0]
    assert found.lower.tolist() == [-1.0, 0.0]
    assert found.upper.tolist() == [1.5, 2.0]
    assert found.outputs.tolist() == [[-1.0, -1.5]]
    assert found.inputs is not None
    assert found.inputs.tolist() == [[2.0, -1.0]]
    assert found.offset.tolist() == [0.5]
    assert len(parse(SEVERAL).property.cases) == 6
    boxes = parse(BOXES).property.cases
    assert [case.upper.tolist() for case in boxes] == [[1.0, 1.0], [-2.0, 1.0]]


def test_combinations_of_boxes_that_do_not_meet_vanish_but_not_all() -> None:
    apart = "(assert (or (<= X_0 0) (>= X_0 1)))(assert (or (<= X_0 -0.5) (>= X_0 1.25)))"
    found = parse(HEAD + BOX + apart + "(assert (>= Y_0 1))").property
    assert [case.upper[0].item() for case in found.cases] == [-0.5, 1.5]
    with pytest.raises(QueryError, match="X_0 must lie between"):
        parse(HEAD + BOX + "(assert (or (>= X_0 3) (>= X_0 4)))(assert (>= Y_0 1))")


REFUSED = {
    "unbounded above": (
        HEAD + "(assert (>= X_0 1))(assert (>= Y_0 1))",
        "X_1 is not bounded below",
    ),
    "no outputs": (HEAD + BOX, "asks nothing of the outputs"),
    "no outputs in a case": (
        HEAD + BOX + "(assert (or (>= Y_0 1) (<= X_0 1)))",
        "case 1 asks nothing",
    ),
    "empty box": (HEAD + BOX.replace("1.5", "-1.5") + "(assert (>= Y_0 1))", "must lie between"),
    "empty and": (HEAD + BOX + "(assert (and))", "line 8: .and ...."),
    "empty or": (HEAD + BOX + "(assert (or))", "of no formulas"),
    "strict": (HEAD + BOX + "(assert (> Y_0 1))", "no formula: .> "),
    "not": (HEAD + BOX + "(assert (not (> Y_0 1)))", "no formula: .not"),
    "let": (HEAD + BOX + "(assert (let ((a 1)) (<= a Y_0)))", "no formula: .let"),
    "undeclared": (HEAD + BOX + "(assert (<= Y_2 1))", "'Y_2' is neither a number nor"),
    "twice": (HEAD + "(declare-const X_1 Real)", "line 6: X_1 is declared twice"),
    "gap": (HEAD + "(declare-const X_3 Real)", "X_2 is not declared"),
    "integer": ("(declare-const X_0 Int)", "not declared as one Real"),
    "name": ("(declare-const Z_0 Real)", "neither X_0, X_1"),
    "leading zero": ("(declare-const X_00 Real)", "neither X_0, X_1"),
    "infinite": (HEAD + BOX + "(assert (<= Y_0 inf))", "'inf' is neither"),
    "nan": (HEAD + BOX + "(assert (<= Y_0 nan))", "'nan' is neither"),
    "underscores": (HEAD + BOX + "(assert (<= Y_0 1_0))", "'1_0' is neither"),
    "huge": (HEAD + BOX + "(assert (<= Y_0 1e399))", "float64 cannot hold"),
    "tiny": (HEAD + BOX + "(assert (<= Y_0 1e-399))", "float64 cannot hold"),
    "bomb": (HEAD + BOX + "(assert (<= Y_0 1e999999999))", "out of range"),
    "products": (HEAD + BOX + "(assert (<= (* Y_0 Y_1) 1))", "product of variables"),
    "three": (HEAD + BOX + "(assert (<= Y_0 1 2))", "of 3 terms"),
    "cancelled": (HEAD + BOX + "(assert (<= Y_0 Y_0))", "no variable is left"),
    "constants": (HEAD + BOX + "(assert (<= 1 2))", "no variable is left"),
    "division": (HEAD + BOX + "(assert (<= (/ Y_0 2) 1))", "no term"),
    "command": (HEAD + BOX + "(assert (<= Y_0 1))(pop)", "unknown command .pop"),
    "two formulas": (HEAD + BOX + "(assert (<= Y_0 1) (<= Y_1 1))", "anything but one formula"),
    "word in or": (HEAD + BOX + "(assert (or true (<= Y_0 1)))", "or of words"),
    "open": (HEAD + "(assert (<= X_0 1)", "line 6: an opening parenthesis"),
    "closed": (HEAD + ")", "line 6: a closing parenthesis"),
    "word": ("X_0", "line 1: 'X_0' outside"),
    "nothing": ("; nothing", "is empty"),
    "deep": ("(" * (DEEPEST + 1), "open parentheses"),
    "quoted": (HEAD + '(set-info "a)b")(assert (<= Y_0 1))', "line 6"),
    "carriage return": (HEAD + BOX + "; end\r(assert (<= Y_2 1))", "'Y_2' is neither"),
    "wide blank": (HEAD + BOX + "(assert (<=\u00a0Y_0 1))", "of 1 terms|no formula"),
    "too many": (
        HEAD + BOX + "(assert (or (<= Y_0 1) (<= Y_0 2)))" * 40,
        "cases; at most",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_of_the_language_is_refused_with_its_place(name: str) -> None:
    text, message = REFUSED[name]
    started = time.process_time()
    with pytest.raises(QueryError, match=message) as caught:
        parse(text, source="a.vnnlib")
    assert "a.vnnlib" in str(caught.value)
    assert caught.value.exit_code == 3
    assert time.process_time() - started < 1.0


WORDS = ["(", ")", "and", "or", "<=", ">=", "X_0", "Y_1", "-1", "0.5", "assert", " ", ";", "+", "*"]


def mutated(text: str, draw: random.Random) -> str:
    """A text with one to three small changes, of characters or of words."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(text))
        end = min(len(text), at + draw.choice([1, 1, 1, 2, 5, 20]))
        match draw.randrange(5):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:at] + draw.choice(WORDS) + text[at:]
            case 2:
                text = text[:at] + draw.choice(WORDS) + text[end:]
            case 3:
                text = text[:end] + text[at:end] + text[end:]
            case _:
                text = text[:at] + chr(draw.choice([0, 9, 11, 13, 91, 93, 124, 160])) + text[at:]
        if not text:
            return " "
    return text


def survives(seed: int) -> bool:
    """Whether a mutated text is read; if it is, it must mean what it says."""
    draw = random.Random(seed)
    text = mutated(draw.choice(list(TEXTS.values())), draw)
    try:
        found = parse(text).property
    except DataError:
        return False
    try:
        agrees(text, found, draw, 12)
    except NoQuery:
        raise AssertionError(f"seed {seed}: read, but of no meaning: {text!r}") from None
    return True


def test_mutated_texts_are_refused_or_read_as_they_are() -> None:
    read_as_they_are = sum(survives(seed) for seed in range(800))
    assert 40 < read_as_they_are < 760


@pytest.mark.slow
def test_ten_thousand_mutated_texts() -> None:
    started = time.process_time()
    assert sum(survives(seed) for seed in range(1000, 11000)) > 500
    assert time.process_time() - started < 300


def test_files_may_be_compressed_and_must_be_text(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.vnnlib", tmp_path / "a.vnnlib.gz"
    plain.write_text(CASES)
    packed.write_bytes(gzip.compress(CASES.encode()))
    assert read(packed).property.name == "a"
    assert len(read(plain).property.cases) == len(read(packed).property.cases) == 2
    for name, content in {
        "b.vnnlib": b"\xff\xfe\x00",
        "b.vnnlib.gz": b"no archive",
        "c.vnnlib.gz": packed.read_bytes()[:-9],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(QueryError, match=name):
            read(tmp_path / name)
    with pytest.raises(QueryError, match="absent"):
        read(tmp_path / "absent.vnnlib")


TWO = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1, 2])
  (declare-output Y float32 [1,2]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.5) (<= X[0, 1] 2.0) (>= X[0,1] 0.0)))
"""


def test_version_two_numbers_tensors_row_by_row_and_knows_strict_relations() -> None:
    query = parse(TWO + "(assert (< Y[0,0] Y[0,1]))(assert (>= Y[0,0] 0.5))")
    assert (query.version, query.network) == ("2.0", "f")
    assert query.inputs.shape == (1, 2)
    (case,) = query.property.cases
    (same,) = parse(OUTSIDE).property.cases
    assert torch.equal(case.outputs, same.outputs)
    assert torch.equal(case.lower, same.lower)
    assert case.strict is not None
    assert case.strict.tolist() == [True, False]
    assert not holds(query.property, [0.0, 0.0, 1.0, 1.0])
    assert holds(parse(OUTSIDE).property, [0.0, 0.0, 1.0, 1.0])


def test_version_two_equalities() -> None:
    (case,) = parse(TWO + "(assert (== Y[0,0] Y[0,1]))").property.cases
    assert case.outputs.tolist() == [[1.0, -1.0], [-1.0, 1.0]]
    unequal = parse(TWO + "(assert (!= Y[0,0] 1.0))").property
    assert len(unequal.cases) == 2
    assert not holds(unequal, [0.0, 0.0, 1.0, 5.0])
    assert holds(unequal, [0.0, 0.0, 1.5, 5.0])
    open_box = parse(TWO + "(assert (< X[0,0] 1.0))(assert (<= Y[0,0] 0.0))").property
    assert not holds(open_box, [1.0, 0.0, -1.0, 0.0])
    assert holds(open_box, [0.875, 0.0, -1.0, 0.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO.replace("<2.0>", "<3.0>"), "not <2.0>"),
        (TWO[23:] + "(vnnlib-version <2.0>)", "not <2.0>"),
        (TWO.replace("float32", "float8e5m2"), "type 'float8e5m2'"),
        (TWO.replace("[1, 2]", "[1, 0]"), "shape"),
        (TWO.replace("[1, 2]", "[99999,99999,9999]"), "entries"),
        (TWO.replace("Y float32", "X float32"), "declared twice"),
        (TWO.replace("(declare-output", "(declare-hidden H real [1])(declare-output"), "read"),
        (TWO + "(assert (<= Y[0,2] 1.0))", "neither a number nor"),
        (TWO + "(assert (<= Y[0] 1.0))", "neither a number nor"),
        (TWO + "(assert (<= Y 1.0))", "neither a number nor"),
        (TWO + "(assert (<= Y_0 1.0))", "neither a number nor"),
        (TWO + "(assert (<= (* Y[0,0] Y[0,1]) 1.0))", "product"),
        (TWO + "(declare-network g)", "2 networks"),
        (TWO + "(check-sat)", "unknown command"),
        (TWO, "asks nothing"),
    ],
)  # fmt: skip
def test_version_two_refuses(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse(text)


@pytest.mark.shared
def test_all_benchmark_files_are_read(shared: Path) -> None:
    files, seconds = set(), []
    for table in sorted((shared / "vnncomp").glob("*/instances.csv")):
        with table.open() as lines:
            files |= {table.parent / row["vnnlib"] for row in csv.DictReader(lines)}
    for file in sorted(files):
        started = time.process_time()
        query = read(file)
        if query.property.sizes[0] == 784:
            seconds.append(time.process_time() - started)
        assert query.version == "1.0"
    assert len(files) > 150
    assert sorted(seconds)[len(seconds) // 2] < 0.3


ONE = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)\n"


def exactly(text: str, x: float, y: tuple[float, float]) -> bool:
    (case,) = parse(ONE + text).property.cases
    one = [torch.tensor(part, dtype=torch.float64) for part in ([x], y)]
    return case.holds_exactly(*one)


@pytest.mark.parametrize(
    ("text", "y", "unsafe"),
    [
        ("(<= (+ Y_0 (* 1e16 Y_1)) 1e16)", (0.5, 1.0), False),  # 1e16 + .5 rounds to 1e16
        ("(>= Y_0 1.00000000000000001)", (1.0, 0.0), False),
        ("(>= Y_0 0.99999999999999999)", (1.0, 0.0), True),
        ("(<= Y_0 0.1)", (0.1, 0.0), False),  # the float64 of .1 lies above .1
        ("(<= (* 0.1 Y_0) (* 0.3 Y_1))", (3.0, 1.0), True),  # .1 * 3 is .3
        ("(<= (* 0.1 Y_0) (* 0.3 Y_1))", (3.0000000000000004, 1.0), False),
    ],
)
def test_rows_are_what_the_file_says_to_the_last_digit(text, y, unsafe):
    box = "(assert (>= X_0 0))(assert (<= X_0 1))"
    assert exactly(f"{box}(assert {text})", 0.5, y) is unsafe


@pytest.mark.parametrize(
    ("sides", "x", "inside"),
    [
        ("(>= X_0 0.1) (<= X_0 0.1)", 0.1, True),  # printed as 0.1
        ("(>= X_0 0.10000000000000000001) (<= X_0 1)", 0.1, True),  # it stands for the side
        (
            "(>= X_0 0.1234567890123456789) (<= X_0 0.1234567890123456789)",
            0.12345678901234568,
            True,
        ),
        ("(>= X_0 0.10000000000000000001) (<= X_0 1)", 0.09999999999999999, False),
        ("(>= X_0 0) (<= X_0 0.10000000000000000001)", 0.1, True),
        ("(>= X_0 0) (<= X_0 0.09999999999999999999)", 0.1, True),
    ],
)
def test_an_input_is_in_the_box_as_it_is_printed(sides, x, inside):
    text = f"(assert (and {sides} (>= Y_0 0)))"
    assert exactly(text, x, (1.0, 0.0)) is inside


def test_offsets_are_rounded_to_the_side_of_more_counterexamples():
    for word in ("0.1", "0.3", "1.00000000000000001", "-0.7", "2.5"):
        for relation, sign in (("<=", -1), (">=", 1)):
            text = f"(assert (>= X_0 0))(assert (<= X_0 1))(assert ({relation} Y_0 {word}))"
            (case,) = parse(ONE + text).property.cases
            assert Fraction(case.offset.item()) <= sign * Fraction(word)


def test_a_box_that_is_empty_by_less_than_float64_can_say_is_refused():
    sides = "(assert (>= X_0 1.00000000000000001))(assert (<= X_0 1))(assert (>= Y_0 0))"
    with pytest.raises(QueryError, match="empty set"):
        parse(ONE + sides)


def test_of_a_side_in_two_forms_the_tighter_one_counts():
    text = """(assert (>= X_0 0.10000000000000000001))(assert (<= X_0 0.15))
    (assert (or (and (>= X_0 0.2) (<= Y_0 0)) (and (<= X_0 0.14) (<= Y_0 0))))"""
    (case,) = parse(ONE + text).property.cases  # the other box is empty
    assert (case.upper.item(), case.exact.upper) == (0.14, {})
    assert case.exact.lower == {0: Fraction("0.10000000000000000001")}
    later = "(assert (>= X_0 0.1))(assert (<= X_0 0.15))(assert (<= Y_0 0))"
    for order in ("(assert (>= X_0 0.10000000000000000001))" + later, later):
        (case,) = parse(ONE + order).property.cases
        assert bool(case.exact.lower) is (order != later)


def test_coefficients_that_float64_cannot_hold_are_multiplied_or_kept_beside():
    box = "(assert (>= X_0 0))(assert (<= X_0 1))"
    (case,) = parse(f"{ONE}{box}(assert (<= (* 0.1 Y_0) 0.3))").property.cases
    assert (case.outputs[0, 0].item(), case.offset.item()) == (1.0, -3.0)
    long = "(assert (<= (+ (* 0.1234567890123456789 Y_0) Y_1) 0))"
    (case,) = parse(ONE + box + long).property.cases
    assert case.outputs.tolist() == [[0.12345678901234568, 1.0]]
    assert case.exact.outputs == {(0, 0): Fraction("0.1234567890123456789"), (0, 1): Fraction(1)}
    assert not case.exact.whole
    # On the plane between the float64 row and the row itself.
    y = (2.0**53, -1111999822829979.5)
    near = Fraction(0.12345678901234568) * Fraction(y[0]) + Fraction(y[1])
    true = Fraction("0.1234567890123456789") * Fraction(y[0]) + Fraction(y[1])
    assert exactly(f"{box}{long}", 0.5, y) is (true <= 0)
    assert near != true
