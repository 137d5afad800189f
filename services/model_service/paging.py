"""Pages of the list of bundles; a token names the last bundle of the page before."""

from backlane.errors import (
    BacklaneError,
    FieldViolation,
    InvalidPageTokenError,
    InvalidRequestError,
)
from backlane.inference.model_name import ModelName, version_number

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000


def page_of(names: list[ModelName], page_size: int, page_token: str) -> tuple[list[ModelName], str]:
    """Returns one page of `names`, which are in list order, and the token of the next page.

    The token is empty at the end and only there. It stays good when bundles come or go: the next
    page begins after the place of the bundle that it names. Raises InvalidRequestError for a
    negative size and InvalidPageTokenError for a token that no list has given.
    """
    if page_size < 0:
        problem = f"is {page_size}; write 0 for {PAGE_SIZE_DEFAULT}, or 1 to {PAGE_SIZE_MAX}"
        raise InvalidRequestError(
            f"page_size {problem}.", violations=(FieldViolation("page_size", problem),)
        )
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    rest = names
    if page_token:
        after = _order(_read_token(page_token))
        rest = [name for name in names if _order(name) > after]
    page = rest[:size]
    return page, str(page[-1]) if len(rest) > size else ""


def _read_token(page_token: str) -> ModelName:
    try:
        name = ModelName.parse(page_token, field="page_token")
    except BacklaneError as error:
        raise _invalid(page_token) from error
    if not name.version:
        raise _invalid(page_token)
    return name


def _invalid(page_token: str) -> InvalidPageTokenError:
    return InvalidPageTokenError(
        f"page_token {page_token!r} comes from no response of ListModels; begin without one.",
        metadata={"page_token": page_token},
    )


def _order(name: ModelName) -> tuple[str, bool, int, str]:
    """The order of `list_bundles`."""
    number = version_number(name.version)
    return (name.model, number is None, number or 0, name.version)
