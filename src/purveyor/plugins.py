"""Roles and event transports of other packages, found by their entry points."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.kit.role import Role, by_name
from purveyor.settings import Settings
from purveyor.transports import Transport

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

CONTRACT_VERSION = 1
"""Version of what another package may rely on, listed in CONTRIBUTING.md, "A role in a package of its own".

It rises with each addition to that and with each change of it. A package declares the version that it was written
for, as ``contract_version`` of its ``Role`` or ``Transport``.
"""
OLDEST_CONTRACT_VERSION = 1
"""The oldest version that still works. It rises when a change breaks packages that were written before."""

ROLES_GROUP = "purveyor.roles"
TRANSPORTS_GROUP = "purveyor.transports"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
"""Names of roles are also those of PostgreSQL schemas, and with transports begin the names of settings."""

T = TypeVar("T", Role[Any], Transport[Any])
_Owners = dict[str, type[msgspec.Struct] | str]
"""The origin of each setting: the struct that introduces it, or the role whose address or database it names."""


class _Unusable(Exception):
    """The reason why an entry point cannot be used."""


def with_installed(
    roles: Sequence[Role[Any]], transports: Sequence[Transport[Any]]
) -> tuple[Sequence[Role[Any]], Sequence[Transport[Any]]]:
    """Add the roles and transports of installed packages to the built-in ones.

    Raises ``ConfigError`` that names the package and the entry point of one that cannot be used.
    """
    if not _are_declared():
        return roles, transports
    from importlib import metadata

    found = metadata.entry_points()
    all_roles, all_transports = list(roles), list(transports)
    points = found.select(group=TRANSPORTS_GROUP)
    _add(points, Transport, all_transports, lambda new: _check_transport(new, all_roles, all_transports))
    points = found.select(group=ROLES_GROUP)
    _add(points, Role, all_roles, lambda new: _check_role(new, all_roles, all_transports))
    return all_roles, all_transports


def _add(points: Iterable["EntryPoint"], kind: type[T], known: list[T], check: Callable[[T], None]) -> None:
    """Load what the entry points name and add it to ``known``. Each is checked against those before it."""
    for point in points:
        try:
            loaded = _load(point, kind)
            check(loaded)
        except _Unusable as reason:
            _refuse(point, reason)
        known.append(loaded)


def _are_declared() -> bool:
    """Return whether an installed package may declare any. The import of ``importlib.metadata`` takes 20 ms."""
    return any(map(_holds_declarations, map(Path, sys.path)))


def _holds_declarations(folder: Path) -> bool:
    with suppress(OSError):  # like the interpreter, pass over what cannot be read
        if folder.is_file():  # a zip archive, which only importlib.metadata reads
            return True
        names = os.listdir(folder) if folder.is_dir() else []
        return any(_declares(folder / name) for name in names if name.endswith("-info"))
    return False


def _declares(info: Path) -> bool:
    with suppress(OSError):
        return b"[purveyor." in (info / "entry_points.txt").read_bytes()
    return False


def _refuse(point: "EntryPoint", reason: _Unusable) -> NoReturn:
    raise ConfigError(
        f"Package {_origin(point)}, entry point {point.name!r} of {point.group}: {reason}. "
        "Update or uninstall the package."
    ) from reason


def _origin(point: "EntryPoint") -> str:
    """The name and the version of the package."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"


def _load(point: "EntryPoint", kind: type[T]) -> T:
    try:
        loaded = point.load()
    except Exception as error:
        raise _Unusable(f"cannot be imported ({type(error).__name__}: {error})") from error
    if not isinstance(loaded, kind):
        raise _Unusable(f"{point.value} is a {type(loaded).__name__}, not a {kind.__name__}")
    if loaded.contract_version not in range(OLDEST_CONTRACT_VERSION, CONTRACT_VERSION + 1):
        raise _Unusable(_misfit(loaded.contract_version))
    if not _NAME.fullmatch(str(loaded.name)):
        raise _Unusable(f"the name {loaded.name!r} must be lowercase letters, digits and underscores")
    if not (isinstance(loaded.settings, type) and issubclass(loaded.settings, msgspec.Struct)):
        raise _Unusable(f"the settings of {loaded.name!r} are not a msgspec.Struct")
    if required := [field.name.upper() for field in msgspec.structs.fields(loaded.settings) if field.required]:
        raise _Unusable(f"setting {required[0]} has no default")
    return replace(loaded, origin=_origin(point))


def _misfit(version: int) -> str:
    supported = f"this release supports {OLDEST_CONTRACT_VERSION} to {CONTRACT_VERSION}"
    if not version:
        return f"declares no contract_version ({supported})"
    return f"contract version {version} is too {'old' if version < CONTRACT_VERSION else 'new'} ({supported})"


def _check_transport(
    transport: Transport[Any], roles: Sequence[Role[Any]], transports: Sequence[Transport[Any]]
) -> None:
    if transport.name in {each.name for each in transports}:
        raise _Unusable(f"there is already a transport {transport.name!r}")
    if not transport.schemes or transport.setting.lower() not in transport.settings.__struct_fields__:
        raise _Unusable(f"needs URL schemes and the setting {transport.setting}")
    if transport.schema and transport.schema.name in _schemas(roles, transports):
        raise _Unusable(f"the PostgreSQL schema {transport.schema.name!r} is taken")
    _check_settings(_owners([], [transport]), _owners(roles, transports))


def _check_role(role: Role[Any], roles: Sequence[Role[Any]], transports: Sequence[Transport[Any]]) -> None:
    if role.name in {each.name for each in roles}:
        raise _Unusable(f"there is already a role {role.name!r}")
    if role.name in _schemas(roles, transports):
        raise _Unusable(f"the PostgreSQL schema {role.name!r} is taken")
    _check_settings(_owners([role], []), _owners(roles, transports))
    queues = {queue.name: each.name for each in roles for queue in each.queues()}
    if taken := [name for name in role.consumes.values() if name in queues]:
        raise _Unusable(f"the queue {taken[0]!r} belongs to role {queues[taken[0]]}")
    try:
        by_name(*roles, role)
    except ValueError as error:
        raise _Unusable(str(error)) from error


def _schemas(roles: Sequence[Role[Any]], transports: Sequence[Transport[Any]]) -> set[str]:
    return {role.name for role in roles} | {each.schema.name for each in transports if each.schema}


def _check_settings(own: _Owners, others: _Owners) -> None:
    for name, owner in own.items():
        if others.get(name, owner) != owner:
            raise _Unusable(f"setting {name} is already declared by {_label(others[name])}")


def _label(owner: type[msgspec.Struct] | str) -> str:
    return owner if isinstance(owner, str) else f"{owner.__module__}.{owner.__name__}"


def _owners(roles: Sequence[Role[Any]], transports: Sequence[Transport[Any]]) -> _Owners:
    owners = dict(_fields(Settings))
    for settings in [each.settings for each in transports] + [each.settings for each in roles]:
        owners.update(_fields(settings))
    for role in roles:
        owners[f"{role.name.upper()}_DATABASE_URL"] = f"role {role.name}"
        owners.update({port.setting: f"role {port.role}" for port in (*role.offers, *role.needs, *role.wants)})
    return owners


def _fields(settings: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct] | str]]:
    """The settings of a struct with the class that introduces each: those of ``ShopDetails`` are shared."""
    kinds = [kind for kind in reversed(settings.__mro__) if issubclass(kind, msgspec.Struct)][1:]
    for name in settings.__struct_fields__:
        yield name.upper(), next(kind for kind in kinds if name in kind.__struct_fields__)
