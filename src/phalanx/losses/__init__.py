"""One file a training loss; this one says what a loss is.

A loss receives the members it trains and one batch, and returns one scalar to differentiate.
Most losses train members independently and then receive one member at a time; a *coupled*
loss (one that pushes members apart, for instance) receives all of them together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from phalanx.errors import ConfigurationError
from phalanx.registry import Registry

Noise = Callable[[int], Tensor]
"""``noise(draw)``: noise of the recipe's distribution at level 1 (standard normals, unless the
recipe says otherwise), shaped like the batch, float32. The same draw of the same
step always returns the same values (a loss may need its noise twice); different draws and
different steps are independent. Other random numbers a loss takes from torch's generator,
which the trainer seeds anew for every step."""


@dataclass(frozen=True)
class Batch:
    """One step's data.

    Attributes:
        x: inputs, float32 ``(B, *shape)``, in the members' input range.
        y: classes, int64 ``(B,)``.
        noise: see `Noise`.
        progress: epochs done so far, fractional, for losses that warm up.
        value_range: smallest and largest value of a clean input; what a loss moves stays inside.
    """

    x: Tensor
    y: Tensor
    noise: Noise
    progress: float = 0.0
    value_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class LossOutput:
    """A scalar to differentiate and what the training log shows.

    Attributes:
        loss: scalar with a graph, mean over the batch.
        logits: detached logits ``(M, B, C)`` on the noisy inputs, from which the log's noisy
            accuracy is counted.
        metrics: further scalars, mean over the batch, detached.
    """

    loss: Tensor
    logits: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(BaseModel, ABC):
    """Base of every loss: the fields of a subclass are its options, checked when it is built.

    Attributes:
        sigma: standard deviation of the noise in input units, at least 0; it goes onto the
            checkpoint's card as the noise level the members are trained for. 0 is training
            without noise, and is said like any other level: nothing is taken for granted.
        coupled: whether the loss must see every member at once.
        replayable: see `recordable`; of this class alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    coupled: ClassVar[bool] = False
    replayable: ClassVar[bool] = False

    @property
    def recordable(self) -> bool:
        """Whether a GPU may record the loss on a batch and replay it on the others of an epoch.

        Such a loss reads no value back from the device, depends on `Batch.progress` through
        its whole part only, and draws what it draws on the batch's device.
        """
        return self.replayable

    def alone(self) -> dict[str, Any] | None:
        """Name and options of what each member of a coupled loss is trained with before.

        None: of a loss that does not couple.
        """
        return None

    @abstractmethod
    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """The loss of ``members`` on ``batch``."""


losses: Registry[Callable[..., Loss]] = Registry("losses", "phalanx.losses", noun="loss")


def build_loss(name: str, options: Mapping[str, Any], place: str = "loss") -> Loss:
    """The loss called ``name`` with checked options.

    Args:
        name: one of ``phalanx list losses``.
        options: its fields.
        place: what the message calls the options.

    Raises:
        ParameterError: there is no such loss.
        ConfigurationError: an option is unknown, missing, of the wrong type or out of range.
    """
    try:
        return losses.get(name)(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join([place, *map(str, problem["loc"])])
        raise ConfigurationError(
            f"{field} does not fit the loss {name!r}: {problem['msg'].lower()}"
        ) from None
