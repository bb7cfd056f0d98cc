"""Training of recurrent networks, single steps of them from compiled code, and texts of a small GPT."""

import fastnn as fnn
from recurrent import STEPS, WORKLOADS, our_network, stepping
from titles import titled

BY_NAME = {work.name: work for work in WORKLOADS}


@titled("Recurrent networks, training steps")
class RecurrentTraining:
    """An epoch of a few batches, with Adam; one thread."""

    param_names = ("network",)
    params = tuple(BY_NAME)
    timeout = 300

    def setup(self, network: str) -> None:
        """Compile by a first epoch."""
        if not hasattr(fnn, "LSTM"):
            raise NotImplementedError("this version has no recurrent layers")
        fnn.set_num_threads(1)
        work = BY_NAME[network]
        x, mask, y = work.data("float32")
        self.model, self.batch = our_network(work, "float32"), work.batch
        self.x, self.y = {"x": x, "mask": mask} if work.lengths else x, y
        self.time_epoch(network)

    def time_epoch(self, network: str) -> None:
        """Forward, loss, backward, Adam."""
        self.model.fit(self.x, self.y, batch_size=self.batch, epochs=1, shuffle=False, verbose=0)


@titled("Steps of recurrent networks in compiled code")
class Stepping:
    """A thousand steps, one after the other."""

    param_names = ("network",)
    params = tuple(STEPS)

    def setup(self, network: str) -> None:
        """Compile by a first call."""
        if not hasattr(fnn, "LSTM"):
            raise NotImplementedError("this version has no recurrent layers")
        self.walk = stepping(*STEPS[network])
        self.walk()

    def time_steps(self, network: str) -> None:
        """Run the steps."""
        self.walk()


@titled("Tokens of a small GPT")
class Generation:
    """Fifty tokens of a GPT of 4 blocks of 128 numbers; one thread."""

    def setup(self) -> None:
        """Compile by a first call."""
        if not hasattr(fnn.Model, "generate"):
            raise NotImplementedError("this version generates no text")
        fnn.set_num_threads(1)
        self.model = fnn.applications.GPT(65, 64, 4, 4, 128, seed=0)
        self.time_tokens()

    def time_tokens(self) -> None:
        """Continue one token."""
        self.model.generate([1], 50, seed=0)
