"""The code on the pages runs as it is printed, from an empty folder."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

from unmask import Unmasker
from unmask.cli import main
from unmask.diffusion.schedules.continuous import SCHEDULES
from unmask.training import recipe_file

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("extending", "guidance", "idea", "tokenizers")


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code in a language on a page."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


BLOCKS = [(page, i) for page in PAGES for i in range(len(blocks(page, "python")))]


def run(code: str) -> None:
    """Run a block in a module of its own; a name that it gives to a schedule goes with it."""
    with mock.patch.dict(SCHEDULES):
        exec(compile(code, "page", "exec"), {"__name__": "page"})


@pytest.mark.parametrize(("page", "number"), BLOCKS)
def test_python_runs(page, number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(blocks(page, "python")[number])
    if page == "idea":
        assert capsys.readouterr().out == blocks(page, "text")[0]


def test_a_model_of_dna_is_made_trained_and_used(tmp_path, monkeypatch, capsys):
    """Letters in lower case, as soft-masked genomes have them, are read as well."""
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("extending", "python") if "ACGTN" in block)
    (lines,) = (block for block in blocks("extending", "sh") if "--model dna " in block)
    run(code)
    genes = Path("genes.fasta").read_text(encoding="utf-8")
    Path("genes.fasta").write_text(genes.replace("GATC", "gatc"), encoding="utf-8")
    for line in lines.splitlines():
        assert main(shlex.split(line)[1:]) == 0
    generated, infilled = capsys.readouterr().out.splitlines()
    assert re.fullmatch("ACG[ACGTN]{0,12}", generated)
    assert re.fullmatch("ACG[ACGTN]{3}GCA", infilled)
    codec = Unmasker.from_pretrained("dna-model").codec
    assert codec.encode("acgt") == codec.encode("ACGT")
    assert codec.decode(codec.encode("acgt")) == "ACGT"


@pytest.mark.skipif(shutil.which("git") is None, reason="git reads the diffs")
def test_worked_changes_apply(tmp_path):
    shutil.copytree(DOCS.parent / "src" / "unmask" / "diffusion", tmp_path / "src/unmask/diffusion")
    shutil.copytree(DOCS.parent / "src" / "unmask" / "sampling", tmp_path / "src/unmask/sampling")
    for diff in blocks("extending", "diff"):
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, check=True)


def test_a_schedule_has_its_name_in_recipes_at_once():
    from unmask.diffusion.registry import check_names

    with mock.patch.dict(SCHEDULES, {"another": SCHEDULES["cosine"]}):
        check_names("absorbing", {"name": "another"}, 0)


def test_the_recipe_is_one(tmp_path):
    (text,) = blocks("extending", "toml")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert recipe_file.load(tmp_path / "mine.toml").schedule.parameters == {"exponent": 0.5}
