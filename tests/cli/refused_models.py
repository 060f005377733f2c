"""Models that must be refused, and one that must not: factories for ``file.py:factory``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES, CLASSES = 64, 10


class Linear(nn.Module):
    """Flattens and classifies; the others below spoil what it returns."""

    def __init__(self, features: int = FEATURES, classes: int = CLASSES) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.spoil(self.linear(x.flatten(1)), x)

    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits


class AllNan(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits * float("nan")


class OneNan(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits.index_fill(1, torch.tensor([3]), float("nan"))


class Infinite(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits.index_fill(1, torch.tensor([3]), float("inf"))


class NanUnderNoise(Linear):
    """Finite on clean images, which have no negative values, and broken far below zero."""

    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        broken = x.flatten(1).amin(1, keepdim=True) < -0.5
        return torch.where(broken, float("nan"), logits)


class Random(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits + torch.rand_like(logits)


class Company(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits - logits.mean(0) * torch.arange(CLASSES)


class Integers(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        return (100 * logits).long()


class Failing(Linear):
    def spoil(self, logits: Tensor, x: Tensor) -> Tensor:
        raise RuntimeError("the network has lost its way")


def good() -> nn.Module:
    return Linear().eval()


def all_nan() -> nn.Module:
    return AllNan().eval()


def one_nan() -> nn.Module:
    return OneNan().eval()


def infinite() -> nn.Module:
    return Infinite().eval()


def nan_under_noise() -> nn.Module:
    return NanUnderNoise().eval()


def nan_weights() -> nn.Module:
    network = Linear().eval()
    nn.init.constant_(network.linear.bias, float("nan"))
    return network


def training() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, CLASSES), nn.Dropout(0.5)).train()


def no_statistics() -> nn.Module:
    norm = nn.BatchNorm1d(FEATURES, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), norm, nn.Linear(FEATURES, CLASSES)).eval()


def random() -> nn.Module:
    return Random().eval()


def company() -> nn.Module:
    return Company().eval()


def integers() -> nn.Module:
    return Integers().eval()


def failing() -> nn.Module:
    return Failing().eval()


def narrow() -> nn.Module:
    return Linear(classes=1).eval()


def for_mnist() -> nn.Module:
    return Linear(features=784).eval()


def raising() -> nn.Module:
    raise KeyError("weights")


def leaving() -> nn.Module:
    raise SystemExit(0)


def not_a_network() -> list[int]:
    return [1, 2, 3]
