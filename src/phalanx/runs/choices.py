"""What a run decides among, and how many of the most likely classes its certificates speak of.

Shares no code with ``phalanx.smoothing``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

from phalanx.errors import RunError
from phalanx.runs.schema import INVALID


def top_of(config: Mapping[str, Any]) -> int:
    """The k of a run whose certificates say that a class stays among the k most likely.

    Raises:
        RunError: it is no such number.

    >>> top_of({}), top_of({"top": 3})
    (1, 3)
    """
    top = config.get("top", 1)
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise RunError(f"the run's top is {top!r}", why="it is a whole number from 1")
    return top


def floor_of(config: Mapping[str, Any], others: Sequence[float] | None = None) -> float:
    """The largest probability of a class with which it may be outside the k most likely.

    Args:
        others: bounds on 1 .. k others together; None: they have what the class leaves.

    >>> floor_of({}), floor_of({"top": 3}), floor_of({"top": 2}, [0.3, 0.4])
    (0.5, 0.25, 0.2)
    """
    if others is None:
        return float(Fraction(1, top_of(config) + 1))
    return min(bound / size for size, bound in enumerate(others, 1))


def alternatives(config: Mapping[str, Any]) -> int:
    """How many classes or groups of classes a run decides among; ``classes`` is known.

    >>> alternatives({"classes": 10, "labels": [0, 1, 5], "groups": [[0, 5]]})
    2
    """
    return len(_keys(config))


def foreign(config: Mapping[str, Any], votes: Iterable[int]) -> list[int]:
    """Classes among those voted for that the run does not decide among.

    >>> foreign({"classes": 10, "labels": [0, 1]}, [0, 7, -1])
    [7]
    """
    if not (config.get("labels") or config.get("groups")):
        return []
    return sorted(set(votes) - _keys(config) - {INVALID})


def _keys(config: Mapping[str, Any]) -> set[int]:
    """The classes that votes are counted under: of a group, its lowest."""
    labels = set(config.get("labels") or range(config["classes"]))
    groups = config.get("groups") or []
    return labels - set(chain(*groups)) | {min(group) for group in groups}


def decided_otherwise(config: Mapping[str, Any]) -> bool:
    """Whether a run is about another question than which of all classes is the most likely."""
    return top_of(config) > 1 or bool(config.get("labels") or config.get("groups"))


def measured(config: Mapping[str, Any]) -> str:
    """What an accuracy of the run is called, before the word: empty, or ``top-3``."""
    top = top_of(config)
    return "" if top == 1 else f"top-{top}"


def restrictions(config: Mapping[str, Any]) -> list[str]:
    """What the base classifier leaves out or merges, in words.

    >>> restrictions({"labels": [0, 1, 5], "groups": [[0, 5]]})
    ['decided among the classes 0, 1, 5', 'counted as one, by the lowest: 0, 5']
    """
    said = []
    if labels := config.get("labels"):
        said.append(f"decided among the classes {_listed(labels)}")
    if groups := config.get("groups"):
        said.append(f"counted as one, by the lowest: {'; '.join(map(_listed, groups))}")
    return said


def _listed(labels: Iterable[int]) -> str:
    return ", ".join(map(str, labels))
