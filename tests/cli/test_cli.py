"""Every verb as a user runs it: words in, text on standard output, exit codes."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.console import Console

from unmask import Unmasker
from unmask.cli import cli, main
from unmask.cli.grouped import GROUPS, MOST_USED
from unmask.cli.info import show
from unmask.pipelines import rerank
from unmask.pipelines.prompts import lay_out
from unmask.pipelines.request import GenerationRequest
from unmask.sampling.samplers.registry import SAMPLERS, make_sampler

# Options to run a sampler with; one that is not listed has six steps.
OPTIONS = {
    "ancestral": ["--steps", "5"],
    "first-hitting": [],
    "left-to-right": ["--tokens-per-step", "3"],
    "threshold": ["--threshold", "0.3"],
    "maskgit": ["--steps", "6", "--temperature", "0.7", "--confidence-metric", "margin"],
    "fast-dllm-factor": ["--factor", "1.5"],
    "entropy-bound": ["--gamma", "2"],
    "refine": ["--steps", "4"],
    "remdm-cap": ["--steps", "8", "--eta", "0.2"],
    "remdm-rescale": ["--steps", "8", "--eta", "0.2"],
    "remdm-conf": ["--steps", "8"],
    "remdm-loop": ["--steps", "16", "--eta", "0.2"],
    "p2": ["--steps", "6", "--eta", "2"],
    "threshold-edit": ["--edit-threshold", "0.1"],
    "gibbs": ["--steps", "20", "--burn-in", "5"],
    "gibbs-sequential": ["--steps", "20", "--burn-in", "5"],
}
PLAIN = {name: OPTIONS.get(name, ["--steps", "6"]) for name in SAMPLERS}
# Network calls for 12 tokens, where chance and the network do not decide it.
CALLS = {"random": 6, "first-hitting": 12, "left-to-right": 4, "maskgit": 6}
CALLS |= {"refine": 4, "p2": 6}


@pytest.fixture
def unmask(capsys: pytest.CaptureFixture[str]):
    """Run a command line that must succeed; return what it printed on standard output."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


@pytest.fixture(scope="module")
def roberta(zoo: Path) -> Unmasker:
    return Unmasker.from_pretrained(str(zoo / "roberta"))


def test_a_plain_pipe_gets_plain_text(zoo):
    command = [sys.executable, "-m", "unmask", "generate", "-", "--model", str(zoo / "roberta")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--length", "6"],
        input="The cat",
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.startswith("The cat")
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="a terminal of POSIX")
def test_a_terminal_shows_that_a_model_is_loaded_and_standard_output_does_not(zoo):
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "unmask", "generate", "The cat", "--no-animate"]
    with subprocess.Popen(
        [*command, "--model", str(zoo / "roberta"), "--length", "6"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                read = os.read(ours, 4096)
            except OSError:  # The other end is closed.
                break
            if not read:
                break
            shown += read
        text = process.communicate()[0]
    os.close(ours)
    assert process.returncode == 0
    assert b"loading the model" in shown
    # The line is removed and the cursor is shown again.
    last = shown.rpartition(b"loading the model")[2]
    assert b"\x1b[2K" in last
    assert b"\x1b[?25h" in last
    assert text.startswith(b"The cat")
    assert b"loading" not in text
    assert b"\x1b" not in text


@pytest.mark.parametrize("name", PLAIN)
def test_json_is_one_object_with_the_facts(unmask, zoo, name):
    out = unmask(
        *("generate", "The cat", "--model", zoo / "bert", "--length", 12, "--seed", 3),
        *("--sampler", name, *PLAIN[name], "--json"),
    )
    facts = json.loads(out)
    assert facts["text"].startswith("The cat")
    assert facts["seed"] == 3
    assert facts["seconds"] > 0
    assert facts["settings"]["sampler"] == name
    keys = [option.removeprefix("--").replace("-", "_") for option in PLAIN[name][::2]]
    options = {key: facts["settings"][key] for key in keys}
    for taken, value in zip(options.values(), PLAIN[name][1::2], strict=True):
        assert str(taken) in (value, f"{value}.0")
    if name in CALLS:
        assert facts["nfe"] == CALLS[name]
    else:
        # Random order may reveal nothing in a step, and a rule sets its own pace.
        assert 1 <= facts["nfe"] < len(make_sampler(name, **options).times(12))


@pytest.mark.parametrize("steps", [1, 3, 12])
@pytest.mark.parametrize("name", ["refine", "maskgit"])
def test_steps_is_the_number_of_network_calls(roberta, name, steps):
    # On 40 tokens no step is empty; one that writes nothing costs no call.
    result = roberta.generate("The", length=40, steps=steps, sampler=name)
    assert result.nfe == steps
    assert result.settings["steps"] == steps
    assert len(result.tracks[0].snapshots) == steps + 1


def test_options_of_the_draw_are_in_force_and_on_record(unmask, zoo):
    line = ("generate", "The cat", "--model", zoo / "roberta", "--length", 40, "--json")
    free = json.loads(unmask(*line))
    one, two = sorted(set("".join(c for c in free["text"][7:] if c.isascii() and c.isalpha())))[:2]
    asked = {"min_p": 0.001, "top_p": 0.95, "top_p_crossing": "drop", "repetition_penalty": 1.1}
    words = [w for k, v in asked.items() for w in (f"--{k.replace('_', '-')}", v)]
    words += ["--grid-times", "1,0.9,0.4,0", "--ban", one, "--ban", two]
    facts = json.loads(unmask(*line, *words))
    expected = asked | {"grid": [1, 0.9, 0.4, 0], "steps": 3, "ban": [one, two]}
    assert facts["settings"] | expected == facts["settings"]
    assert facts["nfe"] <= 3
    assert facts["text"] != free["text"]
    assert not set(expected) & set(free["settings"]) - {"top_p", "steps"}


def test_a_race_restricts_both_sides(unmask, zoo):
    asked = {"ban": ["cat"], "repetition_penalty": 1.2, "min_p": 0.001}
    line = ("compare", "The cat", "--models", zoo / "roberta", zoo / "gpt2", "--length", 9)
    options = (
        "--ban",
        "cat",
        "--repetition-penalty",
        1.2,
        "--min-p",
        0.001,
        "--grid-times",
        "uniform",
    )
    for result in json.loads(unmask(*line, "--json", *options)).values():
        assert result["settings"] | asked == result["settings"]


def test_the_seed_decides_the_text(unmask, zoo):
    line = ("generate", "The cat", "--model", zoo / "roberta", "--length", 20, "--seed")
    texts = [unmask(*line, seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_samples_are_separated_and_differ(unmask, zoo):
    line = ("generate", "A dog", "--model", zoo / "roberta", "--length", 15)
    out = unmask(*line, "--num-samples", 3)
    samples = out.rstrip("\n").split("\n\n" + "-" * 40 + "\n\n")
    assert len(set(samples)) == 3
    # The first sample does not depend on how many were asked for.
    assert samples[0] == unmask(*line).rstrip("\n")


@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_of_prompts_writes_what_each_prompt_writes_alone(roberta, name):
    prompts = ["The cat", "", "[MASK:5] is the end", "A dog sat on the [MASK:3] and on the moon."]
    together = roberta.generate(prompts, sampler=name, seed=5, steps=50)
    alone = [roberta.generate(p, sampler=name, seed=5, steps=50).texts[0] for p in prompts]
    assert list(together.texts) == alone


def test_a_prompt_can_stand_at_the_end_or_in_the_middle(unmask, zoo):
    roberta = ("--model", zoo / "roberta")
    assert unmask("generate", "[MASK:5] is the end", *roberta).endswith(" is the end\n")
    middle = unmask("generate", "[MASK:4] the river [MASK:4]", *roberta)
    assert " the river" in middle
    assert not middle.startswith(" the river")


def test_spaces_that_are_given_stay_but_for_the_one_before_a_word(roberta):
    """The tokenizer puts that one at the head of the word."""
    indented = "def f():\n    "
    (text,) = roberta.generate(indented, length=3, seed=1).texts
    assert text.startswith(indented[:-1])
    (text,) = roberta.generate("a  [MASK]  b", seed=1).texts
    assert text.startswith("a ")
    assert text.endswith("  b")
    for prompt in ("The cat", "The cat "):
        assert roberta.generate(prompt, length=3, seed=2).texts[0].startswith("The cat")


def test_infill_writes_on_every_blank_and_nowhere_else(unmask, zoo):
    template = "The cat [MASK:2] the mat [MASK] and the [MASK:3]."
    out = unmask("infill", template, "--model", zoo / "roberta", "--json")
    text = json.loads(out)["text"]
    assert text.startswith("The cat")
    assert text.endswith(".")
    assert text.index(" the mat") < text.index(" and the")
    assert "MASK" not in text.upper()


def test_a_template_alone_means_infill(unmask, zoo):
    line = ("The [MASK] sat.", "--model", zoo / "roberta")
    assert unmask(*line) == unmask("infill", *line)


def test_the_length_of_a_blank_is_chosen_before_it_is_written(roberta):
    options = {"sampler": "refine", "steps": 3}
    found = roberta.infill("A [MASK:1-6] mat.", num_samples=40, seed=4, **options)
    assert found.nfe == 3 + 16, "three steps, and sixteen calls to judge the lengths"
    lengths = [size for (size,) in found.settings["blank_lengths"]]
    assert len(set(lengths)) > 2, "the samples of one text have lengths of their own"
    assert found.settings["choose_length"] == "sample"
    written = {
        n: roberta.infill(f"A [MASK:{n}] mat.", num_samples=40, seed=4, **options).texts
        for n in set(lengths)
    }
    assert list(found.texts) == [written[n][i] for i, n in enumerate(lengths)]
    *_, last = roberta.stream("A [MASK:1-6] mat.", num_samples=40, seed=4, **options)
    assert last.canvas.editable.sum(1).tolist() == lengths, "only what is chosen is written"
    assert last.nfe == 3
    best = roberta.infill("A [MASK:1-6] mat.", choose_length="likeliest", num_samples=9, **options)
    plan = lay_out(GenerationRequest(("A [MASK:1-6] mat.",)), roberta)
    nats, _ = rerank.given_nats(
        plan, len(roberta.codec.start), roberta.denoiser, roberta.formulation
    )
    assert best.settings["blank_lengths"] == [[int(nats.argmin()) + 1]] * 9


def test_a_chosen_length_is_that_of_the_sample_whatever_is_beside_it(roberta):
    templates = ["A [MASK:1-6] mat.", "The [MASK:2] and [MASK:1-3] a [MASK:2-4] .", "[MASK:1-9]"]
    options = {"steps": 2, "seed": 7}
    together = roberta.infill(templates, num_samples=5, **options)
    alone = [roberta.infill(template, num_samples=3, **options) for template in templates]
    for number, result in enumerate(alone):
        part = slice(5 * number, 5 * number + 3)
        assert together.texts[part] == result.texts
        sizes = together.settings["blank_lengths"][part]
        assert sizes == result.settings["blank_lengths"]
        assert all(len(own) == (1, 3, 1)[number] for own in sizes)
    assert alone[2].nfe == 2, "of nothing but a blank no length is judged"


def test_the_chosen_lengths_are_in_the_record(unmask, zoo):
    line = ("infill", "A [MASK:2-4] mat.", "--model", zoo / "roberta", "--steps", 2)
    settings = json.loads(unmask(*line, "--json", "--choose-length", "likeliest"))["settings"]
    assert settings["choose_length"] == "likeliest"
    ((size,),) = settings["blank_lengths"]
    assert size in (2, 3, 4)
    assert settings["length"] == size


def test_recordings_and_pictures(unmask, zoo, tmp_path):
    frames, gif, page = (tmp_path / name for name in ("run.jsonl", "run.gif", "run.html"))
    text = unmask(
        *("generate", "The cat", "--model", zoo / "roberta", "--length", 8, "--steps", 3),
        *("--sampler", "refine", "--frames", frames, "--gif", gif, "--html", page),
    )
    assert gif.read_bytes()[:4] == b"GIF8"
    assert "<html" in page.read_text(encoding="utf-8")
    again = tmp_path / "again.gif"
    assert unmask("show", frames, "--gif", again) == text
    assert again.read_bytes()[:4] == b"GIF8"


def test_score(unmask, zoo, tmp_path):
    model = ("--model", zoo / "roberta")
    out = json.loads(unmask("score", "The cat sat on the mat.", *model, "--json"))
    assert out["exact"] is False
    assert out["characters"] == 23
    assert out["nats"] == pytest.approx(out["nats_per_token"] * out["tokens"])
    file = tmp_path / "text.txt"
    file.write_text("The cat sat on the mat.", encoding="utf-8")
    assert json.loads(unmask("score", file, *model, "--json")) == out
    assert unmask("score", file, *model).startswith("<= ")
    exact = unmask("score", file, "--model", zoo / "gpt2")
    assert not exact.startswith("<=")


def test_a_text_that_ends_like_a_file_is_a_text(unmask, zoo, tmp_path, monkeypatch):
    line = ("--model", zoo / "gpt2", "--json")
    assert json.loads(unmask("score", "I lost notes.txt", *line))["characters"] == 16
    file = tmp_path / "text.txt"
    file.write_text("The cat sat on the mat.", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(str(file).encode())))
    assert json.loads(unmask("score", "-", *line))["characters"] == len(str(file))


def test_evaluate_compares_models_and_reports(unmask, zoo, text_file, tmp_path):
    models = ("--model", zoo / "bert", "--model", zoo / "gpt2")
    line = ("evaluate", *models, "--data", text_file, "--max-chars", 2000, "--draws", 2)
    out = unmask(*line, "--report", tmp_path / "report")
    rows = [row for row in out.splitlines() if str(zoo) in row]
    assert "≤" in rows[0]
    assert "≤" not in rows[1]
    facts = json.loads(unmask(*line, "--json"))
    assert facts == json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert out.strip() in (tmp_path / "report" / "report.md").read_text("utf-8")
    bert, gpt2 = (facts[str(zoo / name)] for name in ("bert", "gpt2"))
    for over in ("masks", "texts"):
        low, high = bert[f"bits_per_char_95_{over}"]
        assert low < bert["bits_per_char"] < high
    assert bert["lossy"]
    assert not gpt2["lossy"]
    assert "bits_per_char_95_masks" not in gpt2, "an exact value needs no masks"
    assert "†" in rows[0]


def test_models_are_compared_on_the_same_rows_and_masks(unmask, zoo, text_file):
    names = [str(zoo / name) for name in ("roberta", "modernbert", "gpt2")]
    models = [word for name in names for word in ("--model", name)]
    line = ("evaluate", *models, "--data", text_file, "--window", 32, "--draws", 4, "--paired")
    facts = json.loads(unmask(*line, "--json"))
    for name in names[1:]:
        difference = facts[name][f"minus {names[0]}"]
        gap = facts[name]["nats_per_token"] - facts[names[0]]["nats_per_token"]
        assert difference["nats_per_token"] == pytest.approx(gap)
        low, high = difference["nats_per_token_95_texts"]
        assert low < difference["nats_per_token"] < high
        assert 0 <= difference["p_texts"] <= 1
    assert f"less {names[0]}" in unmask(*line)


def test_a_stride_gives_every_token_more_to_see(unmask, zoo, text_file):
    line = ("evaluate", "--model", zoo / "gpt2", "--data", text_file, "--window", 16, "--json")
    plain, sliding = (
        json.loads(unmask(*line, *more))[str(zoo / "gpt2")] for more in ((), ("--stride", 4))
    )
    assert plain["tokens"] == sliding["tokens"]
    assert plain["nats"] != sliding["nats"]


@pytest.mark.parametrize("model", ["roberta", "gpt2"])
def test_nats_of_every_token_add_up_to_the_score(unmask, zoo, model):
    line = ("score", "The cat sat on the mat.", "--model", zoo / model, "--per-token", "--json")
    ways = [(), ("--order", "left-to-right"), ("--order", "right-to-left"), ("--pseudo",)]
    for way in ways if model == "roberta" else ways[:1]:
        facts = json.loads(unmask(*line, *way))
        assert "".join(one["token"] for one in facts["per_token"]) == "The cat sat on the mat."
        nats = sum(one["nats"] for one in facts["per_token"])
        assert nats == pytest.approx(facts["nats"])
    assert facts["kind"] == ("pseudo" if model == "roberta" else "exact")


def test_a_row_of_the_table_is_the_same_in_any_batch(unmask, zoo, text_file):
    line = ("evaluate", "--model", zoo / "roberta", "--data", text_file, "--json")
    one, other = (
        json.loads(unmask(*line, "--batch-size", size))[str(zoo / "roberta")] for size in (3, 32)
    )
    assert one["nats"] == pytest.approx(other["nats"], rel=1e-5)


@pytest.mark.parametrize("other", ["gpt2", "llama", "bert"])
def test_compare_races_two_models(unmask, zoo, tmp_path, other):
    line = ("compare", "The cat", "--models", zoo / "roberta", zoo / other, "--length", 9)
    gif = tmp_path / "race.gif"
    facts = json.loads(unmask(*line, "--json", "--gif", gif))
    diffusion, second = facts.values()
    assert diffusion["settings"]["sampler"] == "ancestral"
    assert second["settings"]["sampler"] == ("ancestral" if other == "bert" else "autoregressive")
    assert second["text"].lower().startswith("the cat")
    if other != "bert":
        assert second["nfe"] == 9
    assert gif.read_bytes()[:4] == b"GIF8"
    out = unmask(*line)
    assert " times faster" in out


def test_info_of_a_foreign_model_and_of_the_bundled_one(unmask, zoo):
    facts = json.loads(unmask("info", zoo / "gpt2", "--json"))
    assert facts["architecture"] == "gpt2"
    assert facts["kind"] == "causal"
    assert "masked" in unmask("info")


def test_warnings_of_libraries_do_not_reach_a_user_and_ours_do():
    script = (
        "import warnings\nfrom unmask.cli import main\nmain(['--version'])\n"
        "for kind, module in [(FutureWarning, 'unmask.x'), (UserWarning, 'torch.optim')]:\n"
        "    warnings.warn_explicit('theirs', kind, 'file.py', 1, module)\n"
        "warnings.warn_explicit('ours', UserWarning, 'file.py', 2, 'unmask.training.job')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert "ours" in done.stderr
    assert "theirs" not in done.stderr


def test_a_card_is_printed_as_words(unmask):
    out = unmask("info")
    assert not set("{}[]\"'…") & set(out)
    assert not re.search(r"\d\.\d{5}", out)
    assert not re.search(r"(^| )(None|True|False)\b", out, re.MULTILINE)
    assert re.search(r"^sampler +ancestral, steps: 64, top p: 0\.9$", out, re.MULTILINE)
    facts = json.loads(unmask("info", "--json"))
    for name, score in facts["scores"].items():
        (line,) = [line for line in out.splitlines() if f" {name}: " in line]
        assert f"nats per token: {score['nats_per_token']:.4g}" in line
        assert f"tokens: {score['tokens']:,}" in line


@pytest.mark.parametrize("width", [30, 50, 120])
def test_a_card_in_a_terminal_is_wrapped_and_nothing_is_cut(width):
    facts = {"model": "a" * 70, "scores": {"set": {"exact": True, "nats": 12345.678, "n": 10_000}}}
    facts |= {
        "sampler": {"name": "one", "eta": 0.123456, "steps": [8, 4]},
        "nothing": {},
        "zero": 0,
    }
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show(facts, console)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert "".join(line[9:] for line in lines).count("a" * 5) == 14
    words = " ".join(" ".join(line[9:].split()) for line in lines[70 // (width - 9) :])
    assert words.endswith("set: exact: yes, nats: 12,346, n: 10,000 one, eta: 0.1235, steps: 8 4")


def test_intervals_of_a_card_stand_beside_their_number():
    score = {"nats_per_token": 4.5, "nats_per_token_95_masks": [4.4, 4.6]}
    score |= {"nats_per_token_95_texts": [4.0, 5.0]}
    score |= {"perplexity": 90.0, "perplexity_95": [80.0, 99.0]}
    console = Console(file=io.StringIO(), width=200)
    show({"scores": {"set": score}}, console)
    words = console.file.getvalue().replace("\xa0", " ")
    assert "nats per token: 4.5 (95 % over masks: 4.4 to 4.6; 95 % over texts: 4 to 5)" in words
    assert "perplexity: 90 (95 %: 80 to 99)" in words


def test_quiet_leaves_results_and_errors_alone_and_verbose_adds_timings(zoo, capsys):
    line = ["generate", "The ☃ cat", "--model", str(zoo / "bert"), "--length", "3"]
    said = {}
    for flag in ("-q", "--no-animate", "-v"):
        environment = dict(os.environ)
        assert main([*line, flag]) == 0
        os.environ.clear()
        os.environ.update(environment)
        said[flag] = capsys.readouterr()
    assert said["-q"].err == ""
    assert "note: " in said["--no-animate"].err
    assert re.search(r"generated in \d+\.\d\d s, \d+ network calls", said["-v"].err)
    assert len({found.out for found in said.values()}) == 1
    assert main([*line, "-q", "--steps", "0"]) == 2
    assert capsys.readouterr().err == "unmask: --steps must be from 1 to 100,000, not 0\n"
    assert main([*line, "-q", "-v"]) == 2
    assert "contradict each other" in capsys.readouterr().err


def test_a_shell_completes_verbs_options_and_choices():
    def completed(words: str) -> set[str]:
        about = {"_UNMASK_COMPLETE": "bash_complete", "COMP_WORDS": f"unmask {words}"}
        about["COMP_CWORD"] = str(len(words.split()))
        done = subprocess.run(
            [sys.executable, "-c", "from unmask.cli import run; run()"],
            env=os.environ | about,
            capture_output=True,
            text=True,
            check=False,
        )
        return {line.partition(",")[2] for line in done.stdout.splitlines()}

    assert completed("gen") == {"generate"}
    assert "--sampler" in completed("generate --sam")
    assert completed("generate --sampler remdm-l") == {"remdm-loop"}


def test_the_bundled_model_writes_and_is_better_than_chance(unmask):
    facts = json.loads(unmask("generate", "The history of", "--length", 10, "--json"))
    assert facts["text"].startswith("The history of")
    score = json.loads(unmask("score", "It was the first of the two games .", "--json"))
    assert score["nats_per_token"] < 8.5, "worse than a uniform guess among 8192 tokens"


def test_the_list_of_recipes(unmask):
    names = [line.split()[0] for line in unmask("train", "--list").splitlines()]
    assert {"diffuse", "roberta-diffusion", "mlm", "tiny", "ar"} <= set(names)


@pytest.mark.parametrize(
    "verb", ["", "generate", "infill", "score", "evaluate", "compare", "train"]
)
def test_help_names_the_options(unmask, verb):
    out = unmask(*verb.split(), "--help")
    assert "Usage: unmask" in out
    assert ("--seed" in out) == (verb not in ("", "train"))


@pytest.mark.parametrize("verb", ["generate", "infill", "compare"])
def test_short_help_begins_with_the_options_used_most(unmask, verb):
    out = unmask(verb, "--help")
    first = out.partition("Most used:")[2].partition("\n\n")[0]
    names = re.findall(r"^  --([a-z-]+)", first, re.MULTILINE)
    assert len(names) <= 10
    known = {name.replace("_", "-").removeprefix("as-") for name in MOST_USED} | {"match"}
    assert set(names) <= known
    assert "--help-all" in out
    assert "--alg-temperature" not in out


@pytest.mark.parametrize("verb", ["generate", "infill", "compare"])
def test_help_has_every_option_once_under_a_heading(unmask, verb):
    out = unmask(verb, "--help-all")
    headings = [line.rstrip(":") for line in out.splitlines() if line[:1].isalpha()][1:]
    assert headings == [name for name in [*GROUPS, "Other"] if name in headings]
    other = re.findall(r"--[a-z-]+", out.rpartition("Other:")[2])
    assert other == ["--verbose", "--quiet", "--help", "--help-all"]
    command = cli.get_command(click.Context(cli), verb)
    for option in command.params:
        if isinstance(option, click.Option):
            assert len(re.findall(rf"^  {option.opts[0]}\b(?!-)", out, re.MULTILINE)) == 1
