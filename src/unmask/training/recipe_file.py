"""Recipes as TOML files: one per published method, in ``recipes`` next to this file.

The path of a user's own file works as well as the name of a recipe. With ``extends = "tiny"`` a
recipe holds only what differs from another one.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from unmask.errors import UserError, did_you_mean, is_unicode
from unmask.training.recipe import Recipe
from unmask.validation import Options

Section = TypeVar("Section", bound=Options)

_FRESH = ("model.config", "tokenizer")
_FRESH_KEYS = tuple(f"{section}." for section in _FRESH)


def names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("unmask.training") / "recipes"
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )


def summary(name: str) -> str:
    """Return the summary of the recipe of that name, without checking the rest of it."""
    return str(_parse(name).get("summary", ""))


def load(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Load a recipe by name or path and apply ``section.key=value`` settings.

    Raises:
        UserError: If there is no such recipe, a key is unknown or a value has the wrong type.
    """
    if isinstance(settings, str):
        raise UserError(f"settings are a list of section.key=value, not {settings!r}")
    content = _read(name)
    content["name"] = content.get("name", Path(name).stem)
    for setting in settings:
        _apply(content, setting)
    return _build(Recipe, content)


def check_settings(settings: Sequence[str], model: str | None) -> None:
    """Refuse settings that describe a model to start from, if another one is named.

    Raises:
        UserError: If a model is named and a setting changes its name, its shape or its tokenizer.
    """
    for setting in settings if model is not None else ():
        key = setting.partition("=")[0].strip()
        if key in ("model.name", "model.type", *_FRESH) or key.startswith(_FRESH_KEYS):
            raise UserError(
                f"{key} would have no effect on {model}, which has its own; leave out "
                f"--set {key}, or --model"
            )


def _read(name: str, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the content of a recipe on top of those that it extends."""
    if name in heirs:
        raise UserError(f"recipe {name} extends itself")
    content = _parse(name)
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise UserError(f"'extends' must be the name of a recipe, not {base!r}")
    inherited = _read(base, (*heirs, name))
    for key in ("name", "summary", "sampler"):
        # The name of a recipe and the sampler of its model are its own.
        inherited.pop(key, None)
    schedule = content.get("schedule")
    if isinstance(schedule, dict) and "name" in schedule:
        # The parameters of one schedule do not fit another.
        inherited.pop("schedule", None)
    return _merged(inherited, content)


def _merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value)
        for key, value in top.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | top | both


def _parse(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise UserError(f"there is no recipe file {name}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the recipe {name}: {error}") from error
    elif name in names():
        text = (resources.files("unmask.training") / "recipes" / f"{name}.toml").read_text("utf-8")
    else:
        raise UserError(f"unknown recipe {name!r}{did_you_mean(name, names())}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {name} is not valid TOML: {error}") from error


def _apply(content: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise UserError(f"a setting reads section.key=value, not {setting!r}")
    if "\n" in setting or not is_unicode(setting):
        raise UserError(f"a setting is one line of text, not {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise UserError(f"{setting!r}: {section} is not a section")
    content[last] = value


def _build(cls: type[Section], content: dict[str, Any], where: str = "") -> Section:
    """Return the recipe, or a section of it, that a table describes."""
    kinds, known = typing.get_type_hints(cls), {f.name for f in fields(cls)}
    values = {}
    for key, value in content.items():
        if key not in known:
            raise UserError(f"unknown key {where + key!r} in the recipe{did_you_mean(key, known)}")
        if isinstance(kinds[key], type) and issubclass(kinds[key], Options):
            if not isinstance(value, dict):
                raise UserError(f"{where + key!r} is a section of the recipe, not a value")
            value = _build(kinds[key], value, f"{where}{key}.")
        values[key] = value
    return cls(**values)
