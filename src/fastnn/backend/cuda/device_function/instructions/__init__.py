"""The instructions of the interpreter by family: what encodes a record, and the function that runs on the GPU."""

from __future__ import annotations

import hashlib

from fastnn.backend.cuda.device_function.instruction import INSTRUCTIONS
from fastnn.backend.cuda.device_function.layout import described
from fastnn.modules import import_all

# each module registers its instructions and encoders on import
import_all(__name__, __path__)

#: the number of each instruction
NUMBERS = {name: number for number, name in enumerate(sorted(INSTRUCTIONS))}
#: the instruction of each number
BY_NUMBER = [INSTRUCTIONS[name] for name in NUMBERS]
#: changes with the layout: a kernel kept on disk refuses code of another layout
MAGIC = int.from_bytes(hashlib.sha256(repr((described(), list(NUMBERS))).encode()).digest()[:7], "little")
