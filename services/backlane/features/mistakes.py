"""Collects what is wrong with a strategy, so that a user sees all of it at once."""

from collections.abc import Iterable, Mapping, Sequence

from backlane.errors import FieldViolation, InvalidStrategyError

MISTAKES_MAX = 100
"""Mistakes that one error tells; whoever has mended these learns of the next."""
ENTRIES_MAX = 4096
"""Entries of one mapping or list of a strategy; one with more is made to keep its reader busy."""
_PATH_CHARACTERS_MAX = 120
_DESCRIPTION_CHARACTERS_MAX = 1000


class Mistakes:
    """The violations found so far, in the order of the file, and the warnings."""

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []
        self.warnings: list[str] = []
        self._unreadable: list[str] = []

    def add(self, path: str, description: str) -> None:
        """Notes that the value at `path` cannot be used, why, and what to write.

        Below a value that is no mapping nothing is noted: what it lacks follows from that.
        """
        if len(self.violations) >= MISTAKES_MAX:
            return
        if not any(
            path == top or path.startswith((f"{top}.", f"{top}[")) for top in self._unreadable
        ):
            self.violations.append(
                FieldViolation(
                    _fit(path, _PATH_CHARACTERS_MAX),
                    _fit(description, _DESCRIPTION_CHARACTERS_MAX),
                )
            )

    def extend(self, violations: Iterable[FieldViolation]) -> None:
        """Notes violations that were found elsewhere."""
        self.violations.extend(violations)

    def warn(self, path: str, description: str) -> None:
        """Notes that the value at `path` can be used, but hardly means what it says."""
        self.warnings.append(f"{path} {description}")

    def raise_any(self, subject: str) -> None:
        """Raises InvalidStrategyError with every violation, if there is one."""
        if self.violations:
            raise invalid_strategy(subject, tuple(self.violations))

    def mapping(self, value: object, path: str) -> dict[str, object]:
        """Returns `value` as a mapping with text keys; notes anything else and returns {}."""
        if not isinstance(value, Mapping):
            self._pass_over(path, f"must be a mapping of names to values, not {_kind(value)}")
            return {}
        if self.has_too_many(value, path):
            return {}
        for key in value:
            if not isinstance(key, str):
                # YAML 1.1 reads a bare on, off, yes or no as true or false, and 1 as a number.
                self.add(path, f"has the key {key!r}, which YAML did not read as text: quote it")
        return {key: item for key, item in value.items() if isinstance(key, str)}

    def has_too_many(self, value: Mapping[object, object] | Sequence[object], path: str) -> bool:
        """Says whether `value` has more entries than are read, and notes it."""
        if len(value) <= ENTRIES_MAX:
            return False
        self._pass_over(path, f"has {len(value):,} entries: at most {ENTRIES_MAX:,} are read")
        return True

    def _pass_over(self, path: str, description: str) -> None:
        self.add(path, description)
        if len(self.violations) < MISTAKES_MAX:
            self._unreadable.append(path)

    def text(self, value: object, path: str) -> str:
        """Returns `value` if it is a text that is not empty; notes anything else, returns ''."""
        if isinstance(value, str) and value:
            return value
        self.add(path, f"must be a text that is not empty, not {_kind(value)}")
        return ""

    def texts(self, value: object, path: str) -> tuple[str, ...]:
        """Returns `value`, a list of texts or a single text, as a tuple; notes anything else."""
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            self.add(path, f"must be a list of names, not {_kind(value)}")
            return ()
        if self.has_too_many(value, path):
            return ()
        found = [self.text(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return tuple(item for item in found if item)


def invalid_strategy(subject: str, violations: tuple[FieldViolation, ...]) -> InvalidStrategyError:
    """Builds the error for a strategy with these violations."""
    lines = [f"{v.field} {v.description}" for v in violations]
    count = "one mistake" if len(violations) == 1 else f"{len(violations)} mistakes"
    count = f"{count} or more" if len(violations) >= MISTAKES_MAX else count
    return InvalidStrategyError(
        f"{subject} has {count}:" + (f" {lines[0]}" if len(lines) == 1 else _listed(lines)),
        metadata={"strategy": subject, "mistake_count": str(len(violations))},
        violations=violations,
    )


def _listed(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)


def _fit(text: str, characters_max: int) -> str:
    """Names and values come from the file: nothing of them moves a cursor or fills a screen."""
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= characters_max else f"{plain[: characters_max - 1]}…"


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return "an empty text" if not value else f"the text {value!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)
