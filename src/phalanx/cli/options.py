"""Options that several commands share, written once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from phalanx.errors import ConfigurationError, ParameterError

if TYPE_CHECKING:
    from phalanx.models.model import Model
    from phalanx.models.resolve import Declaration

CONFIG_BYTES = 1 << 20


def number(text: str) -> float:
    """A number or a fraction such as ``8/255``.

    >>> number("8/255") == 8 / 255
    True
    """
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        raise ParameterError(f"{text!r} is not a number", repair="write 0.25 or 8/255") from None


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="checkpoint, folder of checkpoints, net.onnx, file.py:factory, package.module:factory,"
        " or a built-in name=FILE of weights; several of them are an ensemble",
    ),
]
Data = Annotated[str, typer.Option("--data", help="data set: a registered name or a path")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="folder of the data set's files [PHALANX_DATA]")
]
Reducers = Annotated[
    list[str] | None,
    typer.Option(
        "--reducer",
        help="ensemble under this reducer (phalanx list reducers), such as mean or weighted:1,2,1;"
        " repeat for several in one pass; random-member draws one for every noisy"
        " copy, after-smoothing smooths each alone",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="run folder; made or continued")]
Limit = Annotated[int | None, typer.Option("--limit", help="at most this many images")]
Every = Annotated[int, typer.Option("--every", help="every n-th image")]
Seed = Annotated[int, typer.Option("--seed", help="run seed of all noise")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]
Workers = Annotated[int, typer.Option("--workers", help="processes that share the work")]


def numbers(text: str | None) -> tuple[float, ...]:
    """Numbers separated by commas or spaces; none where there is no text.

    >>> numbers("0.5, 1/4")
    (0.5, 0.25)
    """
    return tuple(number(part) for part in (text or "").replace(",", " ").split())


def merged(
    file: Path | None, flags: Mapping[str, Any], overrides: list[str] | None
) -> dict[str, Any]:
    """Options of a configuration file, over them the flags that were given, over them ``--set``."""
    found = {} if file is None else _read(file)
    found |= {name: value for name, value in flags.items() if value is not None}
    for item in overrides or ():
        name, sign, value = item.partition("=")
        if not sign:
            raise ConfigurationError(f"--set {item!r}", repair="--set name=value")
        found[name.strip()] = _parsed(value, f"--set {item!r}")
    for name in ("labels", "radii", "stages"):
        if isinstance(text := found.get(name), str):  # labels=0,1,5 is [0, 1, 5]
            found[name] = _parsed(f"[{text}]", f"{name}={text}")
    for name in ("sigma", "alpha"):
        if isinstance(found.get(name), str):
            found[name] = number(found[name])
    for name in ("step", "enough", "seconds"):  # 1e-3 and 1/8 are texts to YAML
        if isinstance(text := found.get(name), str):
            with suppress(ParameterError):  # whoever reads the option says what it may be
                found[name] = number(text)
    if isinstance(found.get("batch"), str):
        found["batch"] = None if found["batch"] == "auto" else _whole("--batch", found["batch"])
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES:
            raise ConfigurationError(f"{path} is larger than a configuration file can be")
        value = _parsed(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read", why=str(error)) from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} is not a mapping of options", repair="n: 10000")
    return value


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{where} cannot be read", why=str(error), repair="name=value, or lines name: value"
        ) from None


def _whole(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ParameterError(f"{option} is {text!r}", repair=f"{option} auto or a number") from None


def gaussian_members(
    models: list[str], said: Declaration, sigma: str | None, *, allow_mismatch: bool
) -> tuple[list[Model], float]:
    """The members, and the Gaussian noise level: asked for, else the one they were trained for."""
    from phalanx.models.resolve import resolve_all
    from phalanx.smoothing.level import GAUSSIAN, law_of, sigma_of

    members = resolve_all(models, said)
    asked = None if sigma is None else number(sigma)
    level = sigma_of(members, asked, allow_mismatch=allow_mismatch)
    law_of(members, GAUSSIAN, None, allow_mismatch=allow_mismatch)
    return members, level
