"""MODEL strings: a checkpoint, a folder of them, an ONNX file, a factory, a name with weights.

Weights of somebody else come as ``--weights FILE`` where one network takes them, and as
``resnet20=a.pt resnet20=b.pt`` where each has its own. One file for several networks is
refused: it would silently make an ensemble of identical members.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from phalanx.errors import CheckpointError, ModelError, ParameterError
from phalanx.models.build import build, networks
from phalanx.models.checkpoint import WEIGHTS_SUFFIX, load, weights_path
from phalanx.models.declaration import Declaration, card_beside, check_agreement, wrap
from phalanx.models.hypernetwork import share_equal
from phalanx.models.imported import is_onnx, load_onnx
from phalanx.models.model import Model
from phalanx.models.usercode import call_factory
from phalanx.models.validate import validate
from phalanx.models.weights import PUBLISHED_NORMALISATION, Matched, load_weights

__all__ = ["Declaration", "resolve", "resolve_all", "wrap"]

# A network's name or a factory, and a file: a path may have "=" in it too, so a name has no "/".
_WITH_WEIGHTS = re.compile(r"([^=:/\\]+|.+?:[\w.]+)=(.+)")
_STATE_DICTS = {".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl"}


def resolve(spec: str, declaration: Declaration | None = None) -> Model:
    """The one model a MODEL string names; see `resolve_all`."""
    models = resolve_all([spec], declaration)
    if len(models) != 1:
        raise ModelError(f"{spec} holds {len(models)} models where one is expected")
    return models[0]


def resolve_all(
    specs: Sequence[str], declaration: Declaration | None = None, *, check: bool = True
) -> list[Model]:
    """The models that MODEL strings name, in order; a folder may hold several.

    Args:
        specs: ``weights/member-0.safetensors``, a folder of checkpoints or of a run, ``net.onnx``,
            ``file.py:factory``, ``package.module:factory`` or a network's name; the last three
            also with weights, ``resnet20=FILE``.
        declaration: what models that carry no card are, and ``weights`` for one of them.
        check: also `validate` each of them.

    Raises:
        ModelError: nothing has that name, it says nothing about its input, it cannot be used as
            it is, or one file of weights meets several networks. CheckpointError: weights
            cannot be read or do not fit.
    """
    shares = _shares([str(spec) for spec in specs], declaration or Declaration())
    models = [model for spec, said in shares for model in _models(spec, said)]
    share_equal([model.network for model in models])
    if check:
        for model in models:
            validate(model)
    return models


def _shares(specs: Sequence[str], said: Declaration) -> list[tuple[str, Declaration]]:
    """Each MODEL without its weights file, and what is said about it, that file included."""
    split = [_split(spec) for spec in specs]
    if said.weights is None:
        return [(spec, replace(said, weights=own)) for spec, own in split]
    takers = [spec for spec, own in split if own is None and _takes_weights(spec)]
    if len(takers) > 1:
        raise ModelError(
            f"--weights {said.weights} is one file for {len(takers)} networks",
            why="with equal weights an ensemble is one network, at several times its cost",
            repair=" ".join(f"{spec}=FILE" for spec in takers),
        )
    owners = [f"{spec}={own}" for spec, own in split if own is not None]
    if owners and not takers:
        raise ModelError(f"{owners[0]} has weights of its own", repair="leave --weights out")
    # Where nobody takes them, each model refuses them in its own words.
    return [
        (
            spec,
            replace(said, weights=own or (said.weights if spec in takers or not takers else None)),
        )
        for spec, own in split
    ]


def _split(spec: str) -> tuple[str, Path | None]:
    found = _WITH_WEIGHTS.fullmatch(spec)
    if found is None or Path(spec).exists():
        return spec, None
    return found[1], Path(found[2]).expanduser()


def _takes_weights(spec: str) -> bool:
    return spec in networks.names() or (":" in spec and not Path(spec).exists())


def _models(spec: str, said: Declaration) -> list[Model]:
    path = Path(spec).expanduser()
    if is_onnx(path):
        return [load_onnx(path, said)]
    if path.is_dir():
        return [_from_checkpoint(found, said) for found in checkpoints_in(path)]
    if path.suffix == WEIGHTS_SUFFIX or weights_path(path).is_file():
        return [_from_checkpoint(path, said)]
    if spec in networks.names():
        return [_from_name(spec, said)]
    if path.suffix in _STATE_DICTS and path.is_file():
        raise CheckpointError(
            f"{spec} holds weights and does not say of which network",
            repair=f"name the network: resnet110 --weights {spec}",
        )
    if ":" in spec:
        return [_from_factory(spec, said)]
    raise ModelError(
        f"there is no model {spec!r}",
        why="MODEL is a checkpoint, a folder of checkpoints, net.onnx, file.py:factory,"
        " package.module:factory, or a network's name with --weights FILE or as NAME=FILE",
        repair=f"networks: {', '.join(networks.names())}",
    )


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, or below it in ``weights``; member-2 before member-10.

    A training run keeps them in ``weights``, a demo's run its training in ``weights``.

    Raises:
        CheckpointError: there are none.
    """
    for place in (folder, folder / "weights", folder / "weights" / "weights"):
        found = sorted(place.glob(f"*{WEIGHTS_SUFFIX}"), key=_natural)
        if found:
            return found
    raise CheckpointError(
        f"the folder {folder} holds no checkpoints",
        why="they are files NAME.safetensors with NAME.card.json beside them",
    )


def _from_checkpoint(path: Path, said: Declaration) -> Model:
    if said.weights is not None:
        raise ModelError(f"{path} has weights of its own", repair="leave --weights out")
    model = load(path)
    check_agreement(model, said)
    return model


def _from_factory(spec: str, said: Declaration) -> Model:
    made, file = call_factory(spec)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{spec} returned {type(made).__name__}",
            why="a factory returns a torch module or a phalanx.Model",
        )
    said = said if file is None else said.over(card_beside(file))
    if isinstance(made, Model):
        check_agreement(made, said)
    if said.weights is not None:
        matched = load_weights(made.network if isinstance(made, Model) else made, said.weights)
        made.eval()
        said = _normalised_as_published(said, matched, None)
    return made if isinstance(made, Model) else wrap(made, said, name=spec.rpartition(":")[2])


def _from_name(name: str, said: Declaration) -> Model:
    if said.weights is None:
        raise ModelError(
            f"{name!r} is a network without weights",
            repair=f"{name} --weights FILE, or {name}=FILE",
        )
    usual_classes, usual_shape = usual(name)
    classes = said.classes or usual_classes
    shape = tuple(said.shape or usual_shape)
    network = build(name, classes, shape)
    matched = load_weights(network, said.weights)
    said = replace(said, classes=classes, shape=shape)
    said = _normalised_as_published(said, matched, PUBLISHED_NORMALISATION.get((shape, classes)))
    model = wrap(network.eval(), said, name=name)
    model.card = replace(model.card, architecture=name)
    return model


def usual(name: str) -> tuple[int, tuple[int, ...]]:
    """Classes and input shape a network has in the literature: its factory's defaults.

    >>> usual("resnet110")
    (10, (3, 32, 32))

    Raises:
        ParameterError: the network states none, so they must be declared.
    """
    parameters = inspect.signature(networks.get(name)).parameters
    found: list[Any] = [parameters[key].default for key in ("classes", "shape")]
    if inspect.Parameter.empty in found:
        raise ParameterError(
            f"network {name!r} states no usual input", repair="declare --classes and its shape"
        )
    return found[0], tuple(found[1])


def _normalised_as_published(
    said: Declaration,
    matched: Matched,
    known: tuple[tuple[float, ...], tuple[float, ...]] | None,
) -> Declaration:
    """Take range and normalisation from the published layout where the user says nothing.

    Raises:
        ModelError: there was a normalisation layer, and nobody knows its numbers.
    """
    if not matched.layers_in_front or said.mean or said.normalised_inside:
        return said
    mean, std = (matched.mean, matched.std) if matched.mean else (known or ((), ()))
    if not mean:
        raise ModelError(
            f"{said.weights} was trained behind a normalisation layer whose numbers it omits",
            repair="--mean and --std, as in the code it comes from",
        )
    return replace(said, mean=mean, std=std, input_range=said.input_range or (0.0, 1.0))


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
