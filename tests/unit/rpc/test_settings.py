"""Settings of a server, and what a process says when they are wrong."""

import pytest
from pydantic import ValidationError

from backlane.rpc.addresses import is_local, join_address
from backlane.rpc.exit_codes import ExitCode
from backlane.rpc.settings import ServerSettings
from tests.unit.rpc import sample_service


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_permission(host: str):
    assert ServerSettings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "models.example.com", ""])
def test_a_bind_beyond_loopback_is_refused_unless_allowed(host: str):
    with pytest.raises(ValidationError, match="allow_insecure_bind"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, allow_insecure_bind=True).host == host


def test_every_setting_says_what_it_is():
    for name, field in ServerSettings.model_fields.items():
        assert len((field.description or "").split()) >= 4, name


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        ServerSettings().port = 1


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:7410", True),
        ("[::1]:7410", True),
        ("localhost:1", True),
        ("unix:/run/backlane.sock", True),
        ("models:7411", False),
        ("10.0.0.7:7411", False),
    ],
)
def test_local_addresses_are_told_from_others(address: str, local: bool):
    assert is_local(address) is local


def test_an_ipv6_host_gets_brackets():
    assert join_address("::1", 7410) == "[::1]:7410"
    assert join_address("127.0.0.1", 7410) == "127.0.0.1:7410"


def test_a_wrong_setting_is_named_as_the_environment_names_it(monkeypatch, capsys):
    monkeypatch.setenv("SAMPLE_PORT", "70000")
    monkeypatch.setenv("SAMPLE_DRAIN_GRACE_S", "soon")
    assert sample_service.main([]) == ExitCode.SETTINGS == 64
    said = capsys.readouterr().err
    assert "SAMPLE_PORT=70000: Input should be less than or equal to 65535" in said
    assert "SAMPLE_DRAIN_GRACE_S=soon" in said
    assert "Traceback" not in said


def test_a_refused_bind_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("SAMPLE_HOST", "0.0.0.0")
    assert sample_service.main([]) == ExitCode.SETTINGS
    said = capsys.readouterr().err
    assert "0.0.0.0" in said
    assert "allow_insecure_bind=true" in said


def test_help_lists_every_setting_and_exit_code(capsys):
    assert sample_service.main(["--help"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert all(f"SAMPLE_{name.upper()}" in said for name in ServerSettings.model_fields)
    assert all(code.help in said for code in ExitCode)


def test_an_unknown_argument_is_refused(capsys):
    assert sample_service.main(["--prot", "1"]) == ExitCode.SETTINGS
    assert "SAMPLE_PORT" in capsys.readouterr().err
