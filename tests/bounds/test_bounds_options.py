"""Options of bounding methods: what they may be, and who reads which."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from bounds_nets import around, network

from phalanx.bounds.front import compute
from phalanx.bounds.options import Options
from phalanx.bounds.problem import methods
from phalanx.errors import ParameterError

NAN, INF = float("nan"), float("inf")
KNOWN = [option.name for option in fields(Options)]
WRONG = {
    "iterations": (0, -1, 2.5, 16.0, "abc", True, None, NAN, [16]),
    "step": (0, -0.1, NAN, INF, "abc", True, None, 10**400),
    "layers": ("nonsense", 1, None, ["none"]),
    "slopes": ("row", None),
    "enough": ("abc", NAN, INF, -INF, False, [0.0], -(10**400)),
    "cuts": (-1, 1.5, "abc", False, None, INF),
    "group": (1, 4, 9, 2.0, "2", None),
    "jacobians": ("both", None, 0),
    "seconds": (0, -1.0, NAN, INF, "abc", True),
}
RIGHT = {
    "iterations": (1, 300),
    "step": (1e-9, 1, 2.5),
    "layers": ("none", "layers", "full"),
    "slopes": ("rows", "shared"),
    "enough": (None, 0, -1e9, 2.5),
    "cuts": (0, 20),
    "group": (2, 3),
    "jacobians": ("fastlip", "recurjac"),
    "seconds": (None, 1e-9, 60),
}


def test_every_option_is_tried() -> None:
    assert set(WRONG) == set(RIGHT) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_values_that_mean_nothing_are_refused_in_words(name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(ParameterError) as caught:
            Options(**{name: value})
        assert caught.value.what == f"{name} is {value!r}"
        assert caught.value.why
        assert caught.value.repair
        with pytest.raises(ParameterError):
            replace(Options(), **{name: value})


@pytest.mark.parametrize("name", KNOWN)
def test_values_that_mean_something_are_kept(name: str) -> None:
    for value in RIGHT[name]:
        assert getattr(Options(**{name: value}), name) is value


def test_what_a_method_says_it_reads_are_options() -> None:
    for method in methods.names():
        assert set(methods.reads(method)) <= set(KNOWN)
    assert methods.reads("krelu") == methods.reads("kpoly") == ("group", "cuts", "seconds")
    assert methods.reads("crown") == ()
    assert set().union(*map(methods.reads, methods.names())) == set(KNOWN)
    with pytest.raises(ParameterError, match="magic"):
        methods.reads("magic")


class Watched(Options):
    """Options that know what was asked of them."""

    def __getattribute__(self, name: str) -> object:
        if name in KNOWN:
            SEEN.add(name)
        return super().__getattribute__(name)


SEEN: set[str] = set()


# alpha-crown-full copies all options into others, and reads what alpha-crown does in full.
@pytest.mark.parametrize("method", [m for m in methods.names() if m != "alpha-crown-full"])
def test_methods_read_what_they_say(method: str) -> None:
    if method in ("lp", "kpoly"):
        pytest.importorskip("highspy")
    graph, seen = network("relu", 2), set()
    for layers in ("none", "layers", "full"):
        options = Watched(layers=layers, iterations=2)
        SEEN.clear()
        compute(graph, around(graph, 0.6, 2), method=method, options=options)
        seen |= SEEN
    assert seen == set(methods.reads(method))


def test_in_full_all_but_the_choice_of_layers_is_read() -> None:
    plain, full = methods.reads("alpha-crown"), methods.reads("alpha-crown-full")
    assert set(plain) - set(full) == {"layers"}
    graph = network("relu", 2)
    region = around(graph, 0.6, 2)
    few, many = (
        compute(graph, region, method="alpha-crown-full", options=Options(iterations=count)).lower
        for count in (1, 8)
    )
    assert not torch.equal(few, many)


def test_a_method_that_says_nothing_reads_nothing() -> None:
    methods.register("silent")(lambda problem: problem.rows.new_zeros(problem.rows.shape[:2]))
    try:
        assert methods.reads("silent") == ()
    finally:
        methods.unregister("silent")
