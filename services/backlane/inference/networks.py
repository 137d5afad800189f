"""The networks themselves, in torch: the only shapes that a bundle can have."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from backlane.errors import BundleInvalidError
from backlane.inference.network_spec import MlpSpec, NetworkSpec, RecurrentSpec

LEAKY_RELU_SLOPE = 0.01


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


def build_network(spec: NetworkSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """Returns the network with these weights, frozen and in evaluation mode.

    Raises BundleInvalidError when names or shapes of the weights are not those of `spec`, naming
    each that differs. Memory is that of `weights`: they are taken over, not copied.
    """
    check_weight_shapes(spec, {name: tuple(weight.shape) for name, weight in weights.items()})
    with torch.device("meta"):
        network = _sequential(spec) if isinstance(spec, MlpSpec) else RecurrentNetwork(spec)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


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
