"""What a network computes with counts; addresses, order of sets and processes do not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn

from phalanx.errors import ModelError
from phalanx.models.fingerprint import fingerprint

Pair = namedtuple("Pair", "a b")


class Net(nn.Module):
    """A network with an attribute."""

    def __init__(self, value=None):
        super().__init__()
        self.layer, self._value = nn.Linear(2, 2), value

    def forward(self, x):
        return scaled(self.layer(x))


def scaled(x):
    return x * 2


def with_forward(forward) -> Net:
    network = Net()
    network.forward = forward.__get__(network)
    return network


def with_hook(hook, **options) -> Net:
    network = Net()
    network.layer.register_forward_hook(hook, **options)
    return network


def with_pre_hook(hook) -> Net:
    network = Net()
    network.register_forward_pre_hook(hook)
    return network


class Holder:
    """A hook with state."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, module, inputs, output):
        return output * self.factor


def closing_over(k):
    return lambda x: x * k


CASES = {
    "plain": Net,
    "1": lambda: Net(1),
    "True": lambda: Net(True),
    "1.0": lambda: Net(1.0),
    "text": lambda: Net("1"),
    "list": lambda: Net([1]),
    "tuple": lambda: Net((1,)),
    "set": lambda: Net({"a", "bb", "ccc", "dddd"}),
    "dict": lambda: Net({"a": 1}),
    "ordered": lambda: Net(OrderedDict(a=1)),
    "pair": lambda: Net(Pair(1, 2)),
    "tensor": lambda: Net(torch.tensor(1.0)),
    "tensor-2": lambda: Net(torch.tensor(2.0)),
    "in-dict": lambda: Net({"a": torch.tensor(2.0)}),
    "dtype": lambda: Net(torch.float32),
    "lambda": lambda: Net(lambda x: x + 1),
    "lambda-2": lambda: Net(lambda x: x + 2),
    "closure-1": lambda: Net(closing_over(1)),
    "closure-2": lambda: Net(closing_over(2)),
    "partial-1": lambda: Net(functools.partial(max, 1)),
    "partial-2": lambda: Net(functools.partial(max, 2)),
    "cached": lambda: Net(functools.cache(scaled)),
    "forward": lambda: with_forward(lambda self, x: -self.layer(x)),
    "forward-2": lambda: with_forward(lambda self, x: self.layer(x)),
    "hook": lambda: with_hook(lambda module, inputs, output: output.flip(-1)),
    "hook-2": lambda: with_hook(lambda module, inputs, output: output),
    "hook-kwargs": lambda: with_hook(lambda module, inputs, output: output, with_kwargs=True),
    "hook-object": lambda: with_hook(Holder(1)),
    "hook-object-2": lambda: with_hook(Holder(2)),
    "pre-hook": lambda: with_pre_hook(lambda module, inputs: None),
    "traced": lambda: torch.fx.symbolic_trace(Net()),
}


def fingerprints() -> dict[str, str]:
    return {name: fingerprint(make()) for name, make in CASES.items()}


def test_every_difference_counts():
    assert len(set(fingerprints().values())) == len(CASES)


def test_processes_agree():
    here = Path(__file__)
    code = f"import {here.stem} as t; print(sorted(t.fingerprints().items()))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here.parent)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{sorted(fingerprints().items())}\n"}


def test_a_replaced_helper_and_a_replaced_method_count(monkeypatch):
    before = fingerprint(Net())
    monkeypatch.setitem(globals(), "scaled", closing_over(3))
    changed = fingerprint(Net())
    monkeypatch.setattr(Net, "forward", closing_over(3))
    assert len({before, changed, fingerprint(Net())}) == 3


def test_weights_mode_and_use_do_not_count():
    network = Net()
    before = fingerprint(network)
    network(torch.rand(1, 2))
    assert fingerprint(network.eval().requires_grad_(False).double()) == before


def test_a_network_that_holds_itself_ends():
    network = Net([])
    network.__dict__["me"] = network
    network._value.append(network._value)
    assert fingerprint(network) == fingerprint(network)


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ModelError, match="holds a lock, whose state cannot be read"):
        fingerprint(Net(threading.Lock()))
