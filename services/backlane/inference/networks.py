"""The networks themselves, in torch: the only shapes that a bundle can have."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from backlane.errors import BundleInvalidError
from backlane.inference.network_spec import MlpSpec, NetworkSpec, RecurrentSpec

LEAKY_RELU_SLOPE = 0.01
ALIGNED_WIDTH = 8
"""Widths are rounded up to so many float32: a vector of AVX2. 4 were enough in every trial."""


class RecurrentNetwork(nn.Module):
    """LSTM or GRU over windows of rows; `fc` reads the last hidden state of the top layer."""

    def __init__(self, spec: RecurrentSpec) -> None:
        super().__init__()
        layers = nn.LSTM if spec.cell == "lstm" else nn.GRU
        stack = layers(spec.input_count, spec.hidden_size, spec.layer_count, batch_first=True)
        # Weight names begin with the cell: lstm.weight_ih_l0, gru.weight_ih_l0.
        self.add_module(spec.cell, stack)
        self.fc = nn.Linear(spec.hidden_size, spec.output_count)
        self._stack = [stack]  # in a list, so that it is not registered a second time

    def forward(self, windows: Tensor) -> Tensor:
        """Maps (windows, rows, features) to (windows, outputs)."""
        rows: Tensor = self._stack[0](windows)[0]
        outputs: Tensor = self.fc(rows[:, -1, :])
        return outputs


class AlignedNetwork(nn.Module):
    """A network whose widths are whole vectors, so that every row begins at one.

    A matrix product may choose how it adds up a row by where the row begins in memory: of rows of 5
    numbers, three in four gave other last bits than the same row at the start (MKL 2024.2, AVX2,
    products with few outputs). The columns that are added are zeros with weights of zero: the
    numbers stay what they are.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (..., features) to (rows or windows, outputs)."""
        missing = -inputs.shape[-1] % ALIGNED_WIDTH
        aligned = nn.functional.pad(inputs, (0, missing)) if missing else inputs
        outputs: Tensor = self.network(aligned)
        return outputs


def build_network(spec: NetworkSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """Returns the network with these weights, frozen and in evaluation mode.

    Raises BundleInvalidError when names or shapes of the weights are not those of `spec`, naming
    each that differs. Weights whose widths are whole vectors are taken over, not copied.
    """
    check_weight_shapes(spec, {name: tuple(weight.shape) for name, weight in weights.items()})
    wide = _aligned(spec)
    widened = {
        name: _widened(weights[name], shape, _gate_count(spec, name))
        for name, shape in wide.parameter_shapes().items()
    }
    with torch.device("meta"):
        network = _sequential(wide) if isinstance(wide, MlpSpec) else RecurrentNetwork(wide)
    network.load_state_dict(widened, strict=True, assign=True)
    return AlignedNetwork(network).eval().requires_grad_(False)


def _aligned(spec: NetworkSpec) -> NetworkSpec:
    """Returns the spec with every width but that of the outputs in whole vectors."""

    def up(width: int) -> int:
        return width + -width % ALIGNED_WIDTH

    if isinstance(spec, MlpSpec):
        hidden = tuple(up(width) for width in spec.hidden_layers)
        return replace(spec, input_count=up(spec.input_count), hidden_layers=hidden)
    return replace(spec, input_count=up(spec.input_count), hidden_size=up(spec.hidden_size))


def _gate_count(spec: NetworkSpec, name: str) -> int:
    """Returns how many gates lie one under the other in a weight."""
    return 1 if isinstance(spec, MlpSpec) or name.startswith("fc.") else spec.gate_count


def _widened(weight: Tensor, shape: tuple[int, ...], gates: int) -> Tensor:
    """Returns a weight with zeros below each gate and to the right, in `shape`.

    What a unit without weights answers (tanh 0, sigmoid 1/2) meets weights of zero in the next
    layer; the state of a recurrent one stays 0.
    """
    if tuple(weight.shape) == shape:
        return weight
    wide = torch.zeros(gates, shape[0] // gates, *shape[1:], dtype=weight.dtype)
    narrow = weight.reshape(gates, weight.shape[0] // gates, *weight.shape[1:])
    wide[tuple(slice(size) for size in narrow.shape)] = narrow
    return wide.reshape(shape)


def check_weight_shapes(spec: NetworkSpec, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raises BundleInvalidError unless `found` has exactly the names and shapes of `spec`."""
    expected = spec.parameter_shapes()
    wrong = [
        f"{name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        shown = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        raise BundleInvalidError(
            f"The weights in model.pt do not fit the {spec.architecture} network that config.json "
            f"and metadata_v3.json describe ({spec.input_count} features in, "
            f"{spec.output_count} outputs): {shown}.",
            metadata={"architecture": spec.architecture, "mismatch": shown},
        )


def _sequential(spec: MlpSpec) -> nn.Sequential:
    sizes = (spec.input_count, *spec.hidden_layers)
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        # Identity holds the place of dropout, which is inactive here: weights stand at 0, 3, 6 ...
        layers += [nn.Linear(width_in, width_out), _activation(spec.activation), nn.Identity()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], spec.output_count))


def _activation(name: str) -> nn.Module:
    match name:
        case "relu":
            return nn.ReLU()
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
        case _:
            return nn.LeakyReLU(LEAKY_RELU_SLOPE)
