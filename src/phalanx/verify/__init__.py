"""Complete verification: attack, bounds and search; every answer is proven or replayed.

The room is also the function: ``phalanx.verify(model_or_path, property, timeout)``, see
`phalanx.verify.front.verify`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that is called like the function it is named after."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from phalanx.verify.front import verify

        return verify(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
