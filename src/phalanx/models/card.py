"""The card beside a checkpoint: JSON in, `ModelCard` and `InputSpec` out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phalanx.errors import CheckpointError
from phalanx.models.model import InputSpec, ModelCard

FORMAT = 1
SUFFIX = ".card.json"


class _InputFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    range: tuple[float, float]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    shape: tuple[int, ...]


class _CardFile(BaseModel):
    """The JSON file, field by field; ``extra`` is kept as it is."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format: int
    name: str
    architecture: str
    options: dict[str, Any] = Field(default_factory=dict)
    classes: int = Field(ge=2)
    input: _InputFile
    sigma: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    noise: str | None = None
    order: int | None = Field(default=None, ge=0)
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    shared: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    extra: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointCard:
    """Everything a checkpoint says about its network beside the weights.

    ``shared`` names the file of the weights that members of an ensemble have in common, see
    `phalanx.models.checkpoint`; None: all weights are in one file.
    """

    card: ModelCard
    inputs: InputSpec
    classes: int
    shared: str | None = None


def card_path(weights: Path) -> Path:
    """``net.safetensors`` -> ``net.card.json``."""
    return weights.with_name(weights.stem + SUFFIX)


def write_card(content: CheckpointCard) -> str:
    """The card's JSON text."""
    card, inputs = content.card, content.inputs
    fields = {
        "format": FORMAT,
        "name": card.name,
        "architecture": card.architecture,
        "options": card.options,
        "classes": content.classes,
        "input": {
            "range": inputs.range,
            "mean": inputs.mean,
            "std": inputs.std,
            "shape": inputs.shape,
        },
        "sigma": card.sigma,
        **{key: said for key in ("noise", "order") if (said := getattr(card, key)) is not None},
        "digest": card.digest,
        **({"shared": content.shared} if content.shared else {}),
        "extra": card.extra,
    }
    return json.dumps(fields, indent=1, allow_nan=False) + "\n"


def read_card(path: Path) -> CheckpointCard:
    """Read and check a card.

    Raises:
        CheckpointError: missing, not JSON, a newer format, or a field that does not fit.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"the checkpoint's card {path} is missing",
            why="it names the architecture, the input range and the weights' hash",
            repair="keep NAME.safetensors and NAME.card.json together, or name the network"
            " and pass --weights",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the card {path} cannot be read: {error}") from error
    version = fields.get("format") if isinstance(fields, dict) else None
    if version != FORMAT:
        raise CheckpointError(
            f"the card {path} has format {version!r}", why=f"this version reads format {FORMAT}"
        )
    try:
        parsed = _CardFile.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"the card {path} is not usable at {place}",
            why=first["msg"],
            repair="copy the checkpoint and its card again",
        ) from None
    card = ModelCard(
        name=parsed.name,
        architecture=parsed.architecture,
        options=parsed.options,
        sigma=parsed.sigma,
        digest=parsed.digest,
        extra=parsed.extra,
        noise=parsed.noise,
        order=parsed.order,
    )
    inputs = InputSpec(**parsed.input.model_dump())
    return CheckpointCard(card, inputs, parsed.classes, parsed.shared)


def with_digest(card: ModelCard, digest: str) -> ModelCard:
    """The card with the hash of the weights it now describes."""
    return replace(card, digest=digest)
