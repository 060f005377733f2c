"""`ProofBroken`: a proof that does not hold, where and why."""

from __future__ import annotations

from phalanx.errors import RequirementUnmet


class ProofBroken(RequirementUnmet):
    """A proof does not hold.

    Args:
        where: a case, a leaf, a part of the file.
        why: what is wrong there.
    """

    def __init__(self, where: str, why: str) -> None:
        self.where, self.reason = where, why
        super().__init__(f"proof does not hold: {where}: {why}")
