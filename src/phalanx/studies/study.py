"""`Study`: a published table, as what is trained, what is certified and how much of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from phalanx.studies.shelves import load_shipped
from phalanx.training.recipe import Count, Part, Positive
from phalanx.training.shelf import shipped

SHELF = "phalanx.studies.shelf"
ScaleName = Literal["smoke", "small", "full"]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Training(Part):
    """What is trained, once for every noise level and seed.

    Attributes:
        recipe: a shipped one.
        changes: of its fields, as ``--set`` takes them.
        sigmas: noise levels; None: the study's.
        by_sigma: further changes at one noise level.
        cost: of an epoch, as a multiple of the cheapest training's; measured.
    """

    recipe: str
    changes: dict[str, Any] = Field(default_factory=dict)
    sigmas: tuple[NonNegative, ...] | None = None
    by_sigma: dict[float, dict[str, Any]] = Field(default_factory=dict)
    cost: Positive = 1.0


class Method(Part):
    """A row of the table, or one for each decision of an ensemble.

    Attributes:
        training: whose members are certified.
        stage: ``pretrain``: as they were before they were coupled.
        members: how many of them; None: all.
        reducers: decisions of the ensemble; empty: a single network.
        samples: of an image, as a multiple of the scale's n, rounded; at least one.
        published: names of the training in the published figures, by classifier; the first
            that has a figure counts. The best member is called ``member``.
        beside: the method that differences are taken from; None: the best member of this one.
    """

    training: str
    stage: Literal["pretrain"] | None = None
    members: Count | None = None
    reducers: tuple[str, ...] = ()
    samples: Positive = 1.0
    published: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    beside: str | None = None


class Audited(Part):
    """The threat under which a study's methods are audited instead of certified.

    Attributes:
        norm, eps: of the threat; eps in input units.
        reducer: under which the members are averaged.
    """

    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: Positive
    reducer: str = "softmax"


class Scale(Part):
    """How much of a study is done.

    Attributes:
        epochs, pretrain_epochs: of every training; None: the recipe's.
        budget: instead of ``epochs``: what a training may cost, in epochs of one whose `cost`
            is 1. Every training then has about equal compute, and at least one epoch.
        images: test images, evenly spread; None: all.
        n: samples an image.
        effort: of an audit's attacks.
        changes: of every recipe, over those of its training.
    """

    epochs: Count | None = None
    pretrain_epochs: Count | None = None
    budget: Positive | None = None
    images: Count | None = None
    n: Count = 100_000
    effort: Literal["quick", "standard"] = "standard"
    changes: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_both(self) -> Scale:
        if self.epochs is not None and self.budget is not None:
            raise ValueError("epochs and a budget of epochs are both given")
        return self

    def epochs_at(self, cost: float) -> int | None:
        """Epochs of a training whose epoch costs so much; None: the recipe's.

        >>> Scale(budget=30).epochs_at(8), Scale(budget=30).epochs_at(32), Scale().epochs_at(8)
        (3, 1, None)
        """
        return self.epochs if self.budget is None else max(1, int(self.budget / cost))


class Study(Part):
    """A published table.

    Attributes:
        data: that is trained on and certified.
        network: as the published figures name it.
        source: words of the source of the published figures; empty: any.
        sigmas: noise levels; 0 for methods that are audited.
        audit: methods are audited under this threat; None: they are certified.
        radii: at which certified accuracy is shown.
        envelope: whether the published figures take the best noise level at every radius.
        trainings, methods: by name.
        scales: ``smoke`` shows in minutes that everything runs; ``small`` is for one machine;
            ``full`` is the published protocol.
    """

    name: str
    description: str
    data: str
    network: str
    source: str = ""
    sigmas: tuple[NonNegative, ...]
    audit: Audited | None = None
    radii: tuple[NonNegative, ...] = ()
    envelope: bool = False
    trainings: dict[str, Training]
    methods: dict[str, Method]
    scales: dict[ScaleName, Scale]

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        for name, method in self.methods.items():
            if method.training not in self.trainings:
                raise ValueError(f"method {name!r}: there is no training {method.training!r}")
            if method.beside is not None and method.beside not in self.methods:
                raise ValueError(f"method {name!r}: there is no method {method.beside!r}")
        return self

    @model_validator(mode="after")
    def _noise_is_certified_and_its_absence_audited(self) -> Study:
        levels = {sigma for name in self.trainings for sigma in self.levels(name)}
        if (self.audit is None) != all(levels):
            raise ValueError("sigma 0 is for studies with an audit, and for those only")
        return self

    def levels(self, training: str) -> tuple[float, ...]:
        """Noise levels of a training."""
        sigmas = self.trainings[training].sigmas
        return self.sigmas if sigmas is None else sigmas

    def levels_of(self, method: str) -> tuple[float, ...]:
        """Noise levels of a method: those of its training."""
        return self.levels(self.methods[method].training)


def study_names() -> list[str]:
    """The shipped studies, sorted.

    >>> "drt-mnist" in study_names()
    True
    """
    return shipped(SHELF)


def load_study(name: str) -> Study:
    """A shipped study.

    Raises:
        ConfigurationError: there is none of that name.

    >>> load_study("smoothing-mnist").sigmas
    (0.25, 0.5, 1.0)
    """
    return load_shipped(SHELF, "study", name, Study)
