"""The group `backlane portfolio`: its commands, each in a module of its own."""

from backlane.cli.portfolio import app
from backlane.cli.portfolio_batch import register

register(app)

__all__ = ["app"]
