"""Other people's weights: state dicts of torch and safetensors, matched key by key."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import CheckpointError
from phalanx.models.checkpoint import WEIGHTS_SUFFIX, mismatch, read_safetensors

# Keys under which training scripts keep the weights beside the optimiser and the epoch.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_FRONT = re.compile(r"0\.(mean|means|std|sds|stds)$")

# (shape, classes) -> mean, std of the published smoothing code's normalisation layer, whose
# tensors are not in the state dict: NormalizeLayer for CIFAR-10 and ImageNet (Cohen et al. 2019,
# datasets.py); for MNIST, which that code does not read, the Identity that Jeong & Shin (2020,
# smoothing-consistency) put in its place, so mean 0 and std 1. Other MNIST code differs (0.5 and
# 0.5, 0.1307 and 0.3081); --mean and --std say so.
PUBLISHED_NORMALISATION: dict[
    tuple[tuple[int, ...], int], tuple[tuple[float, ...], tuple[float, ...]]
] = {
    ((1, 28, 28), 10): ((0.0,), (1.0,)),
    ((3, 32, 32), 10): ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ((3, 224, 224), 1000): ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Matched:
    """Weights that fit a network.

    Attributes:
        state: tensors under the network's own names.
        layers_in_front: the published layout, ``Sequential(NormalizeLayer, network)``: inputs
            were normalised by a layer in front of the network.
        mean, std: that layer's numbers where the file holds them, else empty.
    """

    state: State
    layers_in_front: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def load_weights(network: nn.Module, path: Path | str) -> Matched:
    """Load the weights in ``path`` into ``network``.

    Raises:
        CheckpointError: the file cannot be read without running code, or keys do not match.
    """
    matched = match(read_state(path), network, str(path))
    network.load_state_dict(dict(matched.state))
    return matched


def read_state(path: Path | str) -> State:
    """The state dict in a ``.safetensors`` file or one that ``torch.save`` wrote.

    Nothing is unpickled beyond tensors and plain containers.

    Raises:
        CheckpointError: missing, corrupted, compressed, or a pickle that needs code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    if path.suffix == WEIGHTS_SUFFIX:
        return read_safetensors(path)
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings():  # torch warns of old pickles that it then reads
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is a pickle where weights are expected",
            why=f"reading it could run code: {_reason(error)}",
            repair="in the project it comes from: torch.save(model.state_dict(), 'weights.pt')",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError) as error:
        raise CheckpointError(
            f"{path} is not a readable weights file", why=str(error).partition("\n")[0]
        ) from error
    return _unwrap(content, path)


def match(given: State, network: nn.Module, source: str = "the weights") -> Matched:
    """``given`` under the names of ``network``, or the keys that did not match.

    Tried in order, each on top of the last: as it is; without ``module.`` (DataParallel);
    without the normalisation layer in front (the published smoothing code); with other
    projects' names of the same layers.

    Raises:
        CheckpointError: nothing fits; names missing and unexpected keys and wrong shapes.
    """
    expected = dict(network.state_dict())
    differences = []
    for candidate in _candidates(given):
        state = _with_counters(candidate.state, expected)
        difference = mismatch(expected, state)
        if not difference:
            return Matched(state, candidate.layers_in_front, candidate.mean, candidate.std)
        differences.append(difference)
    raise CheckpointError(
        f"{source} does not fit {type(network).__name__}",
        why=min(differences, key=len),
        repair="name the network the weights were trained in",
    )


def _candidates(given: State) -> Iterator[Matched]:
    yield Matched(given)
    plain = _renamed(given, lambda key: re.sub(r"(^|\.)module\.", r"\1", key))
    yield Matched(plain)
    front = {key: value for key, value in plain.items() if _FRONT.match(key)}
    rest = {key: value for key, value in plain.items() if key not in front}
    in_front = bool(rest) and all(key.startswith("1.") for key in rest)
    if in_front:
        rest = _renamed(rest, lambda key: key[2:])
    mean, std = _statistics(front)
    yield Matched(rest, in_front, mean, std)
    yield Matched(_renamed(rest, _torchvision_name), in_front, mean, std)


def _torchvision_name(key: str) -> str:
    """Names of the same residual layers in other well-known CIFAR code.

    >>> _torchvision_name("layer2.0.shortcut.0.weight"), _torchvision_name("linear.bias")
    ('layer2.0.downsample.0.weight', 'fc.bias')
    """
    return re.sub(r"^linear\.", "fc.", key.replace(".shortcut.", ".downsample."))


def _renamed(state: State, rename: Callable[[str], str]) -> dict[str, Tensor]:
    return {rename(key): value for key, value in state.items()}


def _with_counters(state: State, expected: State) -> dict[str, Tensor]:
    """Add BatchNorm's step counters, which older files lack and evaluation never reads."""
    counters = (key for key in expected if key.endswith("num_batches_tracked"))
    return {**{key: expected[key] for key in counters}, **state}


def _statistics(front: State) -> tuple[tuple[float, ...], tuple[float, ...]]:
    means = [value for key, value in front.items() if "mean" in key]
    spreads = [value for key, value in front.items() if "mean" not in key]
    if len(means) != 1 or len(spreads) != 1:
        return (), ()
    return tuple(means[0].flatten().tolist()), tuple(spreads[0].flatten().tolist())


def _unwrap(content: Any, path: Path) -> State:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no state dict, but {type(content).__name__}")
    strangers = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(
            f"{path} holds more than weights: {', '.join(strangers[:5])}",
            why="a state dict maps names to tensors",
            repair="save model.state_dict() alone",
        )
    return {str(key): value for key, value in content.items()}


def _refuse_compressed(path: Path) -> None:
    """torch never compresses; a compressed archive may unfold into anything."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is a damaged archive: {error}") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path} is a compressed archive, not a file torch.save wrote")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(f"{path} is an archive with overlapping entries")


def _reason(error: pickle.UnpicklingError) -> str:
    """What the pickle wanted, out of torch's long advice."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"it asks for {found.group(1)}" if found else "it is not a plain state dict"
