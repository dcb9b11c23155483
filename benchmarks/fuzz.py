"""Fuzzing of input files through the command line, with seeded mutations.

    python -m benchmarks.fuzz [--inputs 2000] [--seed 0]

A model folder, its card, a recipe, a recording, a table and the folder of a run are damaged: bytes
are flipped or cut off, values get another type, keys are removed or added. A worker process runs
one input after another under limits of time and memory; if it ends or hangs, a new one continues
after that input. The table counts per file the inputs that worked (exit code 0), those refused with
one sentence (exit code 2), tracebacks, crashes and inputs over time. Failed inputs are listed after
it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import resource
import shutil
import tempfile
import tomllib
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS, BYTES, INF = 30.0, 8 << 30, float("inf")
TREES = (".json", ".jsonl", ".toml", ".safetensors")
"""Extensions of files in which values can be changed, and not only bytes."""
OUTCOMES = ("worked", "refused", "traceback", "crash", "over time")
ODD: list[Any] = [None, True, -1, 0, 1e308, 10**30, 2**63, "", "\x1b[2J", "a" * 10_000, [], {}]
ODD += [[[]], {"a": []}, "..", INF, 0.5, ["x", 1]]
MODEL = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
RUN = ("run.json", "metrics.jsonl", "files.json", "trainer_state.json", "optimizer.pt")
RUN += ("rng_state.pth", "scheduler.pt")
SHORT = ("data.length=8", "training.batch_size=2", "training.save_every=1", "training.steps=1")
RESUME = ["train", "--model", "{place}/model", "--data", "{place}/table.jsonl", "--resume"]
RESUME += [word for setting in SHORT for word in ("--set", setting)]
RESUME += ["--set", "training.steps=2", "--out"]
RECIPE = """
name = "small"
summary = "A recipe that is trained in a moment."

[model]
type = "bert"
dropout = 0.1

[model.config]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 16
max_position_embeddings = 32

[tokenizer]
vocab_size = 270
keep_whole = ["cat"]

[data]
length = 8
prefix_share = 0.5
validation_share = 0.2

[objective]
name = "nelbo"
num_steps = 0

[schedule]
name = "polynomial"
parameters = {exponent = 2.0}

[training]
steps = 1
batch_size = 2
gradient_accumulation = 1
learning_rate = 1e-3
lr_schedule = "linear"
warmup_steps = 0
optimizer = "adamw_torch"
ema = 0.9
evaluation_rows = 2
save_every = 0
seed = 0

[sampler]
name = "threshold"
steps = 4
"""
FILES = {
    **{name: ["generate", "The", "--length", "3", "--steps", "2", "--model"] for name in MODEL},
    "unmask.json": ["info"],
    "recipe.toml": ["train", "--data", "{place}/table.jsonl", "--out", "{place}/out"],
    "recording.jsonl": ["show"],
    "table.jsonl": ["evaluate", "--model", "{place}/model", "--data"],
    **dict.fromkeys(RUN, RESUME),
}


def main() -> None:
    """Run all inputs and print the table and the failures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(Path(folder), options.inputs, options.seed)
    counts = Counter((name, outcome) for name, outcome, _ in found.values())
    print(f"| file | {' | '.join(OUTCOMES)} |\n|---|{'---|' * len(OUTCOMES)}")
    for name in FILES:
        print(f"| `{name}` | {' | '.join(str(counts[name, o]) for o in OUTCOMES)} |")
    for number, (name, outcome, words) in found.items():
        if outcome not in ("worked", "refused"):
            print(f"input {number}, {name}: {outcome} {words}")


def outcomes(folder: Path, inputs: int, seed: int) -> dict[int, tuple[str, str, str]]:
    """Return for each input the damaged file, its outcome, and a message."""
    _originals(folder / "original")
    names, found = list(FILES), {}
    context = multiprocessing.get_context("spawn")
    while len(found) < inputs:
        here, there = context.Pipe()
        first = len(found)
        worker = context.Process(target=_work, args=(there, folder, first, inputs, seed))
        worker.start()
        there.close()
        for number in range(first, inputs):
            name = names[number % len(names)]
            outcome = "over time", ""
            with contextlib.suppress(EOFError):
                # The first answer has to wait for imports, too.
                if here.poll(SECONDS * (3 if number == first else 1)):
                    outcome = "crash", ""
                    outcome = here.recv()
            found[number] = (name, *outcome)
            if outcome[0] in ("crash", "over time"):
                break
        worker.kill()
        worker.join()
    return found


def damaged(content: bytes, name: str, rng: random.Random) -> bytes:
    """Return the content of a file with one mutation, or a few flipped bytes."""
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1 or not name.endswith(TREES):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if name.endswith(".toml"):
        tree = tomllib.loads(content.decode())
        _change(tree, rng)
        return _as_toml(tree).encode()
    if name.endswith(".safetensors"):
        end = 8 + int.from_bytes(content[:8], "little")
        tree = json.loads(content[8:end])
        _change(tree, rng)
        header = json.dumps(tree).encode()
        return len(header).to_bytes(8, "little") + header + content[end:]
    lines = content.decode().splitlines() if name.endswith(".jsonl") else [content.decode()]
    place = rng.randrange(len(lines))
    tree = json.loads(lines[place])
    _change(tree, rng)
    lines[place] = json.dumps(tree)
    return "\n".join(lines).encode()


def _as_toml(tree: dict[str, Any], sections: tuple[str, ...] = ()) -> str:
    """Return nested objects as TOML, one key per line; nulls are left out."""
    lines = []
    for key, value in tree.items():
        place = (*sections, json.dumps(key))
        if isinstance(value, dict) and value:
            lines.append(_as_toml(value, place))
        elif value is not None:
            lines.append(f"{'.'.join(place)} = {'inf' if value == INF else json.dumps(value)}")
    return "\n".join(lines)


def _change(tree: Any, rng: random.Random) -> None:
    """Change, remove or add one value somewhere in a JSON object."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = rng.choice(keys)
        if isinstance(tree[key], dict | list) and tree[key] and rng.random() < 0.6:
            tree = tree[key]
            continue
        break
    action = rng.randrange(4)
    if action == 0:
        del tree[key]
    elif action == 1 and isinstance(tree, dict):
        tree[rng.choice(["", "odd", "format", "name"])] = rng.choice(ODD)
    else:
        tree[key] = rng.choice(ODD)


def _originals(folder: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    from unmask import Unmasker
    from unmask.models.loading import no_bars
    from unmask.render.jsonl import write_tracks
    from unmask.training.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["the cat sat on the mat"], 270)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=32, **sizes)
    with no_bars():
        BertForMaskedLM(config).save_pretrained(folder / "plain")
        tokenizer.save_pretrained(folder / "plain")
    unmasker = Unmasker.from_pretrained(str(folder / "plain"))
    unmasker.save_pretrained(folder / "model")
    write_tracks(folder / "recording.jsonl", unmasker.generate("The", length=3).tracks)
    rows = [json.dumps({"text": "the cat sat on the mat", "label": n}) for n in range(20)]
    (folder / "table.jsonl").write_text("\n".join(rows), "utf-8")
    words = [word.format(place=folder) for word in RESUME if word != "--resume"][:-3]
    _run([*words, "--out", str(folder / "run")])
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")


def _work(answer: Connection, folder: Path, first: int, inputs: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    names, place = list(FILES), folder / "damaged"
    for number in range(first, inputs):
        name = names[number % len(names)]
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "original", place)
        file = _file(place, name)
        # A string seeds by its content, the same in every process.
        file.write_bytes(damaged(file.read_bytes(), name, random.Random(f"{seed} {number}")))
        target = place / file.relative_to(place).parts[0]
        answer.send(_run([word.format(place=place) for word in FILES[name]] + [str(target)]))


def _file(place: Path, name: str) -> Path:
    """Return the file of a name, in the damaged folder or the model or run in it."""
    work = place / "run" / "training"
    found = [place / name, place / "model" / name, work / name, *work.glob(f"checkpoint-*/{name}")]
    return next(path for path in found if path.exists())


def _run(words: list[str]) -> tuple[str, str]:
    from unmask.cli import main as unmask

    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = unmask(words)
    except BaseException:
        return "traceback", " ".join(traceback.format_exc().split()[-30:])
    if code == 0:
        return "worked", ""
    return ("refused", errors.getvalue()) if code == 2 else ("traceback", errors.getvalue()[-300:])


if __name__ == "__main__":
    main()
