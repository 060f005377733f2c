"""What several tests of verification start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from phalanx.verify.engine import Engine, engines
from phalanx.verify.plans import Effort, Portfolio

NO_ATTACK = Effort(0, 0)


@pytest.fixture
def planted() -> Iterator[Callable[[Engine], Portfolio]]:
    """A portfolio of weak bounds and one engine of the test's own."""

    def plant(engine: Engine) -> Portfolio:
        engines.register("planted")(engine)
        return Portfolio(
            attack=NO_ATTACK, bounds=("interval",), pursuit=NO_ATTACK, engines=("planted",)
        )

    yield plant
    engines.unregister("planted")
