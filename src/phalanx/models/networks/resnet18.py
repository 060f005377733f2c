"""ResNet-18 for 32x32 images: ImageNet's stages behind a 3x3 stem."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks
from phalanx.models.networks._resnet import BasicBlock, ResNet


@networks.register("resnet18")
def resnet18(classes: int = 10, shape: tuple[int, ...] = (3, 32, 32)) -> nn.Module:
    """Four stages of two blocks, 64 to 512 channels; 11,173,962 parameters for 10 classes."""
    channels, _, _ = image_shape("resnet18", shape, smallest=8)
    return ResNet(BasicBlock, [2, 2, 2, 2], 64, classes, channels)
