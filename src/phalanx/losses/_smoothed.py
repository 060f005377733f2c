"""The smoothed member as an adversary sees it, and in which the losses speak of it.

Its gradient is that of `phalanx.attacks.smoothed`, which attacks use too.
"""

from phalanx.attacks.smoothed import Smoothed, evaluating, log_mean_softmax

__all__ = ["Smoothed", "evaluating", "log_mean_softmax"]
