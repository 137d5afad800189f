"""Who calls."""

import pytest

from backlane.rpc.callers import CLIENT_CHARACTERS_MAX, CLIENT_KEY, caller, client_name


class Call:
    """What a servicer is handed, as far as it is asked here."""

    def __init__(self, peer: str, *metadata: tuple[str, str | bytes]) -> None:
        self._peer = peer
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def peer(self) -> str:
        return self._peer


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call("ipv4:127.0.0.1:50000", (CLIENT_KEY, "me@here")), "me@here"),
        (Call("ipv4:127.0.0.1:50000"), "127.0.0.1"),
        (Call("ipv4:10.1.2.3:9", ("user-agent", "x"), (CLIENT_KEY, "  ")), "10.1.2.3"),
        (Call("ipv6:%5B::1%5D:50000"), "::1"),
        (Call("ipv6:[fe80::1]:7"), "fe80::1"),
        (Call("unix:"), "unix"),
        (Call("ipv4:10.1.2.3:9", (CLIENT_KEY, b"\xff")), "10.1.2.3"),
    ],
)
def test_a_caller_has_the_name_that_it_gives_or_that_of_its_host(call: Call, name: str):
    assert caller(call) == name


def test_a_name_is_what_metadata_can_carry():
    assert client_name("jérôme\n@höst") == "j?r?me?@h?st"
    assert len(client_name("x" * 1_000)) == CLIENT_CHARACTERS_MAX
