"""Make a virtual environment with this package (editable) and all needs of tests and demo.

    python tools/install.py .venv --constraint requirements.lock

The output of pip goes to a file; a terminal shows a progress bar, anything else a few plain lines.
Only the standard library is used, since nothing else is installed yet.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
OLDEST_PYTHON = (3, 11)
WIDTH = 30
_WHEEL = re.compile(r"^\s*(?:Downloading|Using cached|Processing) .*?([^/\s]+)\.whl(?!\.metadata)")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(.*)$", re.MULTILINE)


class Bar:
    """Shows the progress of pip: a package counts once when fetched and once when installed.

    Args:
        packages: Number of packages to expect.
        baseline: Number of packages that are installed already.
        site: Folder of the installed packages.
    """

    def __init__(self, packages: int, baseline: int, site: Path) -> None:
        self._packages, self._baseline, self._site = packages, baseline, site
        self._wheels: set[str] = set()
        self._live = sys.stderr.isatty()
        self._begun = time.monotonic()
        self._due = 0.0

    def read(self, line: str) -> None:
        """Count a package if this line of pip names one."""
        if wheel := _WHEEL.match(line):
            self._wheels.add(wheel[1])

    def show(self, last: bool = False) -> None:
        """Draw the bar; without a terminal, print a line every 15 seconds."""
        now = time.monotonic()
        if now < self._due and not last:
            return
        self._due = now + (0.2 if self._live else 15)
        spent = now - self._begun
        there = max(0, installed(self._site) - self._baseline)
        fetched = max(len(self._wheels), there)
        share = 1.0 if last else min(0.99, (fetched + there) / (2 * self._packages))
        what = f"{fetched} packages fetched, {there} installed, {spent:.0f} s"
        # No estimate at first, and none for the last packages, which are the largest.
        if 0.2 < share < 0.95:
            what += f", about {spent * (1 - share) / share:.0f} s left"
        if self._live:
            full = round(WIDTH * share)
            bar = "━" * full + "─" * (WIDTH - full)
            print(f"\r{bar} {what}\033[K", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(f"  {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Install and return the exit code."""
    if sys.version_info < OLDEST_PYTHON:
        found, needed = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST_PYTHON))
        words = f"this is Python {found}; {needed} or newer is needed: make PYTHON=python{needed}"
        print(words, file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("venv", type=Path, help="folder of the virtual environment")
    parser.add_argument("--constraint", type=Path, required=True, help="versions that are allowed")
    options = parser.parse_args()
    folder, log = options.venv, options.venv / "install.log"
    print(f"installing into {folder}; the output of pip is in {log}", file=sys.stderr)
    try:
        # Not venv.create: on Debian without pip, only the program says what to install.
        run([sys.executable, "-m", "venv", str(folder)], log, None)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--progress-bar", "off"]
        pip += ["--no-input", "--disable-pip-version-check", "-c", str(options.constraint)]
        site = next(folder.glob("lib/python*/site-packages"))
        bar = Bar(len(pinned(LOCK)), installed(site), site)
        # Without isolation the build backend is constrained, too.
        run([*pip, *build_requirements()], log, bar)
        run([*pip, "--no-build-isolation", "-e", f"{ROOT}[dev]"], log, bar)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command to continue", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        print("\nthe installation failed; the last output of pip:\n", file=sys.stderr)
        print("\n".join(tail), file=sys.stderr)
        print(f"\nall output is in {log}", file=sys.stderr)
        return 1
    bar.show(last=True)
    return 0


def run(command: list[str], log: Path, bar: Bar | None) -> None:
    """Run a command; its output goes to the log and, line by line, to the bar."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        start = file.tell()
        # Nested, as an old Python has to parse this file to say which version it needs.
        with log.open(encoding="utf-8", errors="replace") as output:  # noqa: SIM117
            with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
                output.seek(start)
                while process.poll() is None:
                    time.sleep(0.1)
                    if bar is not None:
                        for line in output.read().splitlines():
                            bar.read(line)
                        bar.show()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def installed(site: Path) -> int:
    """Return the number of packages in a folder."""
    return sum(1 for _ in site.glob("*.dist-info"))


def pinned(lock: Path) -> dict[str, str]:
    """Return the packages of a lock and their versions, without those for some machines only."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    return {name: version for name, version, marker in _PINNED.findall(text) if not marker.strip()}


def build_requirements() -> list[str]:
    """Return the build requirements of this package."""
    return list(project()["build-system"]["requires"])


def project() -> dict[str, Any]:
    """Return ``pyproject.toml``."""
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
