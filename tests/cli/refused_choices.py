"""The calls of the error table that ask for classes, or numbers of classes, that mean nothing."""

from __future__ import annotations

from refusal_cases import Case

from phalanx.errors import ParameterError

CHOICES = [
    Case("top of all", ParameterError, "alternatives 10", {"set": {"top": 10}}),
    Case("top 0", ParameterError, "top is 0", {"set": {"top": 0}}),
    Case("top text", ParameterError, "top is 'three'", {"set": {"top": "three"}}),
    Case(
        "top of another certificate",
        ParameterError,
        "3 most likely",
        {"set": {"top": 3, "certificate": "renyi"}},
    ),
    Case(
        "top of an ensemble after smoothing",
        ParameterError,
        "no top",
        {"models": ["good", "good"], "reducer": ["after-smoothing"], "set": {"top": 2}},
    ),
    Case("a label alone", ParameterError, "at least two", {"set": {"labels": [3]}}),
    Case("a label twice", ParameterError, "at least two", {"set": {"labels": [3, 3]}}),
    Case("no such label", ParameterError, "name the class 10", {"set": {"labels": [3, 10]}}),
    Case("label text", ParameterError, "labels is ['cat']", {"set": {"labels": ["cat"]}}),
    Case("groups that meet", ParameterError, "at most one", {"set": {"groups": [[0, 1], [1, 2]]}}),
    Case("one group", ParameterError, "alternatives 1", {"set": {"groups": [[*range(10)]]}}),
    Case(
        "group outside the labels",
        ParameterError,
        "left out",
        {"set": {"groups": [[0, 1]], "labels": [0, 2]}},
    ),
]
