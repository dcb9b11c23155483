"""Who may import which library, and that starting the program loads nothing heavy.

Which room of the package may know which is checked by import-linter, in ``make check``.
"""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import unmask

PACKAGE = Path(unmask.__file__).parent


def imports(path: Path, at_once: bool = False) -> set[str]:
    """Return the absolute names of all modules that a file imports, also inside functions.

    With ``at_once`` only those that are imported when the file itself is.
    """
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module)
            # "from unmask import checkpoint" names a module as well.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign(path: Path, at_once: bool = False) -> set[str]:
    roots = {name.split(".")[0] for name in imports(path, at_once)}
    return roots - set(sys.stdlib_module_names) - {"unmask", "__future__"}


@pytest.mark.parametrize("room", ["diffusion", "sampling"])
def test_the_mathematics_needs_torch_and_numpy_alone(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert len(files) > 5
    for path in files:
        assert foreign(path) <= {"torch", "numpy"}, path


def test_few_rooms_know_transformers():
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).parts[0]
        if place not in ("data", "models", "training"):
            # The command line quietens its loading bars, but only once a verb needs it.
            assert "transformers" not in foreign(path, at_once=place == "cli"), path


def loaded_by(script: str) -> tuple[list[str], str]:
    """Run a script in a fresh interpreter; return which heavy modules it loaded, and its stdout."""
    report = (
        "\nimport sys, unmask\n"
        "print(*sorted({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)))\n"
        "print(unmask.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", script + report], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *output, heavy, place = done.stdout.splitlines()
    assert Path(place) == Path(unmask.__file__)
    return heavy.split(), "\n".join(output)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import unmask")[0] == []
    script = "from unmask.sampling import SAMPLERS, Ancestral\nprint(len(SAMPLERS) > 9)"
    assert loaded_by(script) == ([], "True")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--help", "Usage"),
        ("generate --help", "--sampler NAME"),
        ("infill --help-all", "--alg-temperature"),
        ("train --list", "diffuse"),
    ],
)
def test_asking_for_help_loads_nothing_heavy(words, says):
    heavy, text = loaded_by(
        "import sys\n"
        "from unmask.cli import run\n"
        f"sys.argv = ['unmask', *{words.split()}]\n"
        "try:\n    run()\n"
        "except SystemExit:\n    pass"
    )
    assert heavy == []
    assert says in text


LAZY = (
    "data",
    "diffusion",
    "diffusion.objectives",
    "diffusion.processes",
    "diffusion.schedules",
    "evaluation",
    "evaluation.oracles",
    "models",
    "models.runtimes",
    "pipelines",
    "sampling",
    "sampling.constraints",
    "sampling.policies",
)


@pytest.mark.parametrize("name", LAZY)
def test_importing_a_package_loads_nothing_heavy(name):
    assert loaded_by(f"import unmask.{name}")[0] == []


@pytest.mark.parametrize("name", LAZY)
def test_every_public_name_of_a_package_is_there(name):
    package = importlib.import_module(f"unmask.{name}")
    for public in package.__all__:
        assert getattr(getattr(package, public), "__name__", public) == public
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


EFFECTS = """
import csv, importlib, json, os, pkgutil, sys

import datasets, torch, transformers
from transformers import AttentionInterface, AttentionMaskInterface, Trainer
import unmask

def state():
    return {
        "environment": dict(os.environ),
        "attention": sorted(AttentionInterface()),
        "masks": sorted(AttentionMaskInterface()),
        "stubs": sorted(
            name for name, module in sys.modules.items()
            if name != "__main__" and getattr(module, "__spec__", None) is None
        ),
        "cells": csv.field_size_limit(),
    }

before = state()
names = [found.name for found in pkgutil.walk_packages(unmask.__path__, "unmask.")]
for name in names:
    if name != "unmask.__main__":
        importlib.import_module(name)
print(json.dumps([len(names), before, state()]))
"""


def test_importing_the_modules_changes_nothing_else():
    """No environment variable, no attention function of transformers, no stub of a library."""
    done = subprocess.run([sys.executable, "-c", EFFECTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, before, after = json.loads(done.stdout.splitlines()[-1])
    assert count > 100
    assert "sdpa" in before["attention"]
    assert after == before


def test_every_benchmark_finds_what_it_imports():
    folder = PACKAGE.parent.parent / "benchmarks"
    names = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")]
    assert "generation" in names
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(f'benchmarks.{name}' for name in names)}"],
        cwd=folder.parent,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
