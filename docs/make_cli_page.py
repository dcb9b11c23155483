"""Write ``docs/cli.md`` from the program: the help of every command, at a fixed width.

python docs/make_cli_page.py            write the page
python docs/make_cli_page.py --check    exit 1 if the page is not what it would write
"""

import sys
from pathlib import Path

import click

from unmask.cli import VERBS, cli

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 96
HEAD = """\
# The command line

Written by `make docs` from the program; do not edit.

Text goes to standard output; animation and progress go to standard error, and only to a terminal.
A mistake in what was asked is one sentence on standard error and exit code 2; Ctrl-C is 130.
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, _section("unmask", _help("unmask", cli))]
    top = click.Context(cli, info_name="unmask")
    for verb in VERBS:
        command = cli.get_command(top, verb)
        assert command is not None
        parts.append(_section(f"unmask {verb}", _help(f"unmask {verb}", command)))
    return "\n".join(parts)


def _help(name: str, command: click.Command) -> str:
    # Width and colours of the terminal that this runs in must not reach the page.
    settings = dict(command.context_settings) | {"terminal_width": WIDTH, "color": False}
    context = click.Context(command, info_name=name, max_content_width=WIDTH, **settings)
    return command.get_help(context).rstrip()


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


def main() -> int:
    """Write or check the page and return the exit code."""
    text = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"docs/{PAGE.name} is stale; run: make docs", file=sys.stderr)
        return 1
    if sys.argv[1:]:
        print("the only option is --check", file=sys.stderr)
        return 2
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
