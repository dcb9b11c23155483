"""Write what the pages take from the program: ``docs/cli.md``, and the options of ``samplers.md``.

python docs/make_cli_page.py            write them
python docs/make_cli_page.py --check    exit 1 if a page is not what it would write
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from unmask.cli import VERBS, cli
from unmask.cli.grouped import HELP_ALL
from unmask.pipelines.guidance_options import ControlOptions
from unmask.pipelines.layout_options import LayoutOptions
from unmask.sampling.samplers.registry import OPTIONS, SAMPLERS, takers
from unmask.validation import Option, flag, real, whole, word

PAGE = Path(__file__).with_name("cli.md")
SAMPLERS_PAGE = Path(__file__).with_name("samplers.md")
WIDTH = 96
HEAD = """\
# The command line

Written by `make docs` from the program; do not edit. `unmask VERB --help` shows the options that
are used most, `--help-all` shows what is here.

Text goes to standard output; animation and progress go to standard error, and only to a terminal.
A mistake in what was asked is one sentence on standard error and exit code 2; Ctrl-C is 130.
"""
BEGIN, END = "<!-- Written by make docs from the program. -->\n", "<!-- End of what it wrote. -->\n"
TYPES = {whole: "whole number", real: "number", flag: "flag", word: "text"}


def cli_page() -> str:
    """Return the whole page of the command line."""
    parts = [HEAD, _section("unmask", cli)]
    top = click.Context(cli, info_name="unmask")
    for verb in VERBS:
        command = cli.get_command(top, verb)
        assert command is not None
        parts.append(_section(f"unmask {verb}", command))
        for name, inner in getattr(command, "commands", {}).items():
            parts.append(_section(f"unmask {verb} {name}", inner))
    return "\n".join(parts)


def _section(name: str, command: click.Command) -> str:
    # Width and colours of the terminal that this runs in must not reach the page.
    settings = dict(command.context_settings) | {"terminal_width": WIDTH, "color": False}
    context = click.Context(command, info_name=name, max_content_width=WIDTH, **settings)
    context.meta[HELP_ALL] = True
    return f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def samplers_page() -> str:
    """Return the page of the samplers with the table of options written anew."""
    before, rest = SAMPLERS_PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"


def table() -> str:
    """Return the options of samplers, of layout and of control as a table."""
    lines = ["| option | values | default | effect |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows()]) + "\n"


def _rows() -> Iterator[str]:
    for name, known in OPTIONS.items():
        yield _row(name, known, _values_by_sampler(name), _defaults_by_sampler(name))
    for options in (LayoutOptions, ControlOptions):
        for name, default in options.defaults().items():
            known = options.options()[name]
            yield _row(name, known, _values(known), _shown(default))


def _row(name: str, known: Option, values: str, default: str) -> str:
    return f"| `{name}` | {values} | {default} | {known.help.replace('<', '&lt;')} |"


def _values(known: Option) -> str:
    """Return what an option may be."""
    if known.choices:
        return ", ".join(f"`{choice}`" for choice in known.choices)
    kind = TYPES.get(known.read) if known.metavar is None else known.metavar.replace("|", " or ")
    return " ".join(filter(None, [kind, known.range])) or "text"


def _values_by_sampler(name: str) -> str:
    """Return what an option may be, by sampler where they differ."""
    found: dict[str, list[str]] = {}
    for taker in takers(name):
        found.setdefault(_values(SAMPLERS[taker].options()[name]), []).append(taker)
    return _grouped(found)


def _defaults_by_sampler(name: str) -> str:
    """Return the samplers that take an option, grouped by its default."""
    found: dict[str, list[str]] = {}
    for taker in takers(name):
        found.setdefault(_shown(SAMPLERS[taker].defaults()[name]), []).append(taker)
    return _grouped(found, always=len(takers(name)) < len(SAMPLERS))


def _grouped(found: dict[str, list[str]], always: bool = False) -> str:
    """Return values with the samplers that have each; a value alone if all have the same."""
    if len(found) == 1 and not always:
        return next(iter(found))
    return "; ".join(f"{value}: {_named(names)}" for value, names in found.items())


def _named(samplers: list[str]) -> str:
    """Return the names of samplers; of most of them, the names of the others."""
    others = [f"`{name}`" for name in SAMPLERS if name not in samplers]
    if len(others) < len(samplers) / 2:
        return "all" + (f" but {', '.join(others)}" if others else "")
    return ", ".join(f"`{name}`" for name in samplers)


def _shown(default: Any) -> str:
    return "none" if default is None or default is False or default == () else f"{default}"


def main() -> int:
    """Write or check the pages and return the exit code."""
    if sys.argv[1:] not in ([], ["--check"]):
        print("the only option is --check", file=sys.stderr)
        return 2
    for path, text in ((PAGE, cli_page()), (SAMPLERS_PAGE, samplers_page())):
        if not sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"docs/{path.name} is stale; run: make docs", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
