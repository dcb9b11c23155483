"""Plant classic bugs one at a time and see whether the tests notice. Run by ``make mutate``.

Every mutant is a snippet of the library replaced by a wrong one in a temporary copy of ``src``; the
tests run against the copy (PYTHONPATH), the real tree is never touched. A surviving mutant is a
hole in the tests: the exit code is 1. A snippet that is gone or ambiguous is a mistake of
``mutants.py`` and stops it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 300


def run_tests(
    source: Path, names: list[str], timeout: float | None = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """Run test files against a copy of ``src``, for at most ``timeout`` seconds."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    files = [str(next((ROOT / "tests").rglob(f"test_{name}.py"))) for name in names]
    return subprocess.run(
        command + files, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )


def plant(source: Path, mutant: Mutant) -> tuple[Path, str]:
    """Write a mutant into the copy; return the file and its true content."""
    path = source / "unmask" / mutant.file
    content = path.read_text(encoding="utf-8")
    if content.count(mutant.old) != 1:
        sys.exit(
            f"mutate: {mutant.file} holds {content.count(mutant.old)} copies of {mutant.old!r}; "
            "bring the list of mutants up to date"
        )
    path.write_text(content.replace(mutant.old, mutant.new), encoding="utf-8")
    return path, content


def is_caught(source: Path, mutant: Mutant) -> bool:
    """Return whether a test fails while the mutant is planted."""
    path, content = plant(source, mutant)
    try:
        done = run_tests(source, [mutant.tests])
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(content, encoding="utf-8")
    if done.returncode not in (0, 1):
        sys.exit(f"mutate: the tests could not run with {mutant.story!r}:\n{done.stdout[-2000:]}")
    return done.returncode == 1


def check_healthy(source: Path, mutants: list[Mutant]) -> None:
    """Stop unless the tests pass on the unchanged copy, and really import the copy."""
    for mutant in mutants:
        path, content = plant(source, mutant)
        path.write_text(content, encoding="utf-8")
    probe = [sys.executable, "-c", "import unmask; print(unmask.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(source)}
    place = subprocess.run(probe, env=environment, capture_output=True, text=True).stdout
    if not place.startswith(str(source)):
        sys.exit(f"mutate: the tests would import {place.strip()} and not the copy in {source}")
    done = run_tests(source, sorted({mutant.tests for mutant in mutants}), timeout=None)
    if done.returncode != 0:
        sys.exit(f"mutate: the tests fail without any mutant:\n{done.stdout[-3000:]}")


def main() -> None:
    """Run all mutants, or those whose story contains a word, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run only mutants whose story contains this")
    only = parser.parse_args().only
    mutants = [mutant for mutant in MUTANTS if only in mutant.story]
    if not mutants:
        sys.exit(f"mutate: no mutant's story contains {only!r}")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder).resolve() / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        check_healthy(source, mutants)
        for mutant in mutants:
            start = time.monotonic()
            caught = is_caught(source, mutant)
            survived += not caught
            verdict = "caught" if caught else "SURVIVED"
            seconds = time.monotonic() - start
            print(f"{verdict:8}  {seconds:4.0f} s  {mutant.file:20}  {mutant.story}", flush=True)
    print(f"{len(mutants) - survived} of {len(mutants)} mutants caught")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
