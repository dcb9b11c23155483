"""Write requirements.lock: all packages that tests and demo install, with versions.

    python tools/lock.py python3.11 python3.13

The first interpreter decides the versions, so pass the oldest first; each further one adds the
packages that only it needs. pip resolves, nothing is installed. If the package index does not serve
metadata separately, wheels are downloaded: with those of CUDA about 2 GB.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from install import LOCK, ROOT, build_requirements

CUDA = ("nvidia-", "cuda-", "triton")
HEADER = """\
# Every package that pip installs for the tests and the demo, with its version:
#     pip install -c requirements.lock -e '.[dev]'
# Written by `make lock`; not edited by hand. Made for {pythons} on Linux ({machine}),
# where it is complete; elsewhere a package may be missing, and pip takes its newest.
# torch is named without a local version, so that a wheel such as {torch}+cpu fits as well.
"""
FOR_CUDA = """
# What only the torch wheel of the package index needs, and one for the CPU does not:
"""


def resolve(python: str, folder: Path, known: dict[str, str]) -> dict[str, str]:
    """Return all packages and versions that an interpreter installs.

    Args:
        python: The interpreter.
        folder: An empty folder.
        known: Versions decided by earlier interpreters.
    """
    constraints, report = folder / "constraints.txt", folder / "report.json"
    listed = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    # === excludes a local wheel for the CPU: the one of the index needs more packages.
    listed = re.sub(r"^torch==", "torch===", listed, flags=re.MULTILINE)
    rest = "".join(f"{name}=={v}\n" for name, v in known.items() if name != "torch")
    constraints.write_text(listed + rest, encoding="utf-8")
    subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--dry-run", "--ignore-installed", "--report", str(report), "-c", str(constraints)]
    subprocess.run([*pip, *build_requirements(), "-e", f"{ROOT}[dev]"], check=True)
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    items = [item["metadata"] for item in found if not item.get("is_direct")]
    return {canonical(item["name"]): item["version"] for item in items}


def canonical(name: str) -> str:
    """Return the normalized name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(pythons: list[str]) -> None:
    """Resolve with each interpreter and write the lock."""
    pins: dict[str, str] = {}
    versions = []
    for python in pythons:
        with TemporaryDirectory() as folder:
            pins = resolve(python, Path(folder), pins) | pins
        shown = subprocess.run([python, "--version"], check=True, capture_output=True, text=True)
        versions.append(shown.stdout.strip().rpartition(".")[0])
    header = HEADER.format(
        pythons=" and ".join(versions), machine=platform.machine(), torch=pins["torch"]
    )
    lines: dict[bool, list[str]] = {False: [], True: []}
    for name, version in sorted(pins.items()):
        cuda = name.startswith(CUDA)
        lines[cuda].append(f"{name}=={version}" + (' ; sys_platform == "linux"' if cuda else ""))
    text = header + "\n".join(lines[False]) + "\n" + FOR_CUDA + "\n".join(lines[True]) + "\n"
    LOCK.write_text(text, encoding="utf-8")
    print(f"{LOCK.name}: {len(pins)} packages")


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
