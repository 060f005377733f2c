"""ResNet-50 for ImageNet, parameter for parameter torchvision's."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks
from phalanx.models.networks._resnet import Bottleneck, ResNet


@networks.register("resnet50")
def resnet50(classes: int = 1000, shape: tuple[int, ...] = (3, 224, 224)) -> nn.Module:
    """He et al. 2016 with the stride on the 3x3; 25,557,032 parameters for 1000 classes."""
    channels, _, _ = image_shape("resnet50", shape, smallest=32)
    return ResNet(Bottleneck, [3, 4, 6, 3], 64, classes, channels, imagenet=True)
