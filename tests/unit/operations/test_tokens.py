"""Resume tokens and page tokens: what they hold, and whose they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.errors import (
    InvalidPageTokenError,
    InvalidResumeTokenError,
    ResumeTokenAheadError,
    ResumeTokenForeignError,
)
from backlane.operations.operation import State
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.tokens import ResumeToken, page_cursor, page_token

MINE = Selection(kinds=frozenset({"backtest.run"}))


def test_a_resume_token_comes_back_as_it_was() -> None:
    token = ResumeToken.at("registry", 42, MINE)
    assert ResumeToken.parse(str(token)) == token
    token.check("registry", 42, MINE)


def test_a_resume_token_is_refused_where_it_does_not_belong() -> None:
    token = ResumeToken.at("registry", 42, MINE)
    with pytest.raises(ResumeTokenForeignError):
        token.check("another", 42, MINE)
    with pytest.raises(ResumeTokenAheadError):
        token.check("registry", 41, MINE)
    with pytest.raises(InvalidResumeTokenError):
        token.check("registry", 42, Selection())
    with pytest.raises(InvalidResumeTokenError):
        ResumeToken.parse(page_token(42, MINE, ListOrder.NEWEST_FIRST))


@given(st.text(max_size=600))
def test_no_text_but_a_token_is_taken_for_one(text: str) -> None:
    with pytest.raises(InvalidResumeTokenError):
        ResumeToken.parse(text)


@pytest.mark.parametrize("fields", ['{"v":2,"uid":"r","revision":1,"filter":""}', '{"v":1}', "[]"])
def test_json_that_is_no_token_is_refused(fields: str) -> None:
    import base64

    with pytest.raises(InvalidResumeTokenError):
        ResumeToken.parse(base64.urlsafe_b64encode(fields.encode()).decode())


@pytest.mark.parametrize("order", list(ListOrder))
def test_a_page_token_belongs_to_its_filter_and_order(order: ListOrder) -> None:
    token = page_token(17, MINE, order)
    (other,) = set(ListOrder) - {order}
    assert page_cursor(token, MINE, order) == 17
    assert page_cursor("", MINE, order) is None
    refused = (
        (token, Selection(), order),
        (token, MINE, other),
        (token[:-2], MINE, order),
        ("?", MINE, order),
        (str(ResumeToken.at("registry", 17, MINE)), MINE, order),
    )
    for text, selection, asked in refused:
        with pytest.raises(InvalidPageTokenError):
            page_cursor(text, selection, asked)


def test_a_selection_is_the_same_in_whatever_order() -> None:
    left = Selection(states=frozenset({State.QUEUED, State.RUNNING}), labels={"a": "1", "b": "2"})
    right = Selection(states=frozenset({State.RUNNING, State.QUEUED}), labels={"b": "2", "a": "1"})
    assert left.digest() == right.digest()
    assert left.digest() != Selection(labels={"a": "1", "b": "2"}).digest()
