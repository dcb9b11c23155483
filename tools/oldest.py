"""Print the lowest version that pyproject.toml permits of each library, as constraints for pip.

    python tools/oldest.py > .venv-oldest.txt

Indirect requirements are not constrained: pip takes the newest versions that fit.
"""

from __future__ import annotations

import re

from install import project

_BOUND = re.compile(r"^([A-Za-z0-9._-]+)>=([^\s;,]+)$")
TESTED = ("all", "train", "viz", "metrics", "dev")
"""The extras that the tests need."""


def lowest() -> list[str]:
    """Return one line ``name==version`` for each requirement, in order."""
    content = project()
    extras = content["project"]["optional-dependencies"]
    listed = [*content["build-system"]["requires"], *content["project"]["dependencies"]]
    listed += [requirement for extra in TESTED for requirement in extras[extra]]
    own = f"{content['project']['name']}["
    bounds = {}
    for requirement in listed:
        if requirement.startswith(own):
            continue
        found = _BOUND.match(requirement)
        if found is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} is not of the form name>=version")
        if bounds.setdefault(found[1], found[2]) != found[2]:
            raise SystemExit(f"pyproject.toml: {found[1]} has two lower bounds")
    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


if __name__ == "__main__":
    print("\n".join(lowest()))
