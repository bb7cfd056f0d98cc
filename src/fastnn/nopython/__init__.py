"""Networks inside the user's own compiled code: functions to call from functions that Numba compiles.

::

    from numba import njit, prange
    from fastnn import nopython as fnp

    net = model.freeze()

    @njit(parallel=True, cache=True)
    def simulate(net, states, actions):
        for i in prange(len(states)):
            fnp.predict(net, states[i], actions[i])

`simulate` is compiled once: for other weights and for other architectures it stays what it is. The functions can be
called from Python, too, which is handy for a look, and slow. In kernels of `numba.cuda.jit` there is `predict`, with
networks of ``model.freeze(device="cuda")``: see its notes.

Give networks to compiled functions as arguments. In a global variable, or a closure, a network is a constant of the
compiled function: weights that are set later do not reach it, and where Numba keeps the function on disk, another
process refuses it.
"""

from fastnn.backend.cpu.frozen.c_function import CFunction
from fastnn.backend.cpu.frozen.learner import Learner, Learners
from fastnn.backend.cpu.frozen.network import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.frozen.process_token import process_token
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.hints import install
from fastnn.nopython import overloads as _overloads  # noqa: F401  (registers them with Numba)
from fastnn.nopython import step_overloads as _step_overloads  # noqa: F401
from fastnn.nopython import train_overloads as _learning_overloads  # noqa: F401
from fastnn.nopython.checking import check
from fastnn.nopython.device import workspace_elements
from fastnn.nopython.functions import (
    c_function,
    count,
    get_parameters,
    input_gradient,
    jacobian,
    member,
    parameter_count,
    predict,
    set_parameters,
    stack,
    workspace,
)
from fastnn.nopython.stepping import state, step
from fastnn.nopython.train import apply_gradients, loss_and_gradients, parameter_gradient, set_learning_rate, train_step

__all__ = [
    "CFunction",
    "FrozenDeviceNetwork",
    "FrozenNetwork",
    "FrozenNetworks",
    "Learner",
    "Learners",
    "apply_gradients",
    "c_function",
    "check",
    "count",
    "get_parameters",
    "input_gradient",
    "jacobian",
    "loss_and_gradients",
    "member",
    "parameter_count",
    "parameter_gradient",
    "predict",
    "set_learning_rate",
    "set_parameters",
    "stack",
    "state",
    "step",
    "train_step",
    "workspace",
    "workspace_elements",
]

# what Numba has kept on disk of the user's functions asks the linker for it
process_token()

install(__name__)
