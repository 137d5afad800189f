"""What holds for every test: no home of the user's, no settings from outside, no chance."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("backlane", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("backlane")


@pytest.fixture(scope="session", autouse=True)
def _sealed_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the settings of whoever runs the tests out, and their home directory untouched."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith("BACKLANE_") or name.lower() in {"http_proxy", "grpc_proxy"}:
                patch.delenv(name)
        patch.setenv("BACKLANE_HOME", str(tmp_path_factory.mktemp("backlane-home")))
        patch.setenv("NO_COLOR", "1")
        yield
