"""Lists what the libraries deprecate while our tests run: ``make warnings``.

A plugin of pytest. In the first list a warning was raised at a line of ours; in the second within a
library that we called, so that the test named beside it shows the way. Ends with 0 either way.
"""

import logging
import warnings
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
LIBRARIES = ("transformers", "datasets", "accelerate", "huggingface_hub", "torch")
_found: Counter[tuple[bool, str, str]] = Counter()
_first: dict[tuple[bool, str, str], str] = {}


class Said(logging.Handler):
    """Makes a warning of a deprecation that a library only logs."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno == logging.WARNING and "deprecat" in text.lower():
            warnings.warn_explicit(text, FutureWarning, record.pathname, record.lineno)


def pytest_configure(config):
    for name in LIBRARIES:
        logging.getLogger(name).addHandler(Said())
    for kind in KINDS:
        config.addinivalue_line("filterwarnings", f"always::{kind.__name__}")


def pytest_warning_recorded(warning_message, nodeid):
    if issubclass(warning_message.category, KINDS):
        path = Path(warning_message.filename)
        ours = path.is_relative_to(ROOT) and "site-packages" not in path.parts
        where = path.relative_to(ROOT) if ours else Path(*path.parts[-3:])
        text = " ".join(str(warning_message.message).split())
        key = (not ours, f"{where}:{warning_message.lineno}", text)
        _found[key] += 1
        _first.setdefault(key, nodeid or "when it is imported")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    titles = ("deprecated, at a line of ours", "deprecated, within a library that we call")
    for elsewhere, title in enumerate(titles):
        terminalreporter.section(title)
        rows = sorted(key for key in _found if key[0] == bool(elsewhere))
        for key in rows:
            terminalreporter.line(f"{key[1]} ({_found[key]} times, first: {_first[key]})")
            terminalreporter.line(f"    {key[2]}")
        if not rows:
            terminalreporter.line("nothing")
