"""Strategies of installed packages: entry points of the group `backlane.strategies`.

A package names its strategy in its pyproject.toml:

    [project.entry-points."backlane.strategies"]
    my_strategy = "my_package:MY_STRATEGY"

where MY_STRATEGY is a `TargetStrategy` or a `TradeStrategy`. From then on a configuration can name
`my_strategy`. A package is imported when its strategy is asked for, not before.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry, Strategy, TargetStrategy, TradeStrategy
from backlane.errors import FieldViolation, InvalidRequestError

STRATEGY_GROUP = "backlane.strategies"


class InstalledStrategies(Mapping[str, Strategy]):
    """The built-in strategies and those of installed packages, by name.

    Asking for one whose package cannot be imported, gives something else, or takes a name that is
    taken, raises InvalidRequestError; the others can be used all the same.
    """

    def __init__(self, points: tuple[EntryPoint, ...], built_in: Registry = BUILT_IN) -> None:
        """Takes the entry points of the group."""
        self._built_in = built_in
        self._points: dict[str, list[EntryPoint]] = {}
        for point in points:
            self._points.setdefault(point.name, []).append(point)

    def __getitem__(self, name: str) -> Strategy:
        points = self._points.get(name, [])
        if not points:
            return self._built_in[name]
        if len(points) > 1 or name in self._built_in:
            raise _unusable(name, f"is given by {', '.join(map(_origin, points))}", "taken twice")
        return _loaded(points[0])

    def __contains__(self, name: object) -> bool:
        """Answers without importing anything."""
        return name in self._points or name in self._built_in

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._built_in, *sorted(self._points))))

    def __len__(self) -> int:
        return len(self._built_in.keys() | self._points.keys())


def installed_strategies() -> Registry:
    """Returns every strategy that a configuration can name on this machine."""
    points = tuple(entry_points(group=STRATEGY_GROUP))
    return InstalledStrategies(points) if points else MappingProxyType(dict(BUILT_IN))


def _loaded(point: EntryPoint) -> Strategy:
    try:
        strategy = point.load()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise _unusable(point.name, f"of {_origin(point)}", f"cannot be loaded: {said}") from error
    if not isinstance(strategy, TargetStrategy | TradeStrategy):
        said = f"is a {type(strategy).__name__}, not a TargetStrategy or TradeStrategy"
        raise _unusable(point.name, f"of {_origin(point)}", said)
    return strategy


def _origin(point: EntryPoint) -> str:
    package = "a package" if point.dist is None else point.dist.name
    return f"{package} ({point.value})"


def _unusable(name: str, origin: str, said: str) -> InvalidRequestError:
    description = f"{name!r} {origin} {said}"
    message = f"The strategy {description}."
    return InvalidRequestError(message, violations=(FieldViolation("strategy.name", description),))
