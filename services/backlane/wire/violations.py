"""Collects everything that is wrong with a request, so that a caller corrects it in one go."""

from backlane.errors import FieldViolation, InvalidRequestError

VIOLATIONS_MAX = 20
"""Fields that one error names; a caller who has corrected these learns of the next."""


class Violations:
    """What is wrong with one request, field by field.

    >>> found = Violations()
    >>> found.check(page_size >= 0, "page_size", "is negative")
    >>> found.raise_if_any()
    """

    def __init__(self, prefix: str = "") -> None:
        """Begins with nothing; `prefix` comes before each path, as for a message within another."""
        self._prefix = prefix
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Notes that a field, by its path in the request, is wrong: what is, and what is right."""
        if len(self._found) < VIOLATIONS_MAX:
            self._found.append(FieldViolation(self._prefix + field, description))

    def check(self, is_right: bool, field: str, description: str) -> None:
        """Notes a field that is wrong unless `is_right`."""
        if not is_right:
            self.add(field, description)

    def raise_if_any(self) -> None:
        """Raises InvalidRequestError with all that was noted, if anything was."""
        if not self._found:
            return
        lines = "; ".join(f"{one.field}: {one.description}" for one in self._found)
        raise InvalidRequestError(
            f"The request cannot be accepted. {lines}", violations=tuple(self._found)
        )
