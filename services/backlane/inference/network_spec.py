"""The shape of a network, as config.json states it; known before any weight is read."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from backlane.errors import BundleInvalidError
from backlane.inference.document import Document

ACTIVATIONS = ("relu", "tanh", "sigmoid", "leaky_relu")
ARCHITECTURES = ("mlp", "lstm", "gru")

FEATURE_COUNT_MAX = 4096
LAYER_COUNT_MAX = 64
LAYER_SIZE_MAX = 65_536
SEQUENCE_LENGTH_MAX = 4096
# Numbers in one window of a sequence model: keeps a slice of windows below 128 MiB.
WINDOW_VALUES_MAX = 262_144
# Weights of one network; 512 MiB of float32.
PARAMETER_COUNT_MAX = 128 * 2**20

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class MlpSpec:
    """Linear, activation and dropout for each hidden layer, then one linear layer.

    `activation` is one of `ACTIVATIONS`; leaky_relu has the slope 0.01.
    """

    input_count: int
    output_count: int
    hidden_layers: tuple[int, ...]
    activation: str

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return "mlp"

    @property
    def sequence_length(self) -> int:
        """Rows of features that one output looks at."""
        return 1

    def parameter_shapes(self) -> Shapes:
        """Names and shapes of the weights: linear layers stand at 0, 3, 6 ... of a sequential."""
        sizes = (self.input_count, *self.hidden_layers, self.output_count)
        shapes: Shapes = {}
        for layer, (width_in, width_out) in enumerate(pairwise(sizes)):
            shapes[f"{3 * layer}.weight"] = (width_out, width_in)
            shapes[f"{3 * layer}.bias"] = (width_out,)
        return shapes


@dataclass(frozen=True, slots=True)
class RecurrentSpec:
    """A stack of LSTM or GRU layers over a window of rows, then one linear layer `fc`.

    `cell` is lstm or gru. The outputs of a row are those of the window that ends with it.
    """

    cell: str
    input_count: int
    output_count: int
    hidden_size: int
    layer_count: int
    sequence_length: int

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return self.cell

    @property
    def gate_count(self) -> int:
        """Gates of a unit, which lie one under the other in its weights."""
        return {"lstm": 4, "gru": 3}[self.cell]

    def parameter_shapes(self) -> Shapes:
        """Names and shapes of the weights; an LSTM has four gates in each matrix, a GRU three."""
        gates = self.gate_count * self.hidden_size
        shapes: Shapes = {}
        for layer in range(self.layer_count):
            width_in = self.input_count if layer == 0 else self.hidden_size
            shapes[f"{self.cell}.weight_ih_l{layer}"] = (gates, width_in)
            shapes[f"{self.cell}.weight_hh_l{layer}"] = (gates, self.hidden_size)
            shapes[f"{self.cell}.bias_ih_l{layer}"] = (gates,)
            shapes[f"{self.cell}.bias_hh_l{layer}"] = (gates,)
        shapes["fc.weight"] = (self.output_count, self.hidden_size)
        shapes["fc.bias"] = (self.output_count,)
        return shapes


NetworkSpec = MlpSpec | RecurrentSpec


def read_network_spec(config: Document, *, input_count: int, output_count: int) -> NetworkSpec:
    """Reads `model` of config.json; an older config has `architecture` at its top instead.

    Raises BundleInvalidError for an unknown architecture or activation, a size out of range, or a
    `model` without `architecture`: guessing one would only fail later, on the weights.
    """
    model = config.section("model")
    if model is None and "architecture" in config.values:
        model = config
    layers = None if model is None else model.section("architecture")
    if model is None or layers is None:
        raise config.refuse("model.architecture", None, "the sizes of the layers, as an object")
    name = model.choice("type", ARCHITECTURES, "mlp")
    spec: NetworkSpec
    if name == "mlp":
        spec = _read_mlp(layers, input_count, output_count)
    else:
        spec = _read_recurrent(layers, name, input_count, output_count)
    _check_size(config, spec)
    return spec


def _read_mlp(layers: Document, input_count: int, output_count: int) -> MlpSpec:
    hidden = layers.wholes(
        "hidden_layers", minimum=1, maximum=LAYER_SIZE_MAX, count_max=LAYER_COUNT_MAX
    )
    if hidden is None:
        raise layers.refuse("hidden_layers", None, "a list of layer sizes, such as [32, 16]")
    activation = layers.choice("activation", ACTIVATIONS, "relu")
    return MlpSpec(input_count, output_count, hidden, activation)


def _read_recurrent(
    layers: Document, cell: str, input_count: int, output_count: int
) -> RecurrentSpec:
    hidden_size = layers.whole("hidden_size", minimum=1, maximum=LAYER_SIZE_MAX)
    layer_count = layers.whole("num_layers", minimum=1, maximum=LAYER_COUNT_MAX)
    length = layers.whole("sequence_length", minimum=1, maximum=SEQUENCE_LENGTH_MAX)
    if length is None:
        raise layers.refuse("sequence_length", None, "how many rows one window has")
    if length * input_count > WINDOW_VALUES_MAX:
        accepted = f"at most {WINDOW_VALUES_MAX // input_count} with {input_count} features"
        raise layers.refuse("sequence_length", length, accepted)
    return RecurrentSpec(
        cell=cell,
        input_count=input_count,
        output_count=output_count,
        hidden_size=64 if hidden_size is None else hidden_size,
        layer_count=2 if layer_count is None else layer_count,
        sequence_length=length,
    )


def _check_size(config: Document, spec: NetworkSpec) -> None:
    count = sum(prod(shape) for shape in spec.parameter_shapes().values())
    if count > PARAMETER_COUNT_MAX:
        raise BundleInvalidError(
            f"{config.path('model')} describes a network of {count:,} weights; "
            f"at most {PARAMETER_COUNT_MAX:,} are loaded (PARAMETER_COUNT_MAX).",
            metadata={"parameter_count": str(count), "limit": str(PARAMETER_COUNT_MAX)},
        )
