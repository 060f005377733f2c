"""`Grid`: a table of ways to certify, on the same networks under the same trainings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from phalanx.studies.shelves import load_shipped, require_known, scale_named, shipped_fields
from phalanx.studies.study import ScaleName
from phalanx.training.recipe import Count, Part, Positive
from phalanx.training.shelf import shipped

Norm = Literal["linf", "l2", "l1"]
SMOOTHING = "smoothing"
SHELF = "phalanx.studies.grids.shelf"


def _fraction(value: Any) -> Any:
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is not a number; write 0.25 or 8/255") from None


Radius = Annotated[Positive, BeforeValidator(_fraction)]


class GridNetwork(Part):
    """An architecture.

    Attributes:
        model: a recipe's ``model``.
        published: its name in the published figures; empty: it has none.
    """

    model: dict[str, Any]
    published: str = ""


class GridTraining(Part):
    """How every network is trained.

    Attributes:
        recipe: a shipped one, of a single network.
        changes: of its fields, as ``--set`` takes them.
        at: the radii it is judged at, in input units, by norm.
        sigma: of the noise it is trained under; 0: none.
        published: its name in the published figures; empty: it has none.
        quoted: what else is published of it, as a sentence with its source.
    """

    recipe: str
    changes: dict[str, Any] = Field(default_factory=dict)
    at: dict[Norm, tuple[Radius, ...]]
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    published: str = ""
    quoted: str = ""


class GridMethod(Part):
    """A way to certify: a bounding method, or randomized smoothing of what was trained under noise.

    Attributes:
        method: as ``phalanx certify --method`` takes it, or ``smoothing``.
        options: as ``phalanx certify --set`` takes them.
        networks: only these; empty: all.
        left_out: a network and a training each, of those.
        norms: that it is asked about; empty: all.
        radii: whether its average radius is searched for, or of which of these networks.
        published: its names in the published figures.
        runs_as: another method of the grid that is the same computation; its runs are read.
    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    networks: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    norms: tuple[Norm, ...] = ()
    radii: bool | tuple[str, ...] = True
    published: tuple[str, ...] = ()
    runs_as: str = ""


class GridScale(Part):
    """How much of a grid is done.

    Attributes:
        epochs: of every training; None: the recipe's.
        images: test images, evenly spread; None: all.
        n: samples an image of smoothing.
        networks: only these; empty: all.
        radii: whether radii are searched for.
        seconds: an image, of methods whose options have a limit; None: theirs.
    """

    epochs: Count | None = None
    images: Count | None = None
    n: Count = 100_000
    networks: tuple[str, ...] = ()
    radii: bool = True
    seconds: Positive | None = None


class Grid(Part):
    """A table of ways to certify.

    Attributes:
        data: that is trained on and certified.
        networks, trainings, methods: by name.
        scales: as a study's.
    """

    name: str
    description: str
    data: str
    networks: dict[str, GridNetwork]
    trainings: dict[str, GridTraining]
    methods: dict[str, GridMethod]
    scales: dict[ScaleName, GridScale]

    @model_validator(mode="after")
    def _names_exist(self) -> Grid:
        for size, scale in self.scales.items():
            _known(f"scale {size!r}", "network", scale.networks, self.networks)
        for name, one in self.methods.items():
            radii = () if isinstance(one.radii, bool) else one.radii
            _known(f"method {name!r}", "network", one.networks, self.networks)
            asked = one.networks or self.networks
            networks = (*radii, *(network for network, _ in one.left_out))
            _known(f"method {name!r}", "network", networks, asked)
            trainings = [training for _, training in one.left_out]
            _known(f"method {name!r}", "training", trainings, self.trainings)
            other = self.methods.get(one.runs_as)
            if other is not None and (other.method, other.options) != (one.method, one.options):
                raise ValueError(f"method {name!r} is not the same computation as {one.runs_as!r}")
        return self

    def goes(
        self, method: str, network: str, training: str, norm: str, *, search: bool = False
    ) -> bool:
        """Whether a method certifies what a training made of a network, in that norm.

        Smoothing certifies what was trained under noise, bounds everything else. With ``search``
        whether it looks for the largest radius, which smoothing finds by itself.
        """
        one, noisy = self.methods[method], self.trainings[training].sigma > 0
        asked = network in (one.networks or self.networks) and norm in (one.norms or [norm])
        asked = asked and (network, training) not in one.left_out
        if search:
            looked = one.radii if isinstance(one.radii, bool) else network in one.radii
            asked = asked and looked and one.method != SMOOTHING
        return asked and noisy == (one.method == SMOOTHING)


def _known(who: str, noun: str, asked: Iterable[str], there: Collection[str]) -> None:
    if unknown := set(asked) - set(there):
        raise ValueError(f"{who}: there is no {noun} {min(unknown)!r}")


def grid_names() -> list[str]:
    """The shipped grids, sorted.

    >>> "lecture-map" in grid_names()
    True
    """
    return shipped(SHELF)


def load_grid(name: str) -> Grid:
    """A shipped grid; one that is ``like`` another one has what it does not say itself from there.

    Raises:
        ConfigurationError: there is none of that name.

    >>> load_grid("lecture-map").trainings["adv1"].at
    {'linf': (0.1,)}
    """
    return load_shipped(SHELF, "grid", name, Grid, completed=_like)


def _like(fields: dict[str, Any]) -> dict[str, Any]:
    """Entries of networks, trainings, methods and scales, one by one; null leaves one out."""
    if (other := fields.pop("like", None)) is None:
        return fields
    whole = _like(shipped_fields(SHELF, "grid", other))
    for part in ("networks", "trainings", "methods", "scales"):
        there, own = whole[part], fields.get(part, {})
        names = dict.fromkeys([*there, *own])
        found = {name: own.get(name, there.get(name)) for name in names}
        fields[part] = {name: one for name, one in found.items() if one is not None}
    return {**whole, **fields}


def part_of(
    grid: Grid,
    networks: Sequence[str] = (),
    trainings: Sequence[str] = (),
    methods: Sequence[str] = (),
) -> Grid:
    """Some of a grid's networks, trainings and methods; all where none are named.

    Raises:
        ParameterError: the grid has no such one.
    """
    parts: dict[str, Any] = {}
    for noun, asked, there in (
        ("network", networks, grid.networks),
        ("training", trainings, grid.trainings),
        ("method", methods, grid.methods),
    ):
        require_known(grid.name, noun, asked, there)
        parts[f"{noun}s"] = {name: one for name, one in there.items() if name in (asked or there)}
    return grid.model_copy(update=parts)


def grid_scale(grid: Grid, name: str, changes: Sequence[str] = ()) -> GridScale:
    """The scale of that name, after ``"epochs=3"`` and the like.

    Raises:
        ParameterError: the grid has none.
        ConfigurationError: a change of what a scale does not have, or to what it cannot be.
    """
    return scale_named(grid.name, grid.scales, name, changes)
