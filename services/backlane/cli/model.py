"""`backlane model …`: which bundles there are, what is in one, and whether it is sound."""

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.options import Home, Json, ModelsAddress, ModelsDir
from backlane.cli.output import print_json, print_table, say
from backlane.cli.places import addresses_of, home_of, models_dir_of
from backlane.cli.request_options import parse_model

if TYPE_CHECKING:
    from backlane.inference.model_info import ModelEntry, ModelInfo

app = typer.Typer(name="model", help="List, show and verify model bundles.", no_args_is_help=True)

Local = Annotated[
    bool, typer.Option("--local", help="Read the models folder, without any service.")
]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="NAME, or NAME/VERSION.")]


@app.command("list")
def list_models(
    as_json: Json = False,
    local: Local = False,
    home: Home = None,
    models_dir: ModelsDir = None,
    models_address: ModelsAddress = None,
) -> None:
    """List every bundle that model_service has."""
    if local:
        entries = _local_entries(models_dir_of(models_dir, home_of(home)))
    else:
        entries = _served_entries(home, models_address)
    if as_json:
        print_json({"models": [_entry_document(entry) for entry in entries]})
        return
    if not entries:
        say("There are no bundles. A bundle is a folder MODEL/VERSION in the models folder.")
        return
    print_table(
        ("model", "state", "network", "head", "timeframes", "features", "digest"),
        [_entry_row(entry) for entry in entries],
        right=("features",),
    )
    for entry in entries:
        if entry.reason:
            say(f"{entry.name} cannot be used: {entry.reason.splitlines()[0]}")


@app.command("show")
def show(
    name: Name,
    as_json: Json = False,
    local: Local = False,
    home: Home = None,
    models_dir: ModelsDir = None,
    models_address: ModelsAddress = None,
) -> None:
    """Show one bundle: its features in order, its strategy and its decisions."""
    choice = parse_model(name, is_local=local)
    if local:
        from backlane.sources.bundle import read_bundle_info

        info = read_bundle_info(_folder(choice, models_dir, home))
    else:
        from backlane.client.models import ModelsClient

        _refuse_folder(choice, name)
        with ModelsClient(addresses_of(home, models=models_address).models) as client:
            info = client.get(_resource_name(choice))
    if as_json:
        print_json(_info_document(info))
        return
    _print_info(info)


@app.command("verify")
def verify(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, or NAME/VERSION in the models folder.")
    ],
    as_json: Json = False,
    home: Home = None,
    models_dir: ModelsDir = None,
) -> None:
    """Read a bundle's files here, load it, and predict with it once.

    Ends with exit code 1 and the reason when the bundle is not sound.
    """
    from backlane.sources.bundle import verify_bundle

    report = verify_bundle(_folder(parse_model(name, is_local=True), models_dir, home))
    if as_json:
        files = [asdict(file) for file in report.files]
        print_json(
            {
                **_info_document(report.info),
                "files": files,
                "parameter_count": report.parameter_count,
                "probe_outputs": list(report.probe_outputs),
            }
        )
        return
    say(f"{report.info.name} is sound: {report.parameter_count:,} parameters.")
    print_table(
        ("file", "bytes", "sha256"),
        [(file.name, f"{file.size_bytes:,}", file.sha256) for file in report.files],
        right=("bytes",),
    )
    say(f"digest  {report.info.digest}")


def _served_entries(home: Path | None, address: str | None) -> "list[ModelEntry]":
    from backlane.client.models import ModelsClient

    with ModelsClient(addresses_of(home, models=address).models) as client:
        return list(client.list())


def _local_entries(root: Path) -> "list[ModelEntry]":
    from backlane.errors import BacklaneError
    from backlane.inference.model_info import ModelEntry, ModelState
    from backlane.sources.bundle import read_bundle_info
    from backlane.sources.bundle_paths import list_bundles

    entries = []
    for name in list_bundles(root):
        try:
            info = read_bundle_info(root / name.model / name.version, root=root)
        except BacklaneError as error:
            entries.append(ModelEntry(str(name), ModelState.FAILED, reason=error.message))
        else:
            entries.append(ModelEntry(info.name, ModelState.UNLOADED, info))
    return entries


def _folder(choice: dict[str, str], models_dir: Path | None, home: Path | None) -> Path:
    from backlane.inference.model_name import ModelName
    from backlane.sources.bundle_paths import resolve_bundle

    if "path" in choice:
        return Path(choice["path"])
    root = models_dir_of(models_dir, home_of(home))
    return resolve_bundle(root, ModelName.parse(_resource_name(choice), field="model"))


def _resource_name(choice: dict[str, str]) -> str:
    version = choice.get("version")
    return f"models/{choice['name']}" + (f"/versions/{version}" if version else "")


def _refuse_folder(choice: dict[str, str], name: str) -> None:
    if "path" in choice:
        raise typer.BadParameter(
            f"{name!r} is a folder; the service knows models by name. Add --local to read it here."
        )


def _entry_row(entry: "ModelEntry") -> tuple[str, ...]:
    name = entry.name.removeprefix("models/").replace("/versions/", "/")
    state = str(entry.state.value).lower()
    info = entry.info
    if info is None:
        return name, state, "", "", "", "", ""
    return (
        name,
        state,
        info.architecture,
        info.head.value,
        ", ".join(info.strategy.timeframes),
        str(len(info.features)),
        info.digest[: len("sha256:") + 12],
    )


def _entry_document(entry: "ModelEntry") -> dict[str, Any]:
    about = {"name": entry.name, "state": str(entry.state.value).lower(), "reason": entry.reason}
    return about if entry.info is None else {**_info_document(entry.info), **about}


def _info_document(info: "ModelInfo") -> dict[str, Any]:
    return {"name": info.name, **_plain(asdict(info))}


def _plain(value: Any) -> Any:
    """Turns what a dataclass holds into what JSON knows."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _print_info(info: "ModelInfo") -> None:
    strategy, decisions = info.strategy, info.decisions
    say(info.name)
    say(f"  digest      {info.digest}")
    say(f"  network     {info.architecture}, {info.head.value}")
    if info.sequence_length > 1:
        say(f"  window      {info.sequence_length} bars")
    say(f"  timeframes  {', '.join(strategy.timeframes)} (the first is simulated)")
    say(f"  strategy    {strategy.name} {strategy.version}".rstrip())
    for indicator in strategy.indicators:
        parameters = ", ".join(f"{key} {value}" for key, value in indicator.parameters.items())
        say(f"  indicator   {indicator.id}: {indicator.type}({parameters})")
    for name, value in asdict(decisions).items():
        if value is not None:
            say(f"  decisions   {name} {value}")
    say(f"  features    {len(info.features)}, in this order:")
    for number, feature in enumerate(info.features, start=1):
        say(f"    {number:3}  {feature}")
