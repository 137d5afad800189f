from pathlib import Path

from backlane.sources.home import home_dir


def test_the_home_is_the_variable_or_the_default():
    assert home_dir({"BACKLANE_HOME": "/srv/backlane"}) == Path("/srv/backlane")
    assert home_dir({}) == Path.home() / ".local/share/backlane"
    assert home_dir({"BACKLANE_HOME": ""}) == Path.home() / ".local/share/backlane"


def test_the_home_is_absolute():
    assert home_dir({"BACKLANE_HOME": "~/x"}) == Path.home() / "x"
    assert home_dir({"BACKLANE_HOME": "demo-home"}) == Path.cwd() / "demo-home"
