"""Options of the command line from the dataclasses that declare them.

A field made by ``validation.option`` becomes ``--its-name`` with its type, choices, default and
help text. Its declaration reads the value, so that a mistake is the same sentence as in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from unmask.sampling.samplers.registry import OPTIONS, SAMPLERS, takers
from unmask.validation import Option, Options, flag, one_of, real, whole

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]
FLAGS = {"grid": "--grid-times"}
"""What options of samplers are called on the command line; ``--grid`` is a picture."""
MANY = 10
"""Samplers; if more take an option, those that do not are listed."""


class Choice(click.Choice[str]):
    """A choice whose refusal names the nearest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the choice, or raise a UserError."""
        return one_of(str("value" if param is None else param.name), value, self.choices)


class Declared(click.ParamType):  # type: ignore[type-arg]
    """The value of a declared option.

    Args:
        known: The declaration.
    """

    def __init__(self, known: Option) -> None:
        types: dict[Any, click.types.ParamType[Any]] = {whole: click.INT, real: click.FLOAT}
        self.known, self._plain = known, types.get(known.read, click.STRING)
        self.name = self._plain.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as the declaration reads it, or raise a UserError."""
        name = "value" if param is None else param.opts[0]
        value = self.known(name, self._plain.convert(value, param, ctx))
        # An option that may be repeated is read as a list; click collects the parts.
        return value[0] if self.known.repeated else value


def declared(
    options: type[Options],
    names: Iterable[str] | None = None,
    flags: dict[str, str] | None = None,
) -> Decorator[Any]:
    """Return a decorator that adds options to a command.

    Args:
        options: The class that declares them.
        names: Which of them; None for all.
        flags: What some of them are called on the command line.
    """
    known, plain = options.options(), options.defaults()
    chosen = tuple(known if names is None else names)
    made = [
        _made(name, known[name], known[name].help, plain[name], (flags or {}).get(name))
        for name in chosen
    ]
    return together(*made)


def sampler_options() -> Decorator[Any]:
    """Return a decorator that adds ``--sampler`` and the options of all samplers to a command."""
    names = click.option(
        "--sampler",
        type=Choice(tuple(SAMPLERS)),
        default=None,
        metavar="NAME",
        help=f"How the text is generated: {', '.join(SAMPLERS)}. The model's own if left out, as "
        "are options that are left out.",
    )
    made = [
        _made(name, known, _sampler_help(name, known), called=FLAGS.get(name))
        for name, known in OPTIONS.items()
    ]
    return together(names, *made)


def together(*options: Decorator[Any]) -> Decorator[Any]:
    """Return a decorator that adds several options in order."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _made(
    name: str, known: Option, text: str, default: Any = None, called: str | None = None
) -> Decorator[Any]:
    """Return a decorator that adds one option."""
    words = (called or f"--{name.replace('_', '-')}", name)
    if known.read is flag:
        return click.option(*words, is_flag=True, help=text)
    kind = Choice(known.choices) if known.choices else Declared(known)
    if known.repeated:
        return click.option(
            *words,
            type=kind,
            multiple=True,
            metavar=known.metavar,
            callback=_collected,
            help=f"{text} May be repeated.",
        )
    shown = default is not None
    return click.option(
        *words, type=kind, default=default, show_default=shown, metavar=known.metavar, help=text
    )


def _collected(
    context: click.Context, option: click.Parameter, values: Sequence[str]
) -> tuple[str, ...] | None:
    return tuple(values) or None


def _sampler_help(name: str, known: Option) -> str:
    """Return the help text with the samplers that take an option, and their defaults if few do."""
    own = takers(name)
    if len(own) == len(SAMPLERS):
        return known.help
    if len(own) > MANY:
        others = ", ".join(name for name in SAMPLERS if name not in own)
        return f"{known.help} (all samplers but {others})"
    defaults = {taker: SAMPLERS[taker].defaults()[name] for taker in own}
    if len({*defaults.values()}) > 1:
        own = [f"{taker} [{value}]" for taker, value in defaults.items()]
    common = {*defaults.values()} - {None}
    default = f"; default: {common.pop()}" if len({*defaults.values()}) == 1 and common else ""
    return f"{known.help} (samplers: {', '.join(own)}{default})"
