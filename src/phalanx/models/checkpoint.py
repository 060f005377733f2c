"""Checkpoints: ``NAME.safetensors`` (weights, never pickled) and ``NAME.card.json``.

A hypernetwork that members share (`phalanx.models.hypernetwork`) is stored once beside them, as
``shared/HASH.safetensors``; each card names it. The card's digest is over all weights of the
member, the shared ones among them, so a member is the same wherever its weights lie.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from phalanx.errors import CheckpointError, PhalanxError, StorageError
from phalanx.models.build import build, lay_out
from phalanx.models.card import CheckpointCard, card_path, read_card, with_digest, write_card
from phalanx.models.digest import tensors_digest, weights_digest
from phalanx.models.hypernetwork import OPTION, Generated
from phalanx.models.model import Model
from phalanx.runs.manifest import write_atomically

WEIGHTS_SUFFIX = ".safetensors"
SHARED_FOLDER = "shared"
SHARED_DIGITS = 32


def save(model: Model, path: Path | str) -> Path:
    """Write ``model`` as ``path`` (``.safetensors`` is appended if missing) and its card.

    Both files are written beside their place and renamed, the card last: a reader sees the
    old checkpoint, the new one, or a digest that does not match; never half a file.
    ``model.card`` gets the digest of its weights.

    Returns:
        The path of the weights.

    Raises:
        CheckpointError: the network was not built by name, or its input shape is not known,
            so that nothing could load it again.
        StorageError: the disk refused.
    """
    if not model.card.architecture or model.inputs.shape is None:
        raise CheckpointError(
            f"model {model.card.name!r} cannot be saved as a checkpoint",
            why="its card names no architecture, or its input shape is not known",
            repair="build it with phalanx.models.build and give InputSpec(shape=...)",
        )
    weights = weights_path(path)
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in _tensors(model.network).items()
    }
    model.card = with_digest(model.card, weights_digest(model.network))
    common = _taken(tensors, _shared_names(model.network))
    shared = tensors_digest(common)[:SHARED_DIGITS] if common else None
    text = write_card(CheckpointCard(model.card, model.inputs, model.classes, shared))
    _make_folder(weights.parent)
    if shared is not None:
        _make_folder(_shared_path(weights, shared).parent)
        write_atomically(_shared_path(weights, shared), safetensors.torch.save(common))
    write_atomically(weights, safetensors.torch.save(tensors))
    write_atomically(card_path(weights), text.encode())
    return weights


def load(path: Path | str) -> Model:
    """Read a checkpoint back, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, truncated or corrupted, the digest does not match,
            the architecture is unknown, or keys or shapes do not fit; the message says which.
    """
    weights = weights_path(path)
    if not weights.is_file():
        raise CheckpointError(f"there is no checkpoint {weights}")
    content = read_card(card_path(weights))
    tensors = read_safetensors(weights)
    if content.shared is not None:
        tensors = {**tensors, **_read_shared(weights, content.shared)}
    if tensors_digest(tensors) != content.card.digest:
        raise CheckpointError(
            f"the weights in {weights} are not those its card describes",
            why="their SHA-256 differs from the card's digest: the file was changed or mixed up",
            repair="copy both files again",
        )
    network = _rebuild(weights, content, tensors)
    return Model(network, content.inputs, content.classes, content.card).eval()


def weights_path(path: Path | str) -> Path:
    """``path`` ending in ``.safetensors``."""
    path = Path(path)
    return path if path.suffix == WEIGHTS_SUFFIX else path.with_name(path.name + WEIGHTS_SUFFIX)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file.

    Raises:
        CheckpointError: it is not one, or it is truncated.
    """
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file: {error}",
            why="it is truncated, corrupted or of another kind",
        ) from error


def mismatch(expected: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """What differs between two sets of named tensors, or an empty string.

    >>> mismatch({"a": torch.zeros(2)}, {"a": torch.zeros(3), "b": torch.zeros(1)})
    'unexpected: b; wrong shape: a is (3,), expected (2,)'
    """
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    shapes = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    lists = (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
    return "; ".join(f"{label}: {_some(names)}" for label, names in lists if names)


def _rebuild(path: Path, content: CheckpointCard, tensors: dict[str, Tensor]) -> nn.Module:
    card, shape = content.card, content.inputs.shape or ()
    try:
        with torch.device("meta"):  # a card that asks for terabytes is refused for free
            expected = _tensors(lay_out(card.architecture, content.classes, shape, **card.options))
        difference = mismatch(expected, tensors)
        if not difference:
            network = build(card.architecture, content.classes, shape, **card.options)
    except PhalanxError as error:
        raise CheckpointError(
            f"the card of {path} cannot be followed", why=error.what, repair=error.repair
        ) from error
    if difference:
        raise CheckpointError(
            f"the weights in {path} do not fit {card.architecture!r}", why=difference
        )
    network.load_state_dict(tensors)
    return network


def _shared_names(network: nn.Module) -> list[str]:
    """The tensors that go into a file of their own."""
    if not isinstance(network, Generated) or not network.shared:
        return []
    return [f"{OPTION}.{name}" for name in network.hypernetwork.state_dict()]


def _taken(tensors: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Take the named tensors out of a mapping."""
    return {name: tensors.pop(name) for name in names}


def _shared_path(weights: Path, digest: str) -> Path:
    return weights.parent / SHARED_FOLDER / f"{digest}{WEIGHTS_SUFFIX}"


def _read_shared(weights: Path, digest: str) -> dict[str, Tensor]:
    path = _shared_path(weights, digest)
    if not path.is_file():
        raise CheckpointError(
            f"{weights} shares weights with other members, and their file {path} is missing",
            repair=f"keep the folder {SHARED_FOLDER!r} beside the members",
        )
    return read_safetensors(path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be made: {error}") from error


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
