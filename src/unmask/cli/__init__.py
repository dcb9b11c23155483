"""The command line: one file per verb, loaded only when its verb is used.

Text goes to standard output; animation and progress go to standard error, and only to a terminal.
Every mistake of the user is one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import Any

import click

import unmask
from unmask._names.earlier import OPTIONS
from unmask.cli import libraries, printing
from unmask.errors import UserError
from unmask.validation import one_of

VERBS = {
    "demo": "A guided tour: generate, fine-tune on your text, generate again.",
    "train": "Turn a masked language model into a text generator.",
    "generate": "Continue a prompt.",
    "infill": "Fill the blanks of a text.",
    "score": "Bound the log-likelihood of a text.",
    "evaluate": "Score models on a data set, in comparable units.",
    "compare": "Race two models side by side.",
    "tune": "Find the best sampler for a model, a text and a time.",
    "bench": "Measure samplers against exact distributions.",
    "show": "Replay a recording.",
    "export": "Copy a model with its network for a faster runtime.",
    "info": "Show a model's card.",
}
COMPLETION = """\
Shell completion: add one of these lines to the start file of your shell.

\b
  bash  eval "$(_UNMASK_COMPLETE=bash_source unmask)"
  zsh   eval "$(_UNMASK_COMPLETE=zsh_source unmask)"
  fish  _UNMASK_COMPLETE=fish_source unmask | source
"""


class LazyGroup(click.Group):
    """A group that knows the name and purpose of its verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"unmask.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        first = args[0]
        if ctx.resilient_parsing:  # The shell completes a line that is not finished.
            pass
        elif first not in VERBS and "[MASK" in first:
            args = ["infill", *args]
        elif " " in first.strip() and not first.startswith("-"):
            raise UserError(
                f"{first[:40]!r} is a text, not a command; to continue it use: unmask generate "
                "TEXT, and for blanks mark them as [MASK] or [MASK:5]"
            )
        elif not first.startswith("-"):
            one_of("command", first, VERBS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=COMPLETION,
)
@click.version_option(unmask.__version__, prog_name="unmask")
def cli() -> None:
    """Turn any BERT into a text generator.

    Without --model, commands use the small model that comes with the package.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a mistake, 130 for Ctrl-C."""
    libraries.quiet()
    output = sys.stdout
    try:
        # In this mode click returns the code of ctx.exit() instead of exiting.
        result: Any = cli.main(args=arguments, prog_name="unmask", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UserError as error:
        return _complain(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        printing.error(error.format_message())  # The whole help, line by line.
        return 2
    except click.UsageError as error:
        return _complain(_usage(error))
    except click.ClickException as error:
        return _complain(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        printing.error("unmask: interrupted")
        return 130
    except SystemExit:
        # Where the pipe is closed, click exits and leaves another standard output behind.
        if sys.stdout is output:
            raise
        sys.stdout = output
        _forget_output()
        return 0
    except UnicodeEncodeError as error:
        place = f"character {error.start + 1} of {error.object[:40]!r}"
        return _complain(f"{place} cannot be written as {error.encoding}; is its text UTF-8?")
    except OSError as error:
        # A full disk behind standard output, a name that is too long: what the system refuses.
        try:
            output.flush()
        except (OSError, AttributeError):
            _forget_output()
        where = "" if error.filename is None else f": {error.filename}"
        return _complain(f"{error.strerror or error}{where}")


def _forget_output() -> None:
    """Keep Python from complaining while it shuts down, of what can no longer be written."""
    with suppress(OSError, AttributeError):  # There may be no such file at all.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.UsageError) -> str:
    """Return what is wrong with a command line, and where to read on."""
    where = "" if error.ctx is None else f"; see {error.ctx.command_path} --help"
    message = error.format_message().rstrip(".")
    if "unexpected extra argument" in message:
        return f'{message}; put a text with spaces into quotes, as in "two words"{where}'
    if isinstance(error, click.NoSuchOption):
        now = OPTIONS.get(error.option_name.lstrip("-").replace("-", "_"))
        if now is not None:
            called = f"--{now.replace('_', '-')}"
            return f"No such option {error.option_name!r}; it is called {called!r} now{where}"
    return message + where


def _complain(message: str) -> int:
    printing.error(f"unmask: {' '.join(message.split())}")
    return 2


def run() -> None:
    """Entry point of the ``unmask`` script."""
    from unmask.cli.memory import keep_freed_memory

    keep_freed_memory()
    sys.exit(main())
