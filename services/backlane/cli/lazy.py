"""Sub-commands that are imported only when they are called, so that `--help` answers at once."""

from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup

_COMPLETION_OPTIONS = ("install_completion", "show_completion")


class LazyCommand(NamedTuple):
    """A command's module, which has a typer app called `app`, and its line in the help."""

    module: str
    help: str


class LazyGroup(TyperGroup):
    """A group whose commands stand in `lazy_commands`; a subclass names them."""

    lazy_commands: ClassVar[dict[str, LazyCommand]] = {}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command as any group does, and loads it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.lazy_commands:
            command = _load(self.lazy_commands[name])
            command.name = name
        return name, command, rest


def _load(lazy: LazyCommand) -> Any:
    command = typer.main.get_command(import_module(lazy.module).app)
    # The options that install shell completion belong to the root alone.
    command.params = [each for each in command.params if each.name not in _COMPLETION_OPTIONS]
    return command


def add_lazy_commands(app: typer.Typer, commands: dict[str, LazyCommand]) -> None:
    """Adds a line in the help, and a name to suggest, for each command that is not loaded yet."""
    for name, command in commands.items():
        app.command(name, help=command.help)(_not_loaded)


def _not_loaded() -> None:
    """Stands in the list of commands; LazyGroup puts the real one in its place."""
