"""Networks for images, text and tables by their names: functions that make a new `fastnn.Model`, not compiled."""

from __future__ import annotations

from fastnn.applications.lenet import LeNet5
from fastnn.applications.mobilenet import MobileNetV1, MobileNetV2
from fastnn.applications.resnet import ResNet18, ResNet20, ResNet32
from fastnn.applications.tabular import Tabular
from fastnn.applications.transformers import BERT, GPT
from fastnn.applications.unet import UNet
from fastnn.hints import install

__all__ = ["BERT", "GPT", "LeNet5", "MobileNetV1", "MobileNetV2", "ResNet18", "ResNet20", "ResNet32", "Tabular", "UNet"]

install(__name__)
