"""The peers with their own compilers or tensors: PyTorch, eager and compiled, JAX, onnxruntime."""

import importlib
from typing import Any

import numpy as np

from contestants import EPSILON, LEARNING_RATE, Array, Contestant


class PyTorch(Contestant):
    """PyTorch in eager mode: `torch.nn.Sequential` and the fused Adam."""

    name, module = "PyTorch eager", "torch"
    differs = "Adam adds epsilon after the bias correction"
    epsilon_last = True

    def prepare(self) -> None:
        """Build the network, the optimizer and the tensors, which share the memory of the data."""
        torch, work = self.library, self.workload
        torch.set_num_threads(self.threads)
        layers: list[Any] = []
        for n_in, n_out in zip(work.sizes[:-1], work.sizes[1:], strict=True):
            layers += [
                torch.nn.Linear(n_in, n_out),
                torch.nn.ReLU() if work.activation == "relu" else torch.nn.Tanh(),
            ]
        self.net = torch.nn.Sequential(*layers[:-1])
        self.parameters = list(self.net.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, LEARNING_RATE, eps=EPSILON, fused=True)
        self.criterion = torch.nn.CrossEntropyLoss() if work.loss == "cross_entropy" else torch.nn.MSELoss()
        self.inputs, self.targets = torch.from_numpy(self.X), torch.from_numpy(self.y)
        self.batches = torch.from_numpy(self.order)
        self.batch_loss = self.compiled(lambda x, y: self.criterion(self.net(x), y))
        softmax = torch.nn.Softmax(dim=1) if work.loss == "cross_entropy" else torch.nn.Identity()
        self.outputs = self.compiled(torch.nn.Sequential(self.net, softmax))

    def compiled(self, function: Any) -> Any:
        """Return a function of batches, here unchanged."""
        return function

    def train(self, epochs: int) -> float:
        """Run the usual loop; losses are added without leaving PyTorch."""
        for _ in range(epochs):
            total = self.library.zeros(())
            for rows in self.batches:
                loss = self.batch_loss(self.inputs.index_select(0, rows), self.targets.index_select(0, rows))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.detach()
        return float(total) / len(self.batches)

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights; PyTorch keeps kernels transposed."""
        with self.library.no_grad():
            for own, weight in zip(self.parameters, weights, strict=True):
                own.copy_(self.library.from_numpy(weight.T.copy()))

    def get_weights(self) -> list[Array]:
        """Return copies of the weights."""
        return [own.detach().numpy().T.copy() for own in self.parameters]

    def predict(self, X: Array) -> Array:
        """Return the outputs, without recording anything for gradients."""
        with self.library.inference_mode():
            return np.asarray(self.outputs(self.library.from_numpy(X)).numpy())


class PyTorchCompiled(PyTorch):
    """PyTorch with `torch.compile` around forward and loss (and so the backward), with the fused Adam."""

    name = "PyTorch compiled"

    def compiled(self, function: Any) -> Any:
        """Return the function compiled for the shapes of the workload."""
        return self.library.compile(function, fullgraph=True, dynamic=False)


class Jax(Contestant):
    """JAX: a whole epoch is one jitted `lax.scan`, with the state's buffers donated."""

    name, module = "JAX", "jax"

    def prepare(self) -> None:
        """Do not trace yet: the first epoch compiles."""
        jax, jnp, work = self.library, self.library.numpy, self.workload
        activation = jax.nn.relu if work.activation == "relu" else jnp.tanh

        def forward(parameters: list[Any], x: Any) -> Any:
            for kernel, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
                x = activation(x @ kernel + bias)
            return x @ parameters[-2] + parameters[-1]

        def outputs(parameters: list[Any], x: Any) -> Any:
            z = forward(parameters, x)
            return jax.nn.softmax(z) if work.loss == "cross_entropy" else z

        def batch_loss(parameters: list[Any], x: Any, y: Any) -> Any:
            z = forward(parameters, x)
            if work.loss == "mse":
                return jnp.mean((z - y) ** 2)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))

        def epoch(state: tuple[Any, ...], X: Any, y: Any, batches: Any) -> Any:
            def step(state: tuple[Any, ...], rows: Any) -> Any:
                p, m, v, t = state
                loss, g = jax.value_and_grad(batch_loss)(p, X[rows], y[rows])
                t = t + 1
                m = [0.9 * m_i + 0.1 * g_i for m_i, g_i in zip(m, g, strict=True)]
                v = [0.999 * v_i + 0.001 * g_i * g_i for v_i, g_i in zip(v, g, strict=True)]
                # expm1 because 1 - 0.999**t loses four digits in float32.
                alpha = LEARNING_RATE * jnp.sqrt(-jnp.expm1(t * np.log(0.999))) / -jnp.expm1(t * np.log(0.9))
                p = [p_i - alpha * m_i / (jnp.sqrt(v_i) + EPSILON) for p_i, m_i, v_i in zip(p, m, v, strict=True)]
                return (p, m, v, t), loss

            state, losses = jax.lax.scan(step, state, batches)
            return state, jnp.mean(losses)

        self.epoch = jax.jit(epoch, donate_argnums=0)
        self.outputs = jax.jit(outputs)
        self.data = (jnp.asarray(self.X), jnp.asarray(self.y), jnp.asarray(self.order))
        self.state: tuple[Any, ...] = ()

    def train(self, epochs: int) -> float:
        """Run the jitted epochs and wait for the last."""
        for _ in range(epochs):
            self.state, loss = self.epoch(self.state, *self.data)
        self.library.block_until_ready(self.state)
        return float(loss)

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights; the moments are kept, or zero at first."""
        jnp = self.library.numpy
        moments = self.state[1:] or (
            [jnp.zeros(w.shape) for w in weights],
            [jnp.zeros(w.shape) for w in weights],
            jnp.zeros((), jnp.float32),
        )
        self.state = ([jnp.array(weight) for weight in weights], *moments)

    def get_weights(self) -> list[Array]:
        """Return copies of the weights."""
        return [np.array(weight) for weight in self.state[0]]

    def predict(self, X: Array) -> Array:
        """Return the outputs as a NumPy array, which waits for them."""
        return np.asarray(self.outputs(self.state[0], X))


class OnnxRuntime(Contestant):
    """onnxruntime, which only predicts, on a graph of Gemm, activation and Softmax."""

    name, module = "onnxruntime", "onnxruntime"

    def prepare(self) -> None:
        """Wait for the weights, which become constants of the graph."""
        importlib.import_module("onnx")

    def set_weights(self, weights: list[Array]) -> None:
        """Build the graph and the session."""
        onnx, work = importlib.import_module("onnx"), self.workload
        make, count = onnx.helper, len(weights) // 2
        nodes, x = [], "x"
        for layer in range(count):
            nodes.append(make.make_node("Gemm", [x, f"kernel{layer}", f"bias{layer}"], [f"z{layer}"]))
            last = "Softmax" if work.loss == "cross_entropy" else "Identity"
            op = last if layer == count - 1 else {"relu": "Relu", "tanh": "Tanh"}[work.activation]
            x = "y" if layer == count - 1 else f"h{layer}"
            nodes.append(make.make_node(op, [f"z{layer}"], [x]))
        constants = [
            onnx.numpy_helper.from_array(weight, f"{('kernel', 'bias')[index % 2]}{index // 2}")
            for index, weight in enumerate(weights)
        ]
        ends = [
            make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", width])
            for name, width in (("x", work.sizes[0]), ("y", work.sizes[-1]))
        ]
        graph = make.make_graph(nodes, "network", ends[:1], ends[1:], constants)
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        self.session = self.library.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def predict(self, X: Array) -> Array:
        """Return the outputs."""
        probabilities: Array = self.session.run(None, {"x": X})[0]
        return probabilities
