"""Every error a user can meet: what happened, why, and how to repair it.

The same class reaches Python callers and the command line; the command line prints
``str(error)`` on stderr and exits with ``error.exit_code``. Anything that is *not* a
`PhalanxError` is a bug of ours (exit code 1).
"""

from __future__ import annotations


class PhalanxError(Exception):
    """Base of all typed errors.

    Args:
        what: one clause, in the user's words, naming the thing that is wrong.
        why: what was expected or why it matters (optional).
        repair: the change or the line to paste that repairs it (optional).
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", repair: str = "") -> None:
        self.what, self.why, self.repair = what, why, repair
        parts = [what]
        if why:
            parts.append(why)
        if repair:
            parts.append(f"repair: {repair}")
        super().__init__("; ".join(parts))


class ParameterError(PhalanxError, ValueError):
    """A parameter is outside the range in which the method means anything."""

    exit_code = 2


class ConfigurationError(PhalanxError):
    """A recipe, a configuration file or a resumed run contradicts what was asked."""

    exit_code = 2


class MissingDependencyError(PhalanxError):
    """An optional package is needed for what was asked."""

    exit_code = 2


class ModelError(PhalanxError):
    """A model cannot be used as it is: its code, its declaration or what it computes."""

    exit_code = 3


class CheckpointError(ModelError):
    """A weights file or its card cannot be read, or does not fit the network."""


class GraphError(ModelError):
    """A network cannot be read as a graph, or a node of it not be bounded: which one, and why."""


class NonFiniteError(ModelError):
    """A model returned NaN or infinite logits: no class can be read from them."""


class TrainingError(ModelError):
    """A training cannot go on: it diverged, or its process ended. What was saved is kept."""


class CollapsedMember(UserWarning):
    """A member was trained to its end and gives one answer to everything."""


class SlowArithmetic(UserWarning):
    """A training goes on in the arithmetic it began with, which this device only emulates."""


class SolverError(PhalanxError):
    """A solver failed, or said what cannot be; what it was asked is as open as before."""

    exit_code = 1


class AttackError(PhalanxError):
    """An attack reported what running it again does not confirm; nothing of it is believed."""

    exit_code = 1


class DataError(PhalanxError):
    """A data set cannot be read, or an array has the wrong shape, range or labels."""

    exit_code = 3


class QueryError(DataError):
    """A file of a property cannot be read as what it says; names the line."""


class RunError(PhalanxError):
    """A run folder, an imported log or a query about them cannot be read."""

    exit_code = 3


class SampleErrors(PhalanxError):
    """The sweep finished, but some samples ended in an error (they count as not certified)."""

    exit_code = 4


class RequirementUnmet(PhalanxError):
    """A ``--require`` condition does not hold."""

    exit_code = 5


class StorageError(PhalanxError):
    """The disk refused a write. Nothing already committed is lost; the run can be resumed."""

    exit_code = 1


class Interrupted(PhalanxError):
    """Stopped by the user; the same command continues where it stopped."""

    exit_code = 130
