"""The config of a run: the sections of every floor composed, read from TOML and ``--set``, with its provenance.

`Key.IDENTITY` values decide what a run computes and are frozen once it has begun; `Key.OPERATIONAL` values may change
at every resume. `resolve` says where each value came from; `identity` is what `config_hash` covers.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias, cast

from pydantic import Field, JsonValue, ValidationError
from pydantic.fields import FieldInfo

from storage.config import Key, LedgerConfig, Section
from storage.errors import ConfigError
from tasks.loop import LoopConfig

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class TrackingConfig(Section):
    """Where curves are shown beside the ledger."""

    mlflow: Annotated[bool, Key.OPERATIONAL, Field(description="log every sealed iteration to MLflow as well")] = True
    uri: Annotated[
        str, Key.OPERATIONAL, Field(description="MLflow's tracking URI; empty keeps a local store below the root")
    ] = ""
    experiment: Annotated[str, Key.OPERATIONAL, Field(min_length=1, description="MLflow's experiment")] = "azr"


class LimitsConfig(Section):
    """When a run stops to wait for a person; looked at before each iteration."""

    min_free_gb: Annotated[
        float, Key.OPERATIONAL, Field(ge=0, le=1e6, description="free disk below which the run waits, in GB; 0: never")
    ] = 1.0
    max_tokens: Annotated[
        int, Key.OPERATIONAL, Field(ge=0, description="sampled tokens of the run after which it waits; 0: no limit")
    ] = 0
    max_hours: Annotated[
        float,
        Key.OPERATIONAL,
        Field(ge=0, le=1e6, description="hours that the run's sealed stages took, after which it waits; 0: no limit"),
    ] = 0


class RunConfig(LoopConfig):
    """Everything that decides a run and how it runs."""

    name: Annotated[
        str,
        Key.OPERATIONAL,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="the run's name unless --run gives another"),
    ] = "run"
    iterations: Annotated[int, Key.OPERATIONAL, Field(ge=0, le=1_000_000, description="iterations wanted in all")] = 2
    ledger: LedgerConfig = LedgerConfig()
    limits: LimitsConfig = LimitsConfig()
    tracking: TrackingConfig = TrackingConfig()


class Leaf(NamedTuple):
    """One config key with its value."""

    path: str
    value: Json
    key: Key
    description: str


class Resolved(NamedTuple):
    """A config, and where each of its values came from (key path -> source)."""

    config: RunConfig
    sources: dict[str, str]


def resolve(file: Path | None, settings: Sequence[str] = (), *, base: RunConfig | None = None) -> Resolved:
    """Compose a config from its defaults, a run's stored config, a TOML file and ``a.b=c`` settings; later ones win.

    Raises:
        ConfigError: missing or torn file, unknown key (with the near miss), wrong type or bound.
    """
    values: dict[str, Json] = {}
    sources: dict[str, str] = {}
    if base is not None:
        _merge(values, sources, cast("dict[str, Json]", base.model_dump(mode="json")), "the run")
    if file is not None:
        _merge(values, sources, _read_toml(file), str(file))
    for setting in settings:
        _merge(values, sources, _parse_setting(setting), f"--set {setting}")
    config = validated(values, sources)
    return Resolved(config, {leaf.path: sources.get(leaf.path, "default") for leaf in leaves(config)})


def validated(values: Mapping[str, Json], sources: Mapping[str, str] | None = None) -> RunConfig:
    """A config from plain values; every fault is named in one ConfigError."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        faults = [_fault(dict(fault), sources or {}) for fault in error.errors(include_url=False)]
        raise ConfigError("The config cannot be used. Nothing was started.\n" + "\n".join(faults)) from None


def known_keys(section: type[Section], values: Mapping[str, JsonValue]) -> dict[str, Json]:
    """The values whose keys a section has, at every level."""
    kept: dict[str, Json] = {}
    for name, value in values.items():
        field = section.model_fields.get(name)
        inner = None if field is None else field.annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Section):
            kept[name] = known_keys(inner, value)
        elif field is not None:
            kept[name] = value
    return kept


def leaves(section: Section, prefix: str = "") -> Iterator[Leaf]:
    """Every key of a config in order, sections flattened to dotted paths."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            plain = cast("Json", section.model_dump(mode="json", include={name})[name])
            yield Leaf(f"{prefix}{name}", plain, _key_of(field, f"{prefix}{name}"), field.description or "")


def identity(config: RunConfig) -> dict[str, Json]:
    """The values that decide what a run computes, by key path."""
    return {leaf.path: leaf.value for leaf in leaves(config) if leaf.key is Key.IDENTITY}


def config_hash(config: RunConfig) -> str:
    """Hash of the identity values: equal hashes, equal computation."""
    return identity_hash(identity(config))


def identity_hash(values: Mapping[str, Json]) -> str:
    """Hash of identity values by key path."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def changed_identity(stored: RunConfig, wanted: RunConfig) -> list[str]:
    """The identity keys that differ, one readable line each."""
    old, new = identity(stored), identity(wanted)
    return [f"  {path}: the run has {old[path]!r}, you ask for {new[path]!r}" for path in old if old[path] != new[path]]


def _key_of(field: FieldInfo, path: str) -> Key:
    for mark in field.metadata:
        if isinstance(mark, Key):
            return mark
    raise ConfigError(f"Config key {path} is marked neither identity nor operational.")


def _read_toml(file: Path) -> dict[str, Json]:
    try:
        return cast("dict[str, Json]", tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        near = ", ".join(str(path) for path in sorted(Path("configs").glob("*.toml"))) or "none in ./configs"
        raise ConfigError(f"There is no config file {file}. Config files here: {near}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}. Nothing was started.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Nothing was started.") from None


def _parse_setting(setting: str) -> dict[str, Json]:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {setting!r} is not key=value, as in --set update.learning_rate=1e-4.")
    try:
        value = cast("Json", tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        value = text  # an unquoted word
    for name in reversed(path.strip().split(".")):
        value = {name: value}
    return cast("dict[str, Json]", value)


def _merge(
    values: dict[str, Json], sources: dict[str, str], more: Mapping[str, Json], source: str, at: str = ""
) -> None:
    for name, value in more.items():
        path = f"{at}{name}"
        below = values.get(name)
        if isinstance(value, dict):
            if not isinstance(below, dict):
                below = values[name] = {}
            _merge(below, sources, value, source, f"{path}.")
        else:
            values[name] = value
            sources[path] = source


def _fault(fault: Mapping[str, object], sources: Mapping[str, str]) -> str:
    location = [str(part) for part in cast("tuple[int | str, ...]", fault["loc"])]
    path = ".".join(location)
    given = next((source for key, source in sources.items() if key == path or key.startswith(f"{path}.")), None)
    source = f" (from {given})" if given else ""
    if fault["type"] == "extra_forbidden":
        return f"  {path}: unknown key{source}.{_suggestion(location)}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    shown = f", not {fault['input']!r}" if not isinstance(fault["input"], dict) else ""
    return f"  {path or 'config'}: {message}{shown}{source}"


def _suggestion(location: Sequence[str]) -> str:
    section: type[Section] = RunConfig
    for name in location[:-1]:
        found = section.model_fields[name].annotation
        if not isinstance(found, type) or not issubclass(found, Section):
            return ""
        section = found
    known = list(section.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1)
    if near:
        return f" Did you mean {'.'.join([*location[:-1], near[0]])}?"
    elsewhere = [leaf.path for leaf in leaves(RunConfig()) if leaf.path.rpartition(".")[2] == location[-1]]
    return f" Did you mean {elsewhere[0]}?" if elsewhere else f" Known here: {', '.join(known)}."
