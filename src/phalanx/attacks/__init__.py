"""One file an attack, in ``methods``; this one says what an attack is.

An attack receives a `Siege`: points, what may be done to them, and a classifier that it may only
ask. It draws its random numbers from the siege, keyed by point, and shows it inputs; the siege
judges them. The fields of an attack are its options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phalanx.attacks.siege import Siege
from phalanx.errors import ParameterError
from phalanx.registry import Registry
from phalanx.specs.threat import NORMS

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Attack(BaseModel, ABC):
    """Base of every attack: the fields of a subclass are its options, checked when it is built.

    Attributes:
        norms: those it works in.
        gradients: whether it follows gradients; else it needs scores only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    norms: ClassVar[tuple[str, ...]] = NORMS
    gradients: ClassVar[bool] = True

    @abstractmethod
    def run(self, siege: Siege) -> None:
        """Show the siege inputs that may be adversarial, for the points that still stand."""


attacks: Registry[Callable[..., Attack]] = Registry(
    "attacks",
    "phalanx.attacks.methods",
    noun="attack",
    aliases={"aa": "autoattack", "bim": "pgd", "fab-t": "fab", "apgd": "apgd-ce"},
)


def build_attack(name: str, options: Mapping[str, Any] | None = None) -> Attack:
    """The attack called ``name`` with checked options.

    Raises:
        ParameterError: there is no such attack, or an option is unknown or out of range.
    """
    try:
        return attacks.get(name)(**(options or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        option = ".".join(map(str, problem["loc"]))
        kinds = attacks.get(name)
        offered = ", ".join(getattr(kinds, "model_fields", ())) or "none"
        raise ParameterError(
            f"the option {option} does not fit the attack {name!r}: {problem['msg'].lower()}",
            repair=f"its options: {offered}",
        ) from None


def check_norm(attack: Attack, name: str, norm: str) -> None:
    """Refuse a norm that an attack does not work in.

    Raises:
        ParameterError: it is one.
    """
    if norm not in attack.norms:
        raise ParameterError(
            f"the attack {name!r} does not work in {norm}",
            repair=f"--norm {' or '.join(attack.norms)}, or another attack",
        )
