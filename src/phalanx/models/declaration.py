"""What a user says about a network that says nothing about itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from phalanx.errors import ModelError
from phalanx.models.model import InputSpec, Model, ModelCard

LARGEST_CARD = 64 * 1024


@dataclass(frozen=True)
class Declaration:
    """Input range, normalisation and classes of a network; None or empty where not said.

    Attributes:
        input_range: smallest and largest value of a clean input.
        mean, std: per channel, in units of ``input_range``.
        classes: number of logits.
        normalised_inside: the network normalises its input itself, or needs no normalisation.
        weights: a file of weights to load into the network first. One network takes it; several say
            theirs in the MODEL string, ``resnet20=FILE``.
        shape: one input without the batch axis.
        sigma: the noise level the network was trained for.
    """

    input_range: tuple[float, float] | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    classes: int | None = None
    normalised_inside: bool = False
    weights: Path | None = None
    shape: Sequence[int] | None = None
    sigma: float | None = None

    def over(self, other: Declaration) -> Declaration:
        """This declaration, with what it leaves open taken from ``other``.

        >>> Declaration(classes=3).over(Declaration(classes=10, sigma=0.5)).classes
        3
        """
        said = {f.name: getattr(self, f.name) for f in fields(self) if not _open(self, f.name)}
        if said.keys() & {"mean", "std", "normalised_inside"}:
            other = replace(other, mean=(), std=(), normalised_inside=False)
        return replace(other, **said)


class _CardFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: int | None = None
    normalised_inside: bool = False
    shape: tuple[int, ...] | None = None
    sigma: float | None = None


def wrap(module: nn.Module, declaration: Declaration | None = None, *, name: str = "") -> Model:
    """A `Model` around a network that is not one yet.

    Raises:
        ModelError: range, classes or normalisation are not declared; the message ends with
            the line that declares them.
    """
    if any(isinstance(part, Model) for part in module.modules()):
        raise ModelError(
            f"{type(module).__name__} holds models that know their inputs already",
            why="inside another model they would be certified as one network under its name",
            repair="name its members as MODEL, and --reducer for how they decide; in Python pass"
            " the Ensemble itself",
        )
    said = declaration or Declaration()
    _check_complete(module, said)
    inputs = InputSpec(
        range=said.input_range or (0.0, 1.0),
        mean=tuple(said.mean),
        std=tuple(said.std),
        shape=None if said.shape is None else tuple(said.shape),
    )
    card = ModelCard(name or type(module).__name__, sigma=said.sigma)
    return Model(module, inputs, said.classes or 0, card)


def card_beside(file: Path) -> Declaration:
    """The declaration in ``net.card.json``, ``.yaml`` or ``.yml`` beside ``net.py``, if any.

    Raises:
        ModelError: there is one and it cannot be read.
    """
    for suffix in (".card.json", ".card.yaml", ".card.yml"):
        path = file.with_name(file.stem + suffix)
        if path.is_file():
            return _read(path)
    return Declaration()


def check_agreement(model: Model, said: Declaration) -> None:
    """Refuse a declaration that contradicts what a model already says about itself.

    Raises:
        ModelError: naming the first contradiction.
    """
    inputs = model.inputs
    known = {
        "input_range": (said.input_range, inputs.range),
        "mean": (tuple(said.mean) or None, inputs.mean),
        "std": (tuple(said.std) or None, inputs.std),
        "classes": (said.classes, model.classes),
        "shape": (said.shape and tuple(said.shape), inputs.shape),
    }
    for what, (declared, carried) in known.items():
        if declared is not None and carried is not None and declared != carried:
            raise ModelError(
                f"{model.card.name} carries {what} {carried}, and {declared} was declared",
                why="a model that says it itself is not overruled",
                repair=f"leave --{what.replace('_', '-')} out",
            )
    if said.normalised_inside and inputs.mean:
        raise ModelError(
            f"{model.card.name} carries its own normalisation",
            repair="leave --normalised-inside out",
        )


def _check_complete(module: nn.Module, said: Declaration) -> None:
    if said.normalised_inside and (said.mean or said.std):
        raise ModelError(
            "both a normalisation and --normalised-inside are declared",
            why="the input would be normalised twice",
            repair="keep --mean and --std, or keep --normalised-inside",
        )
    missing = {
        "input range": said.input_range is None,
        "number of classes": said.classes is None,
        "normalisation": not (said.mean or said.std or said.normalised_inside),
    }
    if not any(missing.values()):
        return
    if (said.classes or _outputs(module)) == 1:
        raise ModelError(
            f"{type(module).__name__} has one output",
            why="a classifier has one for each of two classes or more",
            repair="phalanx verify NET PROPERTY takes networks of any outputs",
        )
    low, high = said.input_range or (0, 1)
    classes = said.classes or _outputs(module) or 10
    line = f"--input-range {low:g} {high:g} --classes {classes}"
    normalised = " --mean 0.4914,0.4822,0.4465 --std 0.2023,0.1994,0.2010"
    raise ModelError(
        f"{type(module).__name__} does not say its "
        + ", ".join(what for what, open_ in missing.items() if open_),
        why="radii are in input units, so its input must be declared",
        repair=f"{line} --normalised-inside if it takes inputs as they are, else"
        f" {line}{normalised} with its own numbers; in Python: phalanx.Model(net,"
        f" phalanx.InputSpec(range=({low:g}, {high:g})), classes={classes})",
    )


def _outputs(module: nn.Module) -> int | None:
    """The width of the last linear layer: a guess at the number of classes."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return layers[-1].out_features if layers else None


def _open(said: Declaration, name: str) -> bool:
    value = getattr(said, name)
    return value is None or value is False or (not isinstance(value, int | float) and not value)


def _read(path: Path) -> Declaration:
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > LARGEST_CARD:
            raise ValueError(f"it is larger than {LARGEST_CARD} bytes")
        content: Any = json.loads(text) if path.suffix == ".json" else _plain_yaml(text)
        return Declaration(**_CardFile.model_validate(content).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"the card {path} is not usable at {place}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"the card {path} cannot be read: {error}") from error


def _plain_yaml(text: str) -> Any:
    # Aliases let a small file unfold into a huge tree; a card needs none.
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("aliases (*name) are not read")
    return yaml.safe_load(text)
