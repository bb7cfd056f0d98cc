"""Layers: dataclasses of hyperparameters, which add nodes to a graph and know no kernels."""

from fastnn.hints import install
from fastnn.layers.base import Layer, Symbol
from fastnn.layers.core import Activation, Dense, Flatten, Input, InputLayer, Reshape
from fastnn.layers.custom import Custom, RowFunction
from fastnn.layers.integers import OneHot
from fastnn.layers.merge import Add, Concatenate, Multiply
from fastnn.layers.normalization import BatchNorm, LayerNorm
from fastnn.layers.normalization import BatchNorm as BatchNormalization
from fastnn.layers.normalization import LayerNorm as LayerNormalization
from fastnn.layers.random import Dropout, GaussianNoise

__all__ = [
    "Activation",
    "Add",
    "BatchNorm",
    "BatchNormalization",
    "Concatenate",
    "Custom",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNorm",
    "LayerNormalization",
    "Multiply",
    "OneHot",
    "Reshape",
    "RowFunction",
    "Symbol",
]

install(__name__)
