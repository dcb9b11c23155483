"""Words of models, files, cards and recordings are shown, and drive no terminal."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.cli import main, printing
from unmask.pipelines.trace import Snapshot, Track
from unmask.render.jsonl import write_tracks

EVIL = "a\x1b]0;title\x07b\x1b[2Jc\x9b31md\x7f\re\r\nf\tg\n"
SHOWN = "a\\x1b]0;title\\x07b\\x1b[2Jc\\x9b31md\\x7f\\x0de\r\nf\tg\n"


def controls(text: str) -> set[str]:
    return {c for c in text if c not in "\r\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160)}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "rec.jsonl"
    last = Snapshot(1, 0.0, 1, (EVIL,), ("kept",), (0.5,))
    write_tracks(file, [Track(f"label {EVIL}", (last,))])
    return file


def test_what_could_drive_a_terminal_is_spelt_out():
    assert printing.visible(EVIL) == SHOWN
    assert not controls(SHOWN)
    assert printing.visible("Ünï ✓ \t\n") == "Ünï ✓ \t\n"


def run(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "unmask", *map(str, words)]
    return subprocess.run(command, check=False, **options)


def test_show_spells_out_in_a_pipe_and_is_exact_in_a_file(recording, tmp_path):
    piped = run("show", recording, stdout=subprocess.PIPE)
    assert piped.stdout.decode() == SHOWN + "\n"
    with (tmp_path / "final.txt").open("wb") as file:
        assert run("show", recording, stdout=file).returncode == 0
    assert (tmp_path / "final.txt").read_bytes().decode() == EVIL + "\n"


def in_terminal(*words: object, stdout: object = None) -> bytes:
    """Run with a terminal as standard error, and as standard output if there is no other."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", *map(str, words)],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    process.wait(timeout=60)
    os.close(ours)
    return seen


def test_show_in_a_terminal_writes_the_text_where_its_output_goes(recording, tmp_path):
    with (tmp_path / "final.txt").open("wb") as file:
        seen = in_terminal("show", recording, "--speed", "100", stdout=file)
    assert (tmp_path / "final.txt").read_bytes().decode() == EVIL + "\n"
    for sequence in (b"\x1b]0;", b"\x07", b"\x9b31m"):
        assert sequence not in seen


def test_a_card_and_an_error_are_spelt_out(zoo, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(zoo / "bert", model)
    card = {"format": 1, "training": {"data": EVIL, "recipe": {"name": EVIL}}}
    (model / "unmask.json").write_text(json.dumps(card), "utf-8")
    assert main(["info", str(model)]) == 0
    out = capsys.readouterr().out
    assert "\\x1b]0;title" in out
    assert not controls(out)
    assert main(["info", str(model), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["training"]["data"] == EVIL
    assert not controls(out)
    assert main(["show", str(tmp_path / "\x1b]0;title\x07")]) == 2
    err = capsys.readouterr().err
    assert "\\x1b]0;title\\x07" in err
    assert not controls(err)


@pytest.mark.parametrize("name", ["a[/]", "[bold]b", "[link=file:x]c"])
def test_a_name_is_no_markup(zoo, text_file, tmp_path, capsys, name):
    out = tmp_path / name
    line = ["train", "--data", str(text_file), "--out", str(out), "--model", str(zoo / "bert")]
    settings = {"training.steps": 1, "training.batch_size": 4, "data.length": 24}
    line += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(line) == 0
    assert f"saved {out}" in capsys.readouterr().err
