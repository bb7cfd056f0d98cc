"""Layers: dataclasses of hyperparameters, which add nodes to a graph and know no kernels.

A module's `__all__` lists its layers. They are here and in `fastnn`, except those of `custom`, which are here only.
"""

# ruff: noqa: F403

from fastnn.hints import install
from fastnn.layers import core, custom, function, integers, lora, merge, normalization, random
from fastnn.layers.base import Layer, ParameterSpec
from fastnn.layers.columns import encoding, intervals, lookup, scaling
from fastnn.layers.columns.encoding import *
from fastnn.layers.columns.intervals import *
from fastnn.layers.columns.lookup import *
from fastnn.layers.columns.scaling import *
from fastnn.layers.core import *
from fastnn.layers.core import InputLayer
from fastnn.layers.custom import *
from fastnn.layers.function import *
from fastnn.layers.integers import *
from fastnn.layers.lora import *
from fastnn.layers.maps import augmentation, convolution, geometry, images, pooling, preprocessing
from fastnn.layers.maps.augmentation import *
from fastnn.layers.maps.convolution import *
from fastnn.layers.maps.geometry import *
from fastnn.layers.maps.images import *
from fastnn.layers.maps.pooling import *
from fastnn.layers.maps.preprocessing import *
from fastnn.layers.merge import *
from fastnn.layers.normalization import *
from fastnn.layers.operation import ConstantLayer, Operation
from fastnn.layers.random import *
from fastnn.layers.recurrent import cells as recurrent_cells
from fastnn.layers.recurrent import masking, own, wrappers
from fastnn.layers.recurrent.cells import *
from fastnn.layers.recurrent.masking import *
from fastnn.layers.recurrent.own import *
from fastnn.layers.recurrent.wrappers import *
from fastnn.layers.symbols import Symbol
from fastnn.layers.transformers import attention, blocks, gated, positions
from fastnn.layers.transformers.attention import *
from fastnn.layers.transformers.blocks import *
from fastnn.layers.transformers.gated import *
from fastnn.layers.transformers.positions import *

__all__ = ["ConstantLayer", "InputLayer", "Layer", "Operation", "ParameterSpec", "Symbol"]
__all__ += attention.__all__
__all__ += encoding.__all__
__all__ += intervals.__all__
__all__ += lookup.__all__
__all__ += scaling.__all__
__all__ += core.__all__
__all__ += custom.__all__
__all__ += function.__all__
__all__ += gated.__all__
__all__ += integers.__all__
__all__ += lora.__all__
__all__ += augmentation.__all__
__all__ += convolution.__all__
__all__ += geometry.__all__
__all__ += images.__all__
__all__ += pooling.__all__
__all__ += preprocessing.__all__
__all__ += merge.__all__
__all__ += normalization.__all__
__all__ += positions.__all__
__all__ += random.__all__
__all__ += recurrent_cells.__all__
__all__ += masking.__all__
__all__ += own.__all__
__all__ += wrappers.__all__
__all__ += blocks.__all__

install(__name__)
