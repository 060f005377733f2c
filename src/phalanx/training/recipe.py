"""`Recipe`: everything that decides the weights a training ends with, as typed values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from phalanx.losses import Loss, build_loss
from phalanx.models.hypernetwork import sizes_in
from phalanx.noise.distributions import Noise, noise_of

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A part of a recipe: unknown fields are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataPart(Part):
    """What is trained on.

    ``augment``: ``none``, or ``flip-crop``: mirror with probability 1/2 and crop from the
    image padded by 4 zero pixels, each image anew in every epoch.
    """

    name: str
    augment: Literal["none", "flip-crop"] = "none"


class ModelPart(Part):
    """The network and its normalisation (per channel, in input units; empty: none)."""

    name: str
    options: dict[str, Any] = {}
    mean: tuple[float, ...] = ()
    std: tuple[Positive, ...] = ()

    @model_validator(mode="after")
    def _one_of_each(self) -> ModelPart:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} standard deviations")
        return self


class LossPart(BaseModel):
    """A registered loss; every further field is one of its options (``sigma`` among them)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def build(self) -> Loss:
        """The loss, its options checked by itself."""
        return build_loss(self.name, self.model_extra or {})


class NoisePart(Part):
    """The distribution that members are trained under; the loss says at which level.

    ``order`` concerns ``generalised-gaussian`` only; None: the usual one for the dimension.
    """

    name: str = "gaussian"
    order: int | None = None

    def build(self) -> Noise:
        """The distribution at level 1."""
        return noise_of(self.name, 1.0, self.order)


class OptimizerPart(Part):
    """``momentum`` and ``nesterov`` concern ``sgd`` only."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimizerPart:
        if self.name == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class SchedulePart(Part):
    """Learning rate over time.

    ``step_epochs`` concerns ``step`` only, ``milestones`` (shares of the training, increasing)
    ``milestones`` only, ``gamma`` both.
    """

    name: Literal["constant", "cosine", "step", "milestones"] = "constant"
    warmup_epochs: NonNegative = 0.0
    step_epochs: Count = 50
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()

    @model_validator(mode="after")
    def _milestones_increase(self) -> SchedulePart:
        if (self.name == "milestones") != bool(self.milestones):
            raise ValueError("the schedule 'milestones', and no other, has milestones")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"the milestones {list(self.milestones)} do not increase")
        return self

    @model_serializer(mode="wrap")
    def _what_is_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without milestones where there are none, so that runs from before there were go on."""
        said: dict[str, Any] = dump(self)
        return {key: value for key, value in said.items() if key != "milestones" or value}


class PretrainPart(Part):
    """A first stage, in which every member is trained alone; then the recipe's loss takes over.

    What is None is the recipe's own; as the loss, what the members of a coupled loss would be
    trained with alone (`phalanx.losses.Loss.alone`).
    """

    epochs: Count
    loss: LossPart | None = None
    optimizer: OptimizerPart | None = None
    schedule: SchedulePart | None = None
    batch: Count | None = None


class Recipe(Part):
    """A training configuration. Two runs with equal recipes on one machine end bit-identically.

    Attributes:
        members: how many networks; they differ in initialisation, order and noise.
        batch: images a step, over all devices together.
        accumulate: parts of every step that pass one after another and whose gradients are added:
            that much less memory. Batch normalisation, and terms that are averaged over the rows
            that count (DRT's ``code`` form), see one part at a time.
        checkpoint_activations: compute the activations of residual blocks again in the backward
            pass instead of keeping them; changes no number.
        precision: of the network's forward and backward pass; ``auto`` is ``bf16`` where the
            device has native bfloat16 arithmetic. Weights and noise are always float32.
        seed: every random number of the training follows from it.
        pretrain: a stage before; the members begin where it ends.
    """

    name: str = "unnamed"
    description: str = ""
    data: DataPart
    model: ModelPart
    members: Count = 1
    loss: LossPart
    noise: NoisePart = NoisePart()
    optimizer: OptimizerPart = OptimizerPart()
    schedule: SchedulePart = SchedulePart()
    epochs: Count
    batch: Count = 256
    accumulate: Count = 1
    checkpoint_activations: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    pretrain: PretrainPart | None = None

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, part: LossPart) -> LossPart:
        part.build()
        return part

    @field_validator("noise")
    @classmethod
    def _known_noise(cls, part: NoisePart) -> NoisePart:
        part.build()
        return part

    @model_validator(mode="after")
    def _enough_to_couple(self) -> Recipe:
        if self.members < 2 and self.loss.build().coupled:
            raise ValueError(f"members is 1, but the loss {self.loss.name!r} couples at least 2")
        return self

    @model_validator(mode="after")
    def _trained_together_if_shared(self) -> Recipe:
        sizes = sizes_in(self.model.options)
        alone = self.pretrain is not None or not self.loss.build().coupled
        if sizes is not None and sizes.shared and alone:
            raise ValueError(
                "model.options.hypernetwork.shared is true, but members are trained alone:"
                " it takes a loss that couples them, and no pretrain"
            )
        return self

    @model_validator(mode="after")
    def _something_comes_first(self) -> Recipe:
        self.first()
        return self

    @property
    def sigma(self) -> float:
        """Noise level the members are trained for, in input units."""
        return self.loss.build().sigma

    def as_dict(self) -> dict[str, Any]:
        """JSON values of all that decides weights.

        What a recipe could once not say is left out where it says nothing, so that runs from
        before go on.
        """
        silent = {
            "noise": self.noise == NoisePart(),
            "pretrain": self.pretrain is None,
            "accumulate": self.accumulate == 1,
        }
        left_out = {"description", "checkpoint_activations"}
        left_out |= {name for name, nothing in silent.items() if nothing}
        return self.model_dump(mode="json", exclude=left_out)

    def first(self) -> Recipe | None:
        """The recipe of the stage before."""
        if self.pretrain is None:
            return None
        given = {name: value for name, value in self.pretrain if value is not None}
        if "loss" not in given:
            alone = self.loss.build().alone()
            if alone is None:
                raise ValueError(
                    f"pretrain.loss is missing: the loss {self.loss.name!r} trains members alone"
                )
            given["loss"] = LossPart(**alone)
        return self.model_copy(update={**given, "pretrain": None})

    def groups(self) -> list[tuple[int, ...]]:
        """The members that are trained together: all of them under a coupled loss, else one
        at a time.
        """
        everyone = tuple(range(self.members))
        return [everyone] if self.loss.build().coupled else [(member,) for member in everyone]
