"""Sizing, exits, costs and margin of a backtest on the wire. Light: no numpy."""

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from backlane.api.backtest.v1 import backtest_pb2 as pb

if TYPE_CHECKING:
    from backlane.backtest.request import BacktestRequest, SizingChoice
_PATHS = {
    "sizing.target_volatility": "sizing.volatility_target.target",
    "sizing.volatility_period": "sizing.volatility_target.period",
}
"""Where a field of the request is in the proto, when its path is not the same."""


def proto_path(path: str) -> str:
    """Returns the path in the proto of a field of the request."""
    return _PATHS.get(path, path)


def put_trading_rules(request: "BacktestRequest", spec: pb.BacktestSpec) -> None:
    """Writes how much is traded, what it costs and when a position ends into a spec."""
    from backlane.backtest.request import CostChoice

    spec.sizing.CopyFrom(_sizing_to_proto(request.sizing))
    spec.lot_size = request.lot_size
    exits = request.exits.model_dump(exclude_none=True)
    if exits:
        spec.exits.CopyFrom(pb.Exits(**exits))
    if request.costs != CostChoice():
        spec.costs.CopyFrom(pb.Costs(**request.costs.model_dump()))
    spec.margin.CopyFrom(pb.Margin(**request.margin.model_dump()))


def trading_rules_content(spec: pb.BacktestSpec) -> dict[str, Any]:
    """Returns these rules as plain data, as a request file holds them; absent ones left out."""
    content: dict[str, Any] = {}
    if spec.HasField("lot_size"):
        content["lot_size"] = spec.lot_size
    sizing = _sizing_content(spec.sizing)
    if sizing:
        content["sizing"] = sizing
    for name in ("exits", "costs", "margin"):
        if spec.HasField(name):
            content[name] = _plain(getattr(spec, name))
    return content


def _plain(message: Message) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


def _sizing_to_proto(sizing: "SizingChoice") -> pb.Sizing:
    if sizing.units is not None:
        return pb.Sizing(units=sizing.units)
    if sizing.target_volatility is not None:
        target = pb.Sizing.VolatilityTarget(
            target=sizing.target_volatility, period=sizing.volatility_period
        )
        return pb.Sizing(volatility_target=target)
    return pb.Sizing(fraction=sizing.cash_fraction)


def _sizing_content(sizing: pb.Sizing) -> dict[str, Any]:
    rule = sizing.WhichOneof("rule")
    if rule == "volatility_target":
        target = sizing.volatility_target
        content: dict[str, Any] = {"target_volatility": target.target}
        if target.HasField("period"):
            content["volatility_period"] = target.period
        return content
    return {} if rule is None else {rule: getattr(sizing, rule)}
