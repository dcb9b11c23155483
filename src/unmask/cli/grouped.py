"""Commands: ``-v`` and ``-q`` for all, and options under headings for those with many."""

from __future__ import annotations

from typing import Any

import click

from unmask.cli import libraries, printing
from unmask.sampling.samplers.registry import OPTIONS

HELP_ALL = "unmask.help_all"
"""The key in the ``meta`` of a context that makes a command show all options."""
MOST_USED = (
    *("models", "model", "length", "num_samples", "seed", "sampler", "steps", "temperature"),
    *("top_p", "matching", "as_json"),
)
SHORT = {
    "Most used": MOST_USED,
    "Files": ("data", "field", "out", "resume", "overwrite"),
    "Output": ("gif", "html", "frames", "no_animate"),
    "Images": ("mask", "colorize", "upscale", "grid_file"),
}
"""Names of parameters by the heading of their group, shown by ``--help``."""
_FILTERS = ("top_k", "min_p", "top_p_crossing", "repetition_penalty", "ban", "unban")
_REST = {
    "Text": (*("source", "candidates", "choose_length", "top", "stop_at_end", "window", "stride"),),
    # What nobody has put elsewhere, so that an option of one sampler is declared there alone.
    "Sampler": tuple(name for name in OPTIONS if name not in (*MOST_USED, *_FILTERS)),
    "Filters": _FILTERS,
    "Guidance": ("guidance_scale", "classifier", "label", "classifier_scale", "classifier_top_k"),
    "Speed": ("backend", "device", "cache"),
}
GROUPS = SHORT | _REST
"""All groups, shown by ``--help-all``; what is in none comes last."""


def _set_verbosity(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        if printing.is_quiet() or printing.is_verbose():
            raise click.UsageError("-v and -q contradict each other; leave one out", context)
        verbose = option.name == "verbose"
        printing.set_verbosity(1 if verbose else -1)
        if verbose:
            libraries.loud()


def _show_all(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        context.meta[HELP_ALL] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


def _own(*names: str, **about: Any) -> click.Option:
    """Return a flag that the function of a command does not see."""
    return click.Option(names, is_flag=True, is_eager=True, expose_value=False, **about)


_VERBOSITY = (
    _own("-v", "--verbose", callback=_set_verbosity, help="Show timings and notes of libraries."),
    _own("-q", "--quiet", callback=_set_verbosity, help="Show nothing but results and errors."),
)
_HELP_ALL_OPTION = _own("--help-all", callback=_show_all, help="Show all options and exit.")


class Command(click.Command):
    """A command with ``-v`` and ``-q``."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, those that all commands have last."""
        own = super().get_params(ctx)
        return [*self.params, *_VERBOSITY, *(p for p in own if p not in self.params)]


class GroupedCommand(Command):
    """A command with its options in ``GROUPS``; ``--help`` shows the most used ones."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, those that all commands have last."""
        return [*super().get_params(ctx), _HELP_ALL_OPTION]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the formatter, one section per group."""
        options = {p.name: p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        rest = tuple(name for name in options if not any(name in own for own in GROUPS.values()))
        groups = GROUPS if ctx.meta.get(HELP_ALL) else SHORT
        for heading, names in (groups | {"Other": rest}).items():
            known = [options[name].get_help_record(ctx) for name in names if name in options]
            if records := [record for record in known if record is not None]:
                with formatter.section(heading):
                    formatter.write_dl(records)
