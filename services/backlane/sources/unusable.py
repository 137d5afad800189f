"""How the stages of reading a file say that they cannot go on."""

from backlane.market.finding import Finding, FindingCode


class UnusableFileError(Exception):
    """The file gives no bars at all; `finding` says why.

    Stays inside `sources`: `files` turns it into a report, so that a check of a broken file reads
    like a check of any other.
    """

    def __init__(
        self, code: FindingCode, message: str, *, count: int = 1, first_example: str = ""
    ) -> None:
        super().__init__(message)
        self.finding = Finding(code, count, first_example, message)
