"""Which source of votes serves a run's classifiers with the fewest forward passes."""

from __future__ import annotations

from collections.abc import Sequence

from phalanx.smoothing.bank import MemberBank
from phalanx.smoothing.classifiers import BaseClassifier
from phalanx.smoothing.consensus import Consensus
from phalanx.smoothing.random_member import RandomMember
from phalanx.smoothing.votes import VoteSource, WholeEnsemble


def source_of(bank: MemberBank, classifiers: Sequence[BaseClassifier]) -> VoteSource:
    """The source that asks no more members than the classifiers need.

    Members are spared for a random member, and where every classifier is a consensus of the same
    first K.
    """
    if classifiers[0].random:
        return RandomMember(bank, classifiers[0].choices)
    first = {(classifier.consensus, classifier.choices) for classifier in classifiers}
    everybody = tuple(range(len(bank)))
    shared = len(first) == 1 and all(c.members == everybody for c in classifiers)
    consensus = first.pop()[0] if shared else None
    return (
        WholeEnsemble(bank, classifiers)
        if consensus is None
        else Consensus(bank, classifiers, consensus)
    )
