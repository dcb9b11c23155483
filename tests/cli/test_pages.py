"""Pages that are written from the program are current; ``docs/cli.md`` is checked by make check."""

import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_options_is_current(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    import make_cli_page

    page = (DOCS / "samplers.md").read_text(encoding="utf-8")
    assert make_cli_page.samplers_page() == page, "run: make docs"
