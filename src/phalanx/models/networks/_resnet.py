"""Residual networks (He et al. 2016) with torchvision's parameter names.

One class serves every depth: the published smoothing code's CIFAR networks (three stages, 1x1
convolution shortcuts: "option B"), the wide 32x32 ResNet-18 and ImageNet's ResNet-50. Equal
names mean that published state dicts load key by key.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from phalanx.models.build import image_shape
from phalanx.models.recompute import Block


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(Block):
    """Two 3x3 convolutions: ``(B, inputs, H, W) -> (B, width, H/stride, W/stride)``."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, stride)

    def body(self, x: Tensor) -> Tensor:
        """The block of He et al. 2016, figure 2."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Block):
    """1x1, 3x3 (with the stride, as in torchvision), 1x1; four times as wide at the end."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def body(self, x: Tensor) -> Tensor:
        """The block of He et al. 2016, figure 5 right."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Stem, stages ``layer1..``, global average, ``fc``.

    Args:
        block: the residual block.
        depths: blocks in each stage; every stage but the first halves the resolution.
        width: channels of the stem and the first stage; doubled with every stage.
        classes: number of logits.
        channels: input channels.
        imagenet: 7x7 stride-2 stem with max pooling, instead of one 3x3 convolution.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        width: int,
        classes: int,
        channels: int,
        *,
        imagenet: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(channels, width, 7, 2) if imagenet else _conv(channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else nn.Identity()
        stages, inputs = [], width
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(inputs, width << stage, stride))
                inputs = (width << stage) * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = len(stages)
        for stage, layer in enumerate(stages, 1):
            self.add_module(f"layer{stage}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def cifar_resnet(depth: int, classes: int, shape: tuple[int, ...]) -> ResNet:
    """The three-stage network of He et al. 2016, section 4.2, with 6n+2 layers."""
    channels, _, _ = image_shape(f"resnet{depth}", shape, smallest=8)
    return ResNet(BasicBlock, [(depth - 2) // 6] * 3, 16, classes, channels)
