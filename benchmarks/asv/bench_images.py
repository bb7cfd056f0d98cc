"""Training and prediction of networks of convolutions, and single convolutions beside products of their sizes."""

from convolutions import SIZES, contestants
from image_contestants import Fastnn
from image_networks import NETWORKS
from mobilenet import images_of, our_network
from titles import titled

CONVOLUTIONS = {each.label: each for each in SIZES}
SOME = [SIZES[number].label for number in (0, 1, 6, 10, 15)]


@titled("Networks of convolutions, four training steps")
class ImageTraining:
    """Four steps of Adam on batches of 64 images, of 32 signals, or of 128 images of ResNet-20."""

    param_names = ("network",)
    params = tuple(NETWORKS)
    timeout = 300

    def setup(self, network: str) -> None:
        """Compile by the first steps."""
        work = NETWORKS[network]
        weights = work.fastnn().get_weights()
        self.one = Fastnn(work, weights, *work.data(4), 1)
        self.one.train(1)

    def time_steps(self, network: str) -> None:
        """Forward, loss, backward, Adam."""
        self.one.train(1)


@titled("Networks of convolutions, prediction")
class ImagePrediction:
    """One image, and a batch."""

    param_names = ("network", "rows")
    params = (list(NETWORKS), ["one", "batch"])
    timeout = 300

    def setup(self, network: str, rows: str) -> None:
        """Compile by a first prediction."""
        work = NETWORKS[network]
        self.model, (x,) = work.fastnn(), work.data()[0]
        self.x = x[:1] if rows == "one" else x
        self.model.predict(self.x)

    def time_prediction(self, network: str, rows: str) -> None:
        """Predict."""
        self.model.predict(self.x)


@titled("MobileNetV1 of 96 x 96 pixels, prediction")
class MobileNetPrediction:
    """The network of alpha 0.25, whose convolutions by channel alternate with ones of single pixels."""

    param_names = ("rows",)
    params = (1, 32)
    timeout = 300

    def setup(self, rows: int) -> None:
        """Compile by a first prediction."""
        self.model, self.x = our_network(96, 0.25), images_of(96, rows)
        self.model.predict(self.x)

    def time_prediction(self, rows: int) -> None:
        """Predict."""
        self.model.predict(self.x)


@titled("Convolutions and their gradients")
class Convolutions:
    """Single records: forward, gradients for inputs and for weights, and the product of the forward one's size."""

    param_names = ("work", "size")
    params = (["forward", "inputs", "weights", "product"], SOME)

    def setup(self, work: str, size: str) -> None:
        """Allocate operands, compile, and call once."""
        made = contestants(CONVOLUTIONS[size], "float32")
        self.call = made["forward"]["product"] if work == "product" else made[work]["fastnn"]
        self.call()

    def time_record(self, work: str, size: str) -> None:
        """Run the record."""
        self.call()
