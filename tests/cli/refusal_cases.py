"""The calls of the error table, each wrong in one way."""

from __future__ import annotations

import contextlib
import json
import pickle
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from phalanx.errors import (
    CheckpointError,
    ConfigurationError,
    DataError,
    GraphError,
    ModelError,
    NonFiniteError,
    ParameterError,
    PhalanxError,
    RunError,
    StorageError,
)
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.model import InputSpec, Model, ModelCard

NAN, INF = float("nan"), float("inf")
SHAPE = (1, 8, 8)
UNDECLARED = {"input_range": None, "classes": None, "normalised_inside": None}
"""For models that carry a card."""

Changes = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One wrong call.

    Attributes:
        says: a part of the message.
        change: what is wrong, as changes of the good call, or a function that spoils files in
            a folder and returns them.
        usage: the command line's own parser refuses it, in its own words.
        words: both ways must say the same; not where one reads a file and the other arrays.
        around: the state of the machine in which the call is made.
    """

    name: str
    error: type[PhalanxError]
    says: str
    change: Changes | Callable[[Path], Changes] = field(default_factory=dict)
    usage: bool = False
    words: bool = True
    around: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext


# files that are not what they should be


def checkpoint(folder: Path, sigma: float = 0.25, noise: str | None = None) -> Path:
    """A network trained for a sigma, as Phalanx saves it."""
    card = ModelCard("net", "mlp", {"hidden": [4]}, sigma=sigma, noise=noise)
    network = build("mlp", 10, SHAPE, hidden=[4]).eval()
    return save(Model(network, InputSpec(shape=SHAPE), 10, card), folder / "net")


def spoilt(damage: Callable[[Path], object]) -> Callable[[Path], Changes]:
    """The change that certifies a checkpoint after ``damage``."""

    def change(folder: Path) -> Changes:
        path = checkpoint(folder)
        damage(path)
        return {"models": [str(path)], **UNDECLARED}

    return change


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def edit_card(path: Path, **changes: object) -> None:
    card = path.with_name("net.card.json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


class Bomb:
    """Leaves a mark if it is ever unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise RuntimeError('executed')",))


def bomb_as_weights(folder: Path) -> Changes:
    path = folder / "weights.pt"
    path.write_bytes(pickle.dumps(Bomb()))
    return {"models": ["lenet5"], "weights": path}


def other_weights(folder: Path) -> Changes:
    path = folder / "weights.safetensors"
    safetensors.torch.save_file({"linear.weight": torch.zeros(10, 64)}, path)
    return {"models": ["lenet5"], "weights": path}


def checkpoint_elsewhere(sigma: float) -> Callable[[Path], Changes]:
    return lambda folder: {
        "models": [str(checkpoint(folder))],
        "sigma": sigma,
        **UNDECLARED,
    }


def archive(name: str, **arrays: np.ndarray) -> Callable[[Path], Changes]:
    def change(folder: Path) -> Changes:
        np.savez(folder / name, **arrays)
        return {"data": str(folder / name)}

    return change


def file(name: str, content: bytes, option: str = "data") -> Callable[[Path], Changes]:
    def change(folder: Path) -> Changes:
        (folder / name).write_bytes(content)
        return {option: str(folder / name)}

    return change


def in_run(name: str, content: bytes | None) -> Callable[[Path], Changes]:
    """A run in which a file is damaged or missing."""

    def change(folder: Path) -> Changes:
        path = folder / "run" / name
        path.unlink() if content is None else path.write_bytes(content)
        return {"out": folder / "run", "expect_damage": True}

    return change


def occupied(folder: Path) -> Changes:
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("mine")
    return {"out": folder / "mine"}


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond 24 KiB, which is less than a run needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24 << 10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# arrays


def images(count: int = 3, **changes: Any) -> Changes:
    """Usable images of the digits' shape, and what is changed about them."""
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))
    return {"data": x, "limit": count, "out": None, **changes}


def with_value(value: float) -> torch.Tensor:
    x = images()["data"]
    x[1, 0, 3, 3] = value
    return x


MODELS = [
    Case("all logits NaN", NonFiniteError, "NaN or infinite", {"models": ["all_nan"]}),
    Case("one logit NaN", NonFiniteError, "NaN or infinite", {"models": ["one_nan"]}),
    Case("one logit infinite", NonFiniteError, "NaN or infinite", {"models": ["infinite"]}),
    *(
        Case(
            f"one member NaN under {reducer}",
            NonFiniteError,
            "NaN or infinite",
            {"models": ["good", "one_nan"], "reducer": [reducer]},
        )
        for reducer in ("mean", "softmax", "vote", "weighted", "max-margin")
    ),
    Case("NaN weights", ModelError, "not finite", {"models": ["nan_weights"]}),
    Case("training mode", ModelError, "training mode", {"models": ["training"]}),
    Case("BatchNorm of the batch", ModelError, "running stat", {"models": ["no_statistics"]}),
    Case("random", ModelError, "two different answers", {"models": ["random"]}),
    Case("depends on company", ModelError, "depend on the other", {"models": ["company"]}),
    Case("integer logits", ModelError, "torch.int64", {"models": ["integers"]}),
    Case("fails", ModelError, "lost its way", {"models": ["failing"]}),
    Case("one class", ModelError, "shape (4, 1)", {"models": ["narrow"]}),
    Case("one class declared", ModelError, "1 classes", {"classes": 1}),
    Case("other classes", ModelError, "has 7 classes", {"classes": 7}),
    Case("another image size", ModelError, "64", {"models": ["for_mnist"]}),
    Case("factory raises", ModelError, "KeyError", {"models": ["raising"]}),
    Case("factory leaves", ModelError, "SystemExit", {"models": ["leaving"]}),
    Case("factory of a list", ModelError, "returned list", {"models": ["not_a_network"]}),
    Case("no such factory", ModelError, "has no 'absent'", {"models": ["absent"]}),
    Case("no such file", ModelError, "no file", {"models": ["/absent.py:net"]}),
    Case("no such module", ModelError, "no Python module", {"models": ["no.such:net"]}),
    Case("no such model", ModelError, "there is no model", {"models": ["/absent"]}),
    Case("nothing declared", ModelError, "--input-range 0 1", UNDECLARED),
    Case("range upside down", ModelError, "is 1.0 .. 0.0", {"input_range": (1, 0)}),
    Case("range NaN", ModelError, "nan", {"input_range": (0, NAN)}),
    Case("a narrower range", DataError, "expects 0 to 0.5", {"input_range": (0, 0.5)}),
    Case("graph file", GraphError, "cannot be read", {"models": ["net.onnx"]}),
]

CHECKPOINTS = [
    Case(
        "another noise",
        ParameterError,
        "noise is laplace and the models were trained under gaussian",
        lambda folder: {
            "models": [str(checkpoint(folder, noise="gaussian"))],
            "sigma": 0.25,
            "set": {"noise": "laplace"},
            **UNDECLARED,
        },
    ),
    Case("another sigma", ParameterError, "trained for 0.25", checkpoint_elsewhere(0.5)),
    Case("truncated", CheckpointError, "truncated", spoilt(lambda p: p.write_bytes(b"12345678"))),
    Case("a bit flipped", CheckpointError, "SHA-256 differs", spoilt(flip_a_bit)),
    Case(
        "pickle as checkpoint",
        CheckpointError,
        "not a readable safetensors",
        spoilt(lambda p: p.write_bytes(pickle.dumps(Bomb()))),
    ),
    Case(
        "no card", CheckpointError, "card", spoilt(lambda p: p.with_name("net.card.json").unlink())
    ),
    Case(
        "unknown architecture",
        CheckpointError,
        "cannot be followed",
        spoilt(lambda p: edit_card(p, architecture="absent")),
    ),
    Case(
        "card of another network",
        CheckpointError,
        "do not fit",
        spoilt(lambda p: edit_card(p, options={"hidden": [5]})),
    ),
    Case("sigma in the card", CheckpointError, "sigma", spoilt(lambda p: edit_card(p, sigma=-1))),
    Case("pickle as weights", CheckpointError, "a pickle where weights", bomb_as_weights),
    Case("weights of another network", CheckpointError, "missing", other_weights),
    Case(
        "one file for two networks",
        ModelError,
        "one file for 2 networks",
        {"models": ["lenet5", "lenet5"], "weights": Path("a.pt")},
    ),
    Case("network without weights", ModelError, "--weights FILE", {"models": ["resnet20"]}),
    Case(
        "folder without checkpoints",
        CheckpointError,
        "no checkpoints",
        lambda folder: {"models": [str(folder)]},
    ),
]

DOUBLE = {"certificate": "double-sampling", "noise": "generalised-gaussian"}
THREE = {"models": ["good", "good", "good"]}
PARAMETERS = [
    *(
        Case(f"sigma {value}", ParameterError, f"sigma is {value}", {"sigma": value})
        for value in (0.0, -1.0, NAN, INF, -INF)
    ),
    Case("no sigma", ParameterError, "no sigma was given", {"sigma": None}),
    *(
        Case(f"alpha {value}", ParameterError, f"alpha is {value}", {"alpha": value})
        for value in (0.0, 1.0, 1.5, -0.1, NAN, INF)
    ),
    Case("n 0", ParameterError, "n is 0", {"n": 0}),
    Case("n negative", ParameterError, "n is -5", {"n": -5}),
    Case("n a fraction", ParameterError, "n is 100.5", {"n": 100.5}, usage=True),
    Case("n text", ParameterError, "n is 'many'", {"n": "many"}, usage=True),
    Case("n0 0", ParameterError, "n0 is 0", {"n0": 0}),
    Case("n below n0", ParameterError, "n is 10 and n0 is 100", {"n": 10, "n0": 100}),
    Case("sigma text", ParameterError, "'loud'", {"sigma": "loud"}, words=False),
    Case("alpha text", ParameterError, "alpha is 'small'", {"alpha": "small"}, usage=True),
    Case("batch 0", ParameterError, "batch is 0", {"batch": 0}),
    Case("batch negative", ParameterError, "batch is -1", {"batch": -1}),
    Case("batch text", ParameterError, "'wide'", {"batch": "wide"}, words=False),
    Case("radius below 0", ParameterError, "the radii are -0.5", {"radii": [-0.5]}),
    Case("radii out of order", ParameterError, "the radii are 0.3, 0.2", {"radii": [0.3, 0.2]}),
    Case("radius nan", ParameterError, "the radii are nan", {"radii": [NAN]}),
    Case("radius of no n", ParameterError, "9.0 cannot be certified", {"radii": [9.0]}),
    Case("radius of a larger n", ParameterError, "unanimous votes give", {"radii": [0.9]}),
    Case("rule without radii", ParameterError, "none is given", {"stop": "anytime"}),
    Case("no such rule", ParameterError, "no stopping rule called 'soon'", {"stop": "soon"}),
    Case("consensus of one", ParameterError, "consensus is 1", {**THREE, "consensus": 1}),
    Case("consensus of all", ParameterError, "consensus is 3", {**THREE, "consensus": 3}),
    Case("consensus of a model", ParameterError, "there are 1 members", {"consensus": 2}),
    Case("limit 0", ParameterError, "--limit is 0", {"limit": 0}),
    Case("every 0", ParameterError, "--every is 0", {"every": 0}),
    Case(
        "reducer",
        ParameterError,
        "no reducer called 'best'",
        {"models": ["good", "good"], "reducer": ["best"]},
    ),
    Case("reducer of one model", ParameterError, "called 'best'", {"reducer": ["best"]}),
    Case("weights too many", ParameterError, "2 weights for 1 mem", {"reducer": ["weighted:1,2"]}),
    Case("weights of a mean", ParameterError, "takes no options", {"reducer": ["mean:1,2"]}),
    Case("weights text", ParameterError, "one number for each", {"reducer": ["weighted:a,b"]}),
    Case("device", ParameterError, "device 'abacus'", {"device": "abacus"}),
    Case("absent device", ParameterError, "device 'cuda:77'", {"device": "cuda:77"}),
    Case("precision", ParameterError, "precision 'fp7'", {"precision": "fp7"}),
    Case("chunk 0", ParameterError, "chunk is 0", {"set": {"chunk": 0}}),
    Case(
        "no such option",
        ConfigurationError,
        "no option 'temperature'",
        {"set": {"temperature": 1}},
        words=False,
    ),
    Case("option of a wrong type", ParameterError, "chunk is 'big'", {"set": {"chunk": "big"}}),
    Case("bound", ParameterError, "no confidence bound called", {"set": {"bound": "hopeful"}}),
    Case("certificate", ParameterError, "no radius rule called", {"set": {"certificate": "lucky"}}),
    Case("stopping rule", ParameterError, "no stopping rule called", {"set": {"stop": "early"}}),
    Case("noise", ParameterError, "no noise called 'white'", {"set": {"noise": "white"}}),
    Case("norm", ParameterError, "norm is 'l3'", {"set": {"norm": "l3"}}),
    Case("dimension", ConfigurationError, "no option 'dimension'", {"set": {"dimension": 1}}),
    Case(
        "another noise's certificate",
        ParameterError,
        "holds for laplace noise, not gaussian",
        {"set": {"certificate": "laplace"}},
    ),
    Case("order of Gaussian noise", ParameterError, "has an order", {"set": {"order": 3}}),
    Case(
        "order beyond the dimension",
        ParameterError,
        "order 32 in 64 dimensions",
        {"set": {"noise": "generalised-gaussian", "order": 32}},
    ),
    Case(
        "order below 0",
        ParameterError,
        "order is -1",
        {"set": {"noise": "generalised-gaussian", "order": -1}},
    ),
    Case(
        "generalised Gaussian noise on a lattice",
        ParameterError,
        "no lattice sampler of generalised-gaussian noise",
        {"set": {"noise": "generalised-gaussian", "arithmetic": "lattice"}},
    ),
    Case("generator", ParameterError, "generator called 'dice'", {"set": {"generator": "dice"}}),
    *(
        Case(f"double sampling: {name}", ParameterError, says, {"set": {**DOUBLE, **changes}})
        for name, says, changes in (
            ("noise", "does not hold for uniform noise", {"noise": "uniform"}),
            ("lattice", "on a lattice", {"noise": "gaussian", "arithmetic": "lattice"}),
            ("staged", "stop is 'staged'", {"stop": "staged"}),
            ("drawn bound", "bound is 'rand", {"bound": "randomised-clopper-pearson"}),
            ("runner-up", "bound on the runner-up", {"runner_up": 0.5}),
            ("slope", "certificate is 'double-sampling'", {"slope": 0.1}),
            ("second law", "second law is 'wider'", {"second": "wider"}),
            ("level", "second sigma of 3", {"second_level": 3.0}),
            ("mass", "truncation to the mass 1.5", {"second": "truncation", "second_level": 1.5}),
            ("split", "a split of", {"split": [1, 2, 3]}),
        )
    ),
    Case("double sampling of few", ParameterError, "n is 50", {"n": 50, "n0": 10, "set": DOUBLE}),
    Case("a second law alone", ParameterError, "only double", {"set": {"second": "truncation"}}),
    Case("a split alone", ParameterError, "only double sampling", {"set": {"split": [100]}}),
    Case(
        "double sampling after smoothing",
        ParameterError,
        "signed radii",
        {"models": ["good", "good"], "reducer": ["after-smoothing"], "set": DOUBLE},
    ),
]

DATA = [
    Case("no such data", DataError, "no data set 'absent'", {"data": "absent"}),
    Case("no inputs", DataError, "non-empty", images(data=torch.zeros(0, 1, 8, 8), limit=1)),
    Case("no batch axis", DataError, "non-empty", images(data=torch.zeros(64), limit=1)),
    Case("NaN input", DataError, "input 1 has NaN", images(data=with_value(NAN))),
    Case("infinite input", DataError, "input 1 has NaN", images(data=with_value(INF))),
    Case("above the range", DataError, "0 .. 255", images(data=255 * with_value(1.0).round())),
    Case("below the range", DataError, "(0, 1) does not", images(data=with_value(-0.25))),
    Case("integers", DataError, "integers", images(data=torch.zeros(3, *SHAPE, dtype=torch.int32))),
    Case(
        "complex",
        DataError,
        "complex",
        images(data=torch.zeros(3, *SHAPE, dtype=torch.cfloat)),
        words=False,
    ),
    Case("colours last", DataError, "NCHW", images(data=torch.rand(3, 8, 8, 3))),
    Case("five images as one", ModelError, "64", images(data=torch.rand(1, 5, 1, 8, 8), limit=1)),
    Case("another size", ModelError, "64", images(data=torch.rand(3, 1, 9, 9))),
    Case("labels too many", DataError, "shape (4,)", images(y=torch.zeros(4, dtype=torch.int64))),
    Case(
        "labels one-hot",
        DataError,
        "shape (3, 10)",
        images(y=torch.zeros(3, 10, dtype=torch.int64)),
    ),
    Case("labels fractions", DataError, "dtype torch.float32", images(y=torch.zeros(3))),
    Case("label negative", DataError, "contain -1", images(y=torch.tensor([0, -1, 2]))),
    Case(
        "label too large",
        DataError,
        "has the label 10",
        images(y=torch.tensor([0, 10, 2])),
        words=False,
    ),
    Case("archive without x", DataError, "no array 'x'", archive("d.npz", images=np.zeros(3))),
    Case(
        "pickled array",
        DataError,
        "pickled objects",
        archive("d.npz", x=np.array([Bomb()], dtype=object)),
    ),
    Case("no archive", DataError, "damaged", file("d.npz", b"PK\x03\x04 nothing")),
    Case("pickle as data", DataError, "d.pkl", file("d.pkl", pickle.dumps([1]))),
]

RUNS = [
    Case("another alpha", ConfigurationError, "alpha", {"alpha": 0.01}),
    Case("another seed", ConfigurationError, "seed", {"seed": 1}),
    Case("other weights", ConfigurationError, "classifier", {"models": ["good", "good"]}),
    Case(
        "other data",
        ConfigurationError,
        "data",
        lambda folder: images(out=folder / "run"),
        words=False,
    ),
    Case("out is a file", RunError, "is a file", file("out", b"", "out")),
    Case("out is somebody's folder", RunError, "not a run: thesis.tex", occupied),
    Case("records damaged", RunError, "damaged", in_run("records.sqlite", b"no SQLite" * 99)),
    Case("records missing", RunError, "missing", in_run("records.sqlite", None)),
    Case("manifest damaged", RunError, "run.json", in_run("run.json", b"{")),
    Case("manifest missing", RunError, "run.json", in_run("run.json", None)),
    Case(
        "full disk",
        StorageError,
        "the disk refused",
        lambda folder: {"out": folder / "new"},
        around=full_disk,
        words=False,
    ),
]

CASES = [*MODELS, *CHECKPOINTS, *PARAMETERS, *DATA, *RUNS]
