"""The table of architectures: it finds what works, what is refused and what is a fault."""

from pathlib import Path

import pytest
from benchmarks import zoo

from unmask.models.compat import masked_types
from unmask.training.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([zoo.TEXT], 330)


@pytest.mark.parametrize(("name", "apart"), [("electra", True), ("fnet", False)])
def test_everything_works_with_a_cheap_architecture(tokenizer, tmp_path, name, apart):
    row = zoo.tried(name, tokenizer, tmp_path)
    assert row.cells == dict.fromkeys(zoo.TRIALS)
    assert row.faults == []
    assert (row.limit, row.apart) == (64, apart)


def test_a_refusal_is_one_sentence_below_the_table(tokenizer, tmp_path):
    row = zoo.tried("perceiver", tokenizer, tmp_path)
    assert list(row.cells) == ["opens"]
    assert row.faults == []
    page = zoo.table([row])
    assert "| no (1) | — |" in page
    assert "1. a perceiver model cannot be used here" in page


def test_anything_else_is_a_fault(tokenizer, tmp_path, monkeypatch):
    def broken(place):
        raise KeyError("lost")

    monkeypatch.setattr(zoo, "TRIALS", {"opens": broken})
    row = zoo.tried("electra", tokenizer, tmp_path)
    assert row.faults == ["opens"]
    assert "**fault** (1)" in zoo.table([row])


def test_every_architecture_of_the_library_is_on_the_page():
    """But for those of a release that is newer than the page."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert len(listed & set(masked_types())) > 40
    assert "fault" not in page


def test_the_page_says_what_the_script_writes():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert page.partition("The table was written")[0] == zoo.PAGE.partition("The table was")[0]
