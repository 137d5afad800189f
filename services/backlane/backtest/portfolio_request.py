"""What a portfolio run is asked to do, as plain data: light, for clients and for the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PANEL_ROLE, EVENTS_ROLE = "panel", "events"
"""What a file is in a run; one of events is `events.` and its source."""


@dataclass(frozen=True, slots=True)
class PortfolioRequest:
    """A configuration as its YAML file holds it, and the digest of each file that it names.

    `files` maps a name in `config["data"]` to `sha256:` and 64 hex digits.
    """

    config: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)


def file_roles(config: object) -> dict[str, str]:
    """Returns the names of the files in `data`, by what each is: `panel`, `events.insider`.

    What is no name is left out: whoever validates the configuration says so.
    """
    data = config.get("data") if isinstance(config, Mapping) else None
    if not isinstance(data, Mapping):
        return {}
    events = data.get(EVENTS_ROLE)
    named = {PANEL_ROLE: data.get(PANEL_ROLE)}
    if isinstance(events, Mapping):
        named |= {f"{EVENTS_ROLE}.{source}": name for source, name in events.items()}
    return {role: name for role, name in named.items() if isinstance(name, str) and name}


def whole_numbers(content: Any) -> Any:
    """Returns plain data with sorted keys, and each number without a fraction as an int: 1 for 1.0.

    A message holds all numbers as binary64, and no order of keys; with this the same configuration
    gives the same bytes of a result, whichever way it came.
    """
    if isinstance(content, Mapping):
        ordered = sorted(content.items(), key=lambda item: str(item[0]))
        return {key: whole_numbers(value) for key, value in ordered}
    if isinstance(content, list | tuple):
        return [whole_numbers(value) for value in content]
    return int(content) if isinstance(content, float) and content.is_integer() else content
