"""ResNet-56 for 32x32 images."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import networks
from phalanx.models.networks._resnet import cifar_resnet


@networks.register("resnet56")
def resnet56(classes: int = 10, shape: tuple[int, ...] = (3, 32, 32)) -> nn.Module:
    """`cifar_resnet` of 56 layers; 855,770 parameters for 10 classes of 3x32x32."""
    return cifar_resnet(56, classes, shape)
