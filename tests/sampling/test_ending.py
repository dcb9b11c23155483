"""Stopping at the end symbol: the law of what stands before it, what it spares, and for whom."""

import json

import pytest
import torch

from checks import Recorder, assert_law, chain, generator, random_joint
from laws import ancestral_law
from test_sampler import OneAtATime
from test_sliding_window import written
from unmask import Unmasker
from unmask.cli import main, printing
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.models.checkpoint import Card
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.confidence import MostConfident
from unmask.sampling.samplers.registry import SAMPLERS
from unmask.sampling.sliding_window import Window

END, MASK = 2, 3


def texts(frame) -> list[tuple[int, ...]]:
    canvas = frame.canvas
    return [tuple(row[valid].tolist()) for row, valid in zip(canvas.ids, canvas.valid, strict=True)]


def until_end(row) -> tuple[int, ...]:
    """Return a row up to its first end symbol, which belongs to it."""
    row = tuple(row)
    return row[: row.index(END) + 1] if END in row else row


def law_of_texts(probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    law: dict[tuple[int, ...], float] = {}
    for row in torch.cartesian_prod(*[torch.arange(3)] * probs.ndim).tolist():
        law[until_end(row)] = law.get(until_end(row), 0) + float(probs[tuple(row)])
    return law


def assert_texts(frame, law) -> None:
    names = {text: i for i, text in enumerate(law)}
    counts = torch.tensor([names[text] for text in texts(frame)]).bincount(minlength=len(names))
    assert_law(counts, torch.tensor(list(law.values())))


def test_what_stands_before_the_end_has_the_law_of_the_data():
    """What is thrown away after the end does not decide what stands before it."""
    oracle = random_joint()
    *_, last = written(oracle, [[None] * 4] * 20_000, None, OneAtATime(), 4, end=END)
    law = law_of_texts(oracle.probs)
    assert len(law) == 1 + 2 + 4 + 8 + 16
    assert_texts(last, law)


def test_a_step_of_ancestral_sampling_has_its_law_as_well():
    """In one step every token is drawn from its marginal, and the end only cuts."""
    oracle, process = random_joint(), AbsorbingProcess(Polynomial(), MASK)
    *_, last = written(oracle, [[None] * 4] * 20_000, None, steps=1, end=END)
    law = ancestral_law(oracle, process, time_grid(1)).view(3, 3, 3, 3)
    assert_texts(last, law_of_texts(law))


@pytest.mark.parametrize("window", [None, Window(4, 2, 0), Window(3, 1, 0)])
def test_a_long_text_that_ends_early_has_its_law(window):
    law = law_of_texts(chain().joint(6).probs)
    *_, last = written(chain(), [[None] * 6] * 30_000, window, OneAtATime(), 6, end=END)
    assert sum(law.values()) == pytest.approx(1)
    common = {text: p for text, p in law.items() if p * 30_000 > 6}
    names = {text: i for i, text in enumerate(common)}
    counts = torch.tensor([names.get(text, len(names)) for text in texts(last)])
    probs = torch.tensor([*common.values(), 1 - sum(common.values())])
    assert_law(counts.bincount(minlength=len(probs)), probs)


def test_nothing_is_predicted_after_an_end_and_rows_only_get_shorter():
    asked = Recorder(chain())
    rows = [[0, *[None] * 11], [END, 1, *[None] * 6]] * 50
    for policy, window in ((None, None), (MostConfident(), None), (None, Window(6, 3, 1))):
        asked.calls.clear()
        frames = written(asked, rows, window, policy, steps=9, end=END)
        ended = 0
        for frame in frames:
            canvas = frame.canvas
            for row in range(len(rows)):
                size = int(canvas.valid[row].sum())
                given = len([token for token in rows[row] if token is not None])
                shown = canvas.ids[row, given:size].tolist()
                # An end symbol in the prompt ends nothing.
                if END in shown:
                    ended += 1
                    assert shown.index(END) == len(shown) - 1
                    assert not canvas.masked[row, size:].any()
                    assert not canvas.editable[row, size:].any()
                else:
                    assert size == len(rows[row])
        assert ended > 100
        assert not frames[-1].canvas.masked.any()
        assert frames[-1].nfe == len(asked.calls)
        predictions = sum(int(at.sum()) for _, _, at in asked.calls)
        asked.calls.clear()
        written(asked, rows, window, policy, steps=9)
        assert predictions < sum(int(at.sum()) for _, _, at in asked.calls)


def test_a_row_that_ends_does_not_depend_on_its_batch():
    rows = [[0, *[None] * 11], [1, *[None] * 20], [END, 1, *[None] * 6]]
    seeds = torch.randint(2**62, (3,), generator=generator(1))
    for window in (None, Window(6, 3, 1)):
        *_, together = written(chain(), rows, window, seeds=seeds, end=END)
        for i, row in enumerate(rows):
            *_, alone = written(chain(), [row], window, seeds=seeds[i : i + 1], end=END)
            assert texts(alone)[0] == texts(together)[i]


def test_a_canvas_is_cut_at_the_first_end_after_the_last_given_token():
    rows = [
        [None, END, 0, None, None, None],  # The given end is no end.
        [0, None, None, None, None, None],
        [None, None, 1],
        [None, None, None, None],
    ]
    blank = Canvas.from_rows(rows, MASK, 0)
    assert torch.equal(blank.ended(END).valid, blank.valid)
    ids = torch.tensor([[END, 0, 0, 1, END, END], [0, 1, 1, END, 0, 0], [END] * 6, [1] * 6])
    shown = blank.masked.clone()
    shown[0, 5] = shown[1, 2] = shown[1, 5] = False  # Two stay masked, one of them is cut off.
    canvas = blank.reveal(shown, ids).ended(END)
    assert canvas.valid.sum(1).tolist() == [5, 4, 3, 4]
    assert canvas.masked.nonzero().tolist() == [[1, 2]]
    assert canvas.ids[1].tolist() == [0, 1, MASK, END, END, END]
    assert torch.equal(canvas.editable & ~canvas.valid, torch.zeros_like(canvas.valid))
    assert torch.equal(canvas.ended(END).ids, canvas.ids)


@pytest.fixture
def ending(zoo) -> Unmasker:
    """A model that writes an end symbol every twenty tokens or so."""
    writer = Unmasker.from_pretrained(str(zoo / "roberta"))
    with torch.no_grad():
        writer.model.lm_head.bias[writer.codec.end] += 6.0
    return writer


@pytest.mark.parametrize("name", ["ancestral", "threshold", "maskgit"])
def test_a_text_stops_at_its_end(ending, name):
    options = {"length": 55, "num_samples": 6, "steps": 20, "sampler": name, "temperature": 1.0}
    free = ending.generate("The cat", **options)
    stopped = ending.generate("The cat", stop_at_end=True, **options)
    assert stopped.settings["stop_at_end"] is True
    assert "stop_at_end" not in free.settings
    assert min(len(track.snapshots[-1].pieces) for track in stopped.tracks) < 55
    *_, last = ending.stream("The cat", stop_at_end=True, **options)
    codec, given = ending.codec, 1 + len(ending.codec.encode("The cat"))
    if name == "ancestral":  # By confidence an end may be what is written first.
        assert len(set(stopped.texts)) > 1
    for text, track, ids in zip(stopped.texts, stopped.tracks, texts(last), strict=True):
        assert codec.end not in ids[given:-1]
        assert codec.decode(list(ids)) == text
        assert len(track.snapshots[-1].pieces) == len(ids) - 1
    # Alone, a row that ends early needs fewer calls.
    alone = {"length": 55, "steps": 20, "sampler": name, "temperature": 1.0}
    calls = [
        [ending.generate("The cat", seed=s, stop_at_end=stop, **alone).nfe for s in range(4)]
        for stop in (False, True)
    ]
    assert sum(calls[1]) < 0.8 * sum(calls[0])


def test_an_end_also_ends_a_text_that_slides(ending):
    options = {"length": 300, "window": 30, "steps": 20, "stop_at_end": True}
    result = ending.generate(["The cat", "A dog"], num_samples=3, **options)
    assert result.nfe < 150
    for prompt, group in (("The cat", result.texts[:3]), ("A dog", result.texts[3:])):
        assert list(group) == list(ending.generate(prompt, num_samples=3, **options).texts)


def test_who_has_no_end_is_refused(ending, zoo):
    for name, kind in SAMPLERS.items():
        if kind().policy.revises:
            with pytest.raises(UserError, match="may change the end again"):
                ending.generate("The cat", sampler=name, stop_at_end=True)
    with pytest.raises(UserError, match="never writes an end symbol"):
        ending.generate("The cat", ban="</s>", stop_at_end=True)
    uniform = Unmasker(ending.model, ending.codec, Card(process="uniform"))
    with pytest.raises(UserError, match="may change the end again"):
        uniform.generate("The cat", length=5, stop_at_end=True)
    with pytest.raises(UserError, match="repetition_penalty is not supported for"):
        uniform.generate("The cat", length=5, repetition_penalty=1.5)
    other = Unmasker.from_pretrained(str(zoo / "roberta"))
    other.codec.tokenizer.eos_token = other.codec.tokenizer.sep_token = None
    with pytest.raises(UserError, match="no end symbol"):
        other.generate("The cat", stop_at_end=True)


def test_a_uniform_model_bans_in_its_text(ending):
    uniform = Unmasker(ending.model, ending.codec, Card(process="uniform"))
    word = ending.codec.tokenizer.decode([ending.codec.encode("The cat")[0]])
    forbidden = {ids[0] for ids in ending.codec.spellings(word) if len(ids) == 1}
    options = {"length": 40, "num_samples": 20, "steps": 3}
    for ban, unban in ((None, "</s>"), (word, "</s>"), (None, None)):
        *_, last = uniform.stream("A dog", ban=ban, unban=unban, **options)
        ids = set(last.canvas.ids[:, -40:].flatten().tolist())
        assert (ending.codec.end in ids) == (unban == "</s>")
        assert not (ids & forbidden) or ban != word


def test_the_command_line_stops_at_the_end(ending, tmp_path, capsys):
    ending.save_pretrained(tmp_path / "model")
    line = ["generate", "The cat", "--model", tmp_path / "model", "--length", 55, "--json"]
    line += ["--stop-at-end", "--gif", tmp_path / "run.gif", "--html", tmp_path / "run.html"]
    assert main([str(word) for word in [*line, "--frames", tmp_path / "run.jsonl"]]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"]["stop_at_end"] is True
    assert facts["text"].startswith("The cat")
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()[1:]]
    sizes = [len(line["pieces"]) for line in lines]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
    assert main(["show", str(tmp_path / "run.jsonl")]) == 0
    assert capsys.readouterr().out == printing.visible("".join(lines[-1]["pieces"])) + "\n"
