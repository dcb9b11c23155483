"""Arrows point forward only, and starting the program loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unmask

PACKAGE = Path(unmask.__file__).parent
# What each core file may know of the others; besides these, torch and the standard library.
CORE = {
    "errors": set(),
    "staging": {"errors"},
    "noise": set(),
    "schedule": {"errors"},
    "process": {"noise", "schedule", "errors"},
    "denoiser": {"errors"},
    "objective": {"denoiser", "noise", "process", "schedule", "errors"},
    "canvas": {"errors"},
    "draw": {"errors"},
    "values": {"errors"},
    "measure": {"draw"},
    "policy": {"canvas", "noise", "errors"},
    "orders": {"canvas", "noise", "policy"},
    "confidence": {"canvas", "measure", "noise", "policy", "errors"},
    "remasking": {"canvas", "noise", "policy", "errors"},
    "revising": {"canvas", "noise", "policy", "errors"},
    "chains": {"canvas", "noise", "policy"},
    "regex": {"errors"},
    "automaton": {"regex", "errors"},
    "constraint": {"automaton", "canvas", "denoiser", "draw", "errors"},
    "guidance": {"denoiser"},
    "reuse": {"denoiser"},
    "sampler": {
        *("canvas", "constraint", "denoiser", "draw", "measure", "noise", "policy", "errors"),
    },
    "presets": {
        *("draw", "policy", "orders", "confidence", "remasking", "revising", "chains"),
        *("restriction", "schedule", "values", "errors"),
    },
    "choice": {"presets", "schedule", "values"},
    "restriction": {"denoiser", "errors"},
    "sliding": {"canvas", "noise", "errors"},
    "oracle": {"denoiser", "token_process", "transition", "errors"},
    "token_schedule": {"errors"},
    "token_process": {"noise", "process", "token_schedule", "errors"},
    "expectation": set(),
    "objective_token": {
        *("denoiser", "expectation", "noise", "objective", "process", "schedule", "token_process"),
        "errors",
    },
    "objective_order": {"denoiser", "noise", "objective"},
    "chain_rule": {"blocks", "denoiser", "objective_order", "values", "errors"},
    "blocks": {"denoiser", "noise", "objective"},
    "block_sampler": {"blocks", "canvas", "denoiser", "noise"},
    "oracle_blocks": {"oracle"},
    "oracle_chain": {"oracle", "errors"},
    "truth_settings": set(),
    "truth": {
        *("canvas", "confidence", "denoiser", "draw", "noise", "oracle", "oracle_chain", "orders"),
        *("policy", "presets", "process", "sampler", "schedule"),
    },
    "released": {"denoiser", "process"},
    "discretisation": {"errors"},
    "transition": {"noise", "process", "schedule", "errors"},
    "gaussian": {"noise", "process", "errors"},
    "objective_transition": {"denoiser", "noise", "objective", "schedule", "transition"},
}
# The layers above the core, lowest first: each may know those before it, never those after.
LAYERS = [
    "core",
    "intervals",
    "codec",
    "adapters",
    "text_rows",
    "scores",
    "likelihood",
    "report",
    "plan",
    "excerpts",
    "judge",
    "mbr",
    "recording",
    "filling",
]
LAYERS += [
    "steering",
    "run",
    "top",
    "generated",
    "saving",
    "unmasker",
    "autoregressor",
    "training",
    "cli",
]


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


def own(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, without the leading ``unmask.``."""
    modules = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "unmask" and len(parts) > 1:
            modules.add(parts[1])
    return modules


def foreign(path: Path, at_once: bool = False) -> set[str]:
    roots = {name.split(".")[0] for name in imports(path, at_once)}
    return roots - set(sys.stdlib_module_names) - {"unmask", "__future__"}


@pytest.mark.parametrize("name", CORE)
def test_core_files_know_only_earlier_ones_torch_and_numpy(name):
    path = PACKAGE / f"{name}.py"
    assert own(path) <= CORE[name]
    # A lock that ends with its process is an operating system's, of which filelock knows them all.
    assert foreign(path) <= ({"filelock"} if name == "staging" else {"torch", "numpy"})


def test_the_map_of_the_core_has_no_cycle():
    order = ["errors", "staging", "values", "noise", "schedule", "process", "denoiser", "objective"]
    order += ["token_schedule", "token_process", "expectation", "objective_token", "released"]
    order += ["discretisation", "transition", "gaussian", "objective_transition"]
    order += [
        "blocks",
        "objective_order",
        "chain_rule",
        "regex",
        "automaton",
        "guidance",
        "reuse",
        "canvas",
        "block_sampler",
        "draw",
    ]
    order += ["constraint", "measure", "policy", "sampler"]
    order += ["orders", "confidence", "remasking", "revising", "chains"]
    order += ["restriction", "sliding", "presets", "choice", "oracle", "oracle_blocks"]
    order += ["oracle_chain", "truth_settings", "truth"]
    assert sorted(order) == sorted(CORE)
    for i, name in enumerate(order):
        assert CORE[name] <= set(order[:i])


def files(layer: str) -> list[Path]:
    single = PACKAGE / f"{layer}.py"
    return [single] if single.exists() else sorted((PACKAGE / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_upper_layers_know_only_lower_ones(layer):
    later = set(LAYERS[LAYERS.index(layer) + 1 :])
    assert files(layer), f"there is no layer {layer} any more"
    for path in files(layer):
        assert not own(path) & later, path


def test_no_file_below_knows_the_command_line_or_the_pictures():
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).parts[0]
        if place not in ("cli", "render", "__main__.py"):
            assert "cli" not in own(path), path
        if place in ("codec", "adapters", "training") or path.stem in CORE:
            assert "render" not in own(path), path


def test_pictures_know_neither_models_nor_tensors():
    for path in files("render"):
        assert not own(path) & {"adapters", "codec", "training", "unmasker", "sampler", "cli"}, path
        assert not foreign(path) & {"torch", "transformers"}, path


def test_transformers_is_imported_by_adapters_codec_and_training_only():
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).parts[0]
        if place not in ("adapters", "codec", "training"):
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


@pytest.mark.parametrize(("words", "says"), [("--help", "Usage"), ("train --list", "diffuse")])
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
