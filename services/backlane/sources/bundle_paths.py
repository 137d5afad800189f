"""Where bundles lie: root/{model}/{version}/, found without ever leaving the root."""

from pathlib import Path

from backlane.errors import InvalidRequestError, ModelNotFoundError, PathEscapesRootError
from backlane.inference.model_name import ModelName, check_part, version_number

# Bundles of one root; a folder with more is surely the wrong folder.
BUNDLE_COUNT_MAX = 10_000
_SHOWN_COUNT = 20


def list_bundles(root: Path) -> list[ModelName]:
    """Every bundle under `root`, by model, then version: numbered ones by number, then the others.

    Links are aliases (`1h_latest`) and not listed. A folder whose name no request could spell is
    passed over. Raises InvalidRequestError beyond BUNDLE_COUNT_MAX.
    """
    found = [
        ModelName(model.name, version.name)
        for model in _folders(root)
        for version in sorted(_folders(model), key=_version_order)
    ]
    if len(found) > BUNDLE_COUNT_MAX:
        raise InvalidRequestError(
            f"{root} holds {len(found)} bundles, at most {BUNDLE_COUNT_MAX} are served "
            "(BUNDLE_COUNT_MAX); is it the models folder?",
            metadata={"count": str(len(found)), "limit": str(BUNDLE_COUNT_MAX)},
        )
    return found


def resolve_bundle(root: Path, name: ModelName) -> Path:
    """The folder of a bundle: root/{model}/{version}, links inside the root followed.

    Without a version it is the newest: the highest N of the versions called `N` or `*_vN`.

    Raises ModelNotFoundError, listing what is there, and PathEscapesRootError for a name or a link
    that leads out of `root`.
    """
    check_part(name.model)
    version = check_part(name.version) if name.version else newest_version(root, name.model)
    folder = root / name.model / version
    inside_root(root, folder)
    if not folder.is_dir():
        raise _not_found(root, name)
    return folder


def newest_version(root: Path, model: str) -> str:
    """The version with the highest number.

    Raises ModelNotFoundError when none has a number, or two have the highest.
    """
    folder = root / model
    inside_root(root, folder)
    if not folder.is_dir():
        raise _not_found(root, ModelName(model))
    numbered = [
        (number, version.name)
        for version in _folders(folder)
        if (number := version_number(version.name)) is not None
    ]
    if not numbered:
        raise _not_found(root, ModelName(model))
    highest = max(number for number, _ in numbered)
    newest = sorted(version for number, version in numbered if number == highest)
    if len(newest) > 1:
        raise ModelNotFoundError(
            f"models/{model} has several newest versions: {', '.join(newest)}. Name one, as in "
            f"models/{model}/versions/{newest[0]}.",
            metadata={"name": f"models/{model}", "newest": ", ".join(newest)},
        )
    return newest[0]


def inside_root(root: Path, path: Path) -> Path:
    """Returns where `path` really is, links followed.

    Raises PathEscapesRootError when that is outside `root`.
    """
    try:
        resolved = path.resolve()
    except (RuntimeError, OSError) as error:  # Python before 3.13 calls a loop a RuntimeError
        raise PathEscapesRootError(
            f"{path.name!r} is a link that leads nowhere but round in a circle; put the files "
            "themselves there.",
            metadata={"name": path.name},
        ) from error
    if resolved.is_symlink() or not resolved.is_relative_to(root.resolve()):
        raise PathEscapesRootError(
            f"{path.name!r} is a link that leads out of the folder of the models; put the files "
            "themselves there.",
            metadata={"name": path.name},
        )
    return resolved


def _not_found(root: Path, name: ModelName) -> ModelNotFoundError:
    there = [str(found) for found in list_bundles(root)]
    same_model = [found for found in there if found.startswith(f"models/{name.model}/")]
    known = same_model or there
    shown = ", ".join(known[:_SHOWN_COUNT]) or "none"
    more = f" and {len(known) - _SHOWN_COUNT} more" if len(known) > _SHOWN_COUNT else ""
    return ModelNotFoundError(
        f"There is no {name} here. Known: {shown}{more}.",
        metadata={"name": str(name), "known": f"{shown}{more}"},
    )


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(
        entry
        for entry in parent.iterdir()
        if entry.is_dir() and not entry.is_symlink() and _is_name(entry.name)
    )


def _is_name(name: str) -> bool:
    try:
        check_part(name)
    except (InvalidRequestError, PathEscapesRootError):
        return False
    return True


def _version_order(version: Path) -> tuple[bool, int, str]:
    number = version_number(version.name)
    return (number is None, number or 0, version.name)
