"""ResNet-110 for 32x32 images."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import networks
from phalanx.models.networks._resnet import cifar_resnet


@networks.register("resnet110")
def resnet110(classes: int = 10, shape: tuple[int, ...] = (3, 32, 32)) -> nn.Module:
    """`cifar_resnet` of 110 layers; 1,730,714 parameters for 10 classes of 3x32x32."""
    return cifar_resnet(110, classes, shape)
