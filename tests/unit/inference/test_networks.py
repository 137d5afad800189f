"""The networks compute what their formulas say; each number here can be redone by hand."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from backlane.errors import BundleInvalidError
from backlane.inference.network_spec import MlpSpec, RecurrentSpec
from backlane.inference.networks import RecurrentNetwork, build_network
from backlane.inference.torch_predictor import one_thread

# Sums of a few terms of about 1 in float32, which carries 7 digits.
ROUNDING = 1e-6


def tensor(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        # Hidden sums of the row (1, 2): 1*1 + 2*-1 + 0.5 = -0.5 and 1*0.5 + 2*0.25 + 0 = 1.
        # Output: 2 * f(-0.5) + 3 * f(1) + 0.1.
        ("relu", 2 * 0 + 3 * 1 + 0.1),
        ("leaky_relu", 2 * (-0.5 * 0.01) + 3 * 1 + 0.1),
        ("tanh", 2 * math.tanh(-0.5) + 3 * math.tanh(1) + 0.1),
        ("sigmoid", 2 / (1 + math.exp(0.5)) + 3 / (1 + math.exp(-1)) + 0.1),
    ],
)
def test_an_mlp_by_hand(activation: str, expected: float) -> None:
    weights = {
        "0.weight": tensor([1.0, -1.0], [0.5, 0.25]),
        "0.bias": torch.tensor([0.5, 0.0]),
        "3.weight": tensor([2.0, 3.0]),
        "3.bias": torch.tensor([0.1]),
    }
    network = build_network(MlpSpec(2, 1, (2,), activation), weights)
    assert network(tensor([1.0, 2.0])).item() == pytest.approx(expected, abs=ROUNDING)


def test_an_lstm_by_hand() -> None:
    # One feature, one unit. Gates in the order input, forget, cell, output; no biases; fc doubles.
    weights = {
        "lstm.weight_ih_l0": tensor([1.0], [0.5], [2.0], [-1.0]),
        "lstm.weight_hh_l0": tensor([0.1], [0.2], [0.3], [0.4]),
        "lstm.bias_ih_l0": torch.zeros(4),
        "lstm.bias_hh_l0": torch.zeros(4),
        "fc.weight": tensor([2.0]),
        "fc.bias": torch.tensor([0.5]),
    }
    network = build_network(RecurrentSpec("lstm", 1, 1, 1, 1, 2), weights)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    hidden = cell = 0.0
    for x in (0.3, -0.6):
        gate_in, forget = sigmoid(x + 0.1 * hidden), sigmoid(0.5 * x + 0.2 * hidden)
        candidate, out = math.tanh(2 * x + 0.3 * hidden), sigmoid(-x + 0.4 * hidden)
        cell = forget * cell + gate_in * candidate
        hidden = out * math.tanh(cell)
    assert network(torch.tensor([[[0.3], [-0.6]]])).item() == pytest.approx(
        2 * hidden + 0.5, abs=ROUNDING
    )


def test_a_gru_by_hand() -> None:
    # Gates in the order reset, update, new; the new gate has its own hidden bias inside the reset.
    weights = {
        "gru.weight_ih_l0": tensor([1.0], [0.5], [2.0]),
        "gru.weight_hh_l0": tensor([0.1], [0.2], [0.3]),
        "gru.bias_ih_l0": torch.zeros(3),
        "gru.bias_hh_l0": torch.tensor([0.0, 0.0, 0.7]),
        "fc.weight": tensor([2.0]),
        "fc.bias": torch.tensor([0.5]),
    }
    network = build_network(RecurrentSpec("gru", 1, 1, 1, 1, 2), weights)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    hidden = 0.0
    for x in (0.3, -0.6):
        reset, update = sigmoid(x + 0.1 * hidden), sigmoid(0.5 * x + 0.2 * hidden)
        new = math.tanh(2 * x + reset * (0.3 * hidden + 0.7))
        hidden = (1 - update) * new + update * hidden
    assert network(torch.tensor([[[0.3], [-0.6]]])).item() == pytest.approx(
        2 * hidden + 0.5, abs=ROUNDING
    )


def test_shapes_of_every_layer() -> None:
    assert MlpSpec(4, 3, (8, 5), "relu").parameter_shapes() == {
        "0.weight": (8, 4),
        "0.bias": (8,),
        "3.weight": (5, 8),
        "3.bias": (5,),
        "6.weight": (3, 5),
        "6.bias": (3,),
    }
    lstm = RecurrentSpec("lstm", 4, 3, 6, 2, 10).parameter_shapes()
    assert lstm["lstm.weight_ih_l0"] == (24, 4)  # four gates of six units
    assert lstm["lstm.weight_ih_l1"] == (24, 6)
    assert RecurrentSpec("gru", 4, 3, 6, 1, 10).parameter_shapes()["gru.bias_hh_l0"] == (18,)


SPECS = [
    MlpSpec(4, 3, (8, 5), "relu"),
    MlpSpec(5, 3, (6,), "sigmoid"),
    MlpSpec(16, 3, (32, 16), "leaky_relu"),
    MlpSpec(33, 1, (), "tanh"),
    RecurrentSpec("lstm", 4, 3, 6, 2, 10),
    RecurrentSpec("lstm", 9, 3, 1, 1, 10),
    RecurrentSpec("gru", 2, 1, 5, 3, 4),
    RecurrentSpec("gru", 13, 3, 3, 1, 4),
    RecurrentSpec("gru", 16, 3, 16, 1, 4),
]


def random_weights(spec: MlpSpec | RecurrentSpec) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = spec.parameter_shapes()
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def as_torch_makes_it(spec: MlpSpec | RecurrentSpec) -> torch.nn.Module:
    """The network without anything of ours, at its own widths."""
    if isinstance(spec, RecurrentSpec):
        return RecurrentNetwork(spec)
    activation = {
        "relu": torch.nn.ReLU(),
        "sigmoid": torch.nn.Sigmoid(),
        "tanh": torch.nn.Tanh(),
        "leaky_relu": torch.nn.LeakyReLU(0.01),
    }[spec.activation]
    layers: list[torch.nn.Module] = []
    for width_in, width_out in pairwise((spec.input_count, *spec.hidden_layers)):
        layers += [torch.nn.Linear(width_in, width_out), activation, torch.nn.Identity()]
    width = spec.hidden_layers[-1] if spec.hidden_layers else spec.input_count
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, spec.output_count))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_network_is_that_of_torch_in_whole_vectors(spec: MlpSpec | RecurrentSpec) -> None:
    plain, weights = as_torch_makes_it(spec), random_weights(spec)
    plain.load_state_dict(weights, strict=True)  # so that names and shapes are those of torch
    network = build_network(spec, weights)
    inputs = torch.randn(7, spec.sequence_length, spec.input_count)
    if isinstance(spec, MlpSpec):
        inputs = inputs[:, 0]
    # Some tens of terms of about 1, added in another order.
    torch.testing.assert_close(network(inputs), plain(inputs), rtol=0, atol=1e-5)
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_row_gives_the_same_bits_at_every_place(spec: MlpSpec | RecurrentSpec) -> None:
    """A row of 5 numbers begins at another part of a vector than the row before it."""
    network = build_network(spec, random_weights(spec))
    shape = (spec.input_count,) if isinstance(spec, MlpSpec) else (10, spec.input_count)
    same = torch.randn(shape).repeat(256, *(1 for _ in shape))
    with one_thread(), torch.inference_mode():
        outputs = network(same).numpy()
    assert (outputs == outputs[0]).all()


def test_weights_in_whole_vectors_are_not_copied() -> None:
    spec = MlpSpec(32, 3, (16,), "relu")
    weights = random_weights(spec)
    kept = {weight.data_ptr() for weight in build_network(spec, weights).state_dict().values()}
    assert kept == {weight.data_ptr() for weight in weights.values()}


def test_weights_that_do_not_fit_are_listed_with_both_shapes() -> None:
    with pytest.raises(BundleInvalidError, match=r"0.bias: expected \(1,\), found nothing"):
        build_network(MlpSpec(2, 1, (), "relu"), {"0.weight": torch.zeros(1, 2)})
