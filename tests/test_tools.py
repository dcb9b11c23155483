"""What installs this package: the lock is complete and fits, and the bar counts what is there."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import install
import lock
import oldest


def test_the_lock_pins_all_that_is_asked_for_within_its_bounds():
    pins = install.pinned(install.LOCK)
    content = install.project()
    extras = content["project"]["optional-dependencies"]
    listed = [*install.build_requirements(), *content["project"]["dependencies"]]
    listed += [text for extra in oldest.TESTED for text in extras[extra]]
    for requirement in map(Requirement, listed):
        if requirement.name != "unmask":
            version = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement
    held_back = install.pinned(install.ROOT / "constraints.txt")
    assert held_back.items() <= pins.items()


def test_the_lock_is_made_of_exact_public_versions():
    lines = [line for line in install.LOCK.read_text().splitlines() if line and line[0] != "#"]
    marker = r"( ; sys_platform == \"linux\")?"
    assert all(re.fullmatch(rf"[a-z0-9-]+==[0-9a-z.]+{marker}", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == [lock.canonical(name) for name in names]
    assert len(set(names)) == len(names)


def test_the_oldest_libraries_are_the_lower_bounds():
    lines = oldest.lowest()
    assert len({line.partition("==")[0] for line in lines}) == len(lines) > 15
    required = {Requirement(text).name for text in install.project()["project"]["dependencies"]}
    assert required <= {line.partition("==")[0] for line in lines}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("  Downloading torch-2.13.0-cp313-cp313-manylinux.whl (526.6 MB)", "torch-2.13.0"),
        ("  Using cached numpy-2.4.6-cp311-cp311-manylinux.whl (16 MB)", "numpy-2.4.6"),
        ("Processing /some/where/jinja2-3.1.6-py3-none-any.whl (from torch)", "jinja2-3.1.6"),
        ("  Downloading rich-15.0.0-py3-none-any.whl.metadata (18 kB)", None),
        ("Collecting rich>=13.7", None),
    ],
)
def test_the_bar_counts_each_wheel_that_is_fetched_once(tmp_path, line, name, capsys):
    for package in range(3):
        (tmp_path / f"package{package}.dist-info").mkdir()
    bar = install.Bar(packages=4, baseline=1, site=tmp_path)
    for _ in range(2):
        bar.read(line)
    bar.show(last=True)
    fetched = max(2, int(name is not None))
    assert f"{fetched} packages fetched, 2 installed" in capsys.readouterr().err
    assert [wheel.startswith(f"{name}-") for wheel in bar._wheels] == ([True] if name else [])
