"""Texts longer than a window: the law of a chain, rows by themselves, and what a user sees."""

import json
from itertools import pairwise

import pytest
import torch

from checks import Recorder, assert_law, chain, generator
from conftest import POSITIONS
from laws import counts_of
from test_cli import PLAIN
from test_sampler import OneAtATime
from unmask import Unmasker
from unmask.cli import main, printing
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import MarkovOracle
from unmask.models.checkpoint import Card
from unmask.models.encoder import EncoderDenoiser
from unmask.pipelines.prompts import make_window
from unmask.pipelines.recorder import CELLS, Recording
from unmask.sampling.canvas import Canvas
from unmask.sampling.logits_processors import BannedPhrases
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import SAMPLERS
from unmask.sampling.sliding_window import Window, slide
from unmask.sampling.token_sampling import Draw


def written(oracle, rows, window, policy=None, steps=8, seeds=None, end=None):
    """Return all frames of writing on rows with an exact denoiser."""
    mask = oracle.vocab_size
    process = AbsorbingProcess(Polynomial(), mask)
    canvas = Canvas.from_rows(rows, mask, mask)
    rng = RowRng(torch.arange(len(rows)) if seeds is None else seeds)

    def write(canvas, rng):
        grid = time_grid(steps)
        return sample(oracle, process, canvas, policy or RandomOrder(), Draw(), grid, rng, end=end)

    return list(slide(write, canvas, rng, window, end))


@pytest.mark.parametrize("window", [(8, 3, 1), (8, 6, 1), (8, 1, 1), (5, 2, 0), (3, 1, 1)])
def test_windows_cover_a_row_once_from_left_to_right(window):
    size, stride, start = window
    view = Window(size, stride, start)
    for given in range(start, 20):
        for total in range(given + 1, 40):
            done, stretches = given, []
            while done < total:
                columns = view.columns(done, total)
                assert columns == sorted(set(columns))
                assert columns[:start] == list(range(start))
                assert columns[start:] == list(range(columns[start:][0], columns[-1] + 1))
                # As full as it can be, and never fuller.
                assert len(columns) == min(size, total)
                stretches.append(columns[-1] + 1 - done)
                # All that is new is seen at once, and something before it.
                assert columns[-stretches[-1] :] == list(range(done, columns[-1] + 1))
                assert stretches[-1] < len(columns) or not done
                done = columns[-1] + 1
            assert done == total
            assert stretches[0] == min(total - given, max(size - given, stride))
            assert all(n == stride for n in stretches[1:-1])
            assert all(n <= stride for n in stretches[1:])


TWO = MarkovOracle(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64),
)


@pytest.mark.parametrize("window", [(4, 2, 0), (3, 1, 0), (2, 1, 0), (5, 3, 0)])
def test_a_chain_is_written_exactly_through_any_window(window):
    """The next token of a Markov chain depends on the last one only, which every window shows."""
    *_, last = written(TWO, [[None] * 6] * 20_000, Window(*window), OneAtATime())
    assert_law(counts_of(last.canvas.ids, 2), TWO.joint(6).probs)
    # After a prompt, also one that is longer than the window: from its last token on.
    prompt = [1, 1, 0, 1, 0, 0]
    *_, last = written(TWO, [[*prompt, *[None] * 5]] * 20_000, Window(*window), OneAtATime())
    assert torch.equal(last.canvas.ids[:, :6], torch.tensor([prompt] * 20_000))
    assert_law(counts_of(last.canvas.ids[:, 6:], 2), TWO.joint(6).probs[0] / 0.3)


def test_frames_show_the_whole_row_and_count_everything_through():
    rows = [[0, *[None] * 20], [1, 2, 0, 1, *[None] * 9], [2, None, None]]
    asked = Recorder(chain())
    frames = written(asked, rows, Window(6, 3, 1))
    first, last = frames[0], frames[-1]
    assert [frame.step for frame in frames] == sorted({frame.step for frame in frames})
    assert last.nfe == len(asked.calls) == sum(bool(f.revealed.any()) for f in frames[1:])
    assert torch.equal(first.canvas.masked, first.canvas.editable)
    assert not last.canvas.masked.any()
    assert last.time[0] > 0
    assert (last.time[1:] == 0).all(), "shorter rows take no part in the last stretch"
    assert last.confidence.isnan().equal(~last.canvas.editable)
    for before, frame in pairwise(frames):
        assert torch.equal(frame.canvas.editable, first.canvas.editable)
        assert torch.equal(frame.canvas.valid, first.canvas.valid)
        assert torch.equal(frame.revealed, before.canvas.masked & ~frame.canvas.masked)
        assert torch.equal(frame.canvas.ids == 3, frame.canvas.masked | ~frame.canvas.valid)
        kept = ~before.canvas.masked
        assert torch.equal(before.canvas.ids[kept], frame.canvas.ids[kept])
        # Between chunks it is left to right: no mask is left a window after the last token.
        for row in range(3):
            seen = (frame.canvas.valid & ~frame.canvas.masked)[row].nonzero()[:, 0]
            hidden = frame.canvas.masked[row].nonzero()[:, 0]
            assert not len(hidden) or int(seen.max()) - int(hidden.min()) < 6


@pytest.mark.parametrize("window", [(6, 3, 1), (4, 1, 1), (9, 7, 1)])
def test_a_row_does_not_depend_on_its_batch(window):
    rows = [[0, *[None] * 20], [1, 2, 0, 1, 1, 0, 2, *[None] * 9], [2, None, None], [0] * 30]
    seeds = torch.randint(2**62, (4,), generator=generator(0))
    *_, together = written(chain(), rows, Window(*window), seeds=seeds)
    for i, row in enumerate(rows):
        *_, alone = written(chain(), [row], Window(*window), seeds=seeds[i : i + 1])
        assert alone.canvas.ids[0].tolist() == together.canvas.ids[i, : len(row)].tolist()


def test_a_row_that_fits_is_written_as_without_a_window():
    rows = [[0, *[None] * 8], [1, 2, None, None]]
    for window in (Window(9, 3, 1), Window(30, 3, 1), None):
        free, same = written(chain(), rows, None), written(chain(), rows, window)
        assert len(free) == len(same)
        for a, b in zip(free, same, strict=True):
            for name in ("ids", "masked", "editable", "valid"):
                assert torch.equal(getattr(a.canvas, name), getattr(b.canvas, name))
            assert (a.step, a.nfe) == (b.step, b.nfe)
            assert torch.equal(a.time, b.time)
    # And the first chunk of a longer row is what fills the window.
    *_, short = written(chain(), [[0, *[None] * 8]], None)
    *_, long = written(chain(), [[0, *[None] * 30]], Window(9, 4, 1))
    assert torch.equal(long.canvas.ids[:, :9], short.canvas.ids)
    # The next one has random numbers of its own.
    *_, twice = written(chain(), [[0, *[None] * 17]] * 300, Window(9, 8, 0))
    assert len({tuple(row[1:9]) for row in twice.canvas.ids.tolist()}) > 100
    assert (twice.canvas.ids[:, 1:9] == twice.canvas.ids[:, 9:17]).double().mean() < 0.7


@pytest.fixture(scope="module")
def roberta(zoo) -> Unmasker:
    return Unmasker.from_pretrained(str(zoo / "roberta"))


LONG = 2 * POSITIONS + 7


def ids_of(writer, prompt="The cat", **options):
    *_, last = writer.stream(prompt, steps=6, seed=5, **options)
    return last.canvas.ids


def test_a_length_beyond_the_positions_is_written_by_sliding(roberta):
    given = 1 + len(roberta.codec.encode("The cat"))
    long = ids_of(roberta, length=LONG, num_samples=2)
    assert long.shape == (2, given + LONG)
    assert torch.isin(long[:, given:], roberta.denoiser.data_ids).all()
    short = ids_of(roberta, length=POSITIONS - given, num_samples=2)
    assert torch.equal(long[:, :POSITIONS], short)
    settings = roberta.generate("The cat", length=LONG, steps=6).settings
    assert settings["length"] == LONG
    assert settings["window"] == POSITIONS
    assert settings["stride"] == (POSITIONS - 1) // 2
    assert "window" not in roberta.generate("The cat", length=5, window=20).settings


def test_the_network_never_sees_more_than_the_window(roberta, monkeypatch):
    widths = []
    real = EncoderDenoiser.__call__

    def spy(self, xt, t, **options):
        widths.append(xt.shape[1])
        return real(self, xt, t, **options)

    monkeypatch.setattr(EncoderDenoiser, "__call__", spy)
    roberta.generate(["The cat", "very " * 50], length=70, window=30, steps=4)
    assert set(widths) == {30}


@pytest.mark.parametrize("name", PLAIN)
def test_long_texts_of_several_prompts_are_what_each_is_alone(roberta, name):
    prompts = ["The cat", "", "the moon and the river" + " today" * 30]
    options = {"sampler": name, "seed": 5, "steps": 5, "length": 60, "window": 24, "stride": 9}
    together = roberta.generate(prompts, **options)
    assert list(together.texts) == [roberta.generate(p, **options).texts[0] for p in prompts]
    assert together.texts[2].startswith(prompts[2])
    two = roberta.generate("The cat", num_samples=2, **options)
    assert two.texts[0] == together.texts[0]
    assert (two.texts[0] == two.texts[1]) == SAMPLERS[name].greedy


@pytest.mark.parametrize("name", ["gibbs", "gibbs-sequential"])
def test_gibbs_slides_as_well(roberta, name):
    long = ids_of(roberta, length=50, window=24, stride=9, sampler=name, burn_in=2)
    assert torch.isin(long[:, -50:], roberta.denoiser.data_ids).all()


def test_a_prompt_that_fills_the_model_needs_a_length(roberta):
    prompt = "the moon" + " the moon" * POSITIONS
    with pytest.raises(UserError, match=f"{POSITIONS} positions"):
        roberta.generate(prompt)
    assert len(ids_of(roberta, prompt, length=3)[0]) == 1 + len(roberta.codec.encode(prompt)) + 3


def test_the_command_line_slides_and_records(zoo, tmp_path, capsys):
    files = {f"--{end}": tmp_path / f"run.{end}" for end in ("gif", "html")}
    files["--frames"] = tmp_path / "run.jsonl"
    line = ["generate", "The cat", "--model", zoo / "roberta", "--length", 40, "--window", 20]
    line += ["--stride", 6, "--steps", 3, "--json"]
    for option, file in files.items():
        line += [option, file]
    assert main([str(word) for word in line]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"] | {"length": 40, "window": 20, "stride": 6} == facts["settings"]
    lines = [json.loads(line) for line in files["--frames"].read_text().splitlines()][1:]
    prompt, whole = len(lines[0]["pieces"]) - 40, len(lines[0]["pieces"])
    states = [set(line["status"][prompt:]) for line in lines]
    assert states[0] == {"masked"}
    assert states[-1] <= {"kept", "revealed"}
    assert all(line["status"][:prompt] == ["given"] * prompt for line in lines)
    assert all(len(line["pieces"]) == whole for line in lines)
    assert facts["text"].startswith("The cat")
    assert [line["nfe"] for line in lines] == sorted(line["nfe"] for line in lines)
    assert lines[-1]["nfe"] == facts["nfe"]
    assert main(["show", str(files["--frames"])]) == 0
    assert capsys.readouterr().out == printing.visible("".join(lines[-1]["pieces"])) + "\n"


def test_what_cannot_slide_is_refused(roberta, zoo):
    for options, says in [
        ({"window": POSITIONS + 1}, f"at most the {POSITIONS} positions"),
        ({"window": 2}, "at least 3"),
        ({"window": -5}, "at least 1"),
        ({"window": 10, "stride": 9}, "an earlier token in a window of 10, must be from 1 to 8"),
        ({"window": 10, "stride": 0}, "stride, in tokens that the window moves by, .* at least 1"),
        ({"stride": POSITIONS}, f"from 1 to {POSITIONS - 2}"),
    ]:
        with pytest.raises(UserError, match=says):
            roberta.generate("The cat", length=200, **options)
    for told in ({"window": 20}, {"stride": 3}, {"stop_at_end": True}):
        with pytest.raises(UserError, match=f"blanks of its own, so leave {next(iter(told))} out"):
            roberta.infill("The [MASK] sat.", **told)
    with pytest.raises(UserError, match=f"{POSITIONS} positions"):
        roberta.infill(f"The [MASK:{POSITIONS}] sat.")
    for card, says in [
        (Card(process="uniform"), "is not supported for uniform-noise models"),
        (Card(pairs={"before": "", "between": " "}), "on pairs"),
    ]:
        other = Unmasker(roberta.model, roberta.codec, card)
        with pytest.raises(UserError, match=f"{POSITIONS} positions"):
            other.generate("The cat", length=POSITIONS)
        for told in ({"window": 20}, {"stride": 3}):
            with pytest.raises(UserError, match=says):
                other.generate("The cat", length=20, **told)


def test_a_ban_holds_across_stretches_or_is_refused(roberta):
    ban = "cat sat on"
    longest = max(map(len, roberta.codec.spellings(ban)))
    assert longest > 2
    # The start symbol, the stride, and all but one token of the ban.
    for stride, size in [(2, longest + 2), (5, longest + 5)]:
        options = {"length": 40, "steps": 1, "window": size, "stride": stride}
        assert roberta.generate("The cat", ban=ban, **options).texts
        with pytest.raises(UserError, match=f"is {longest} tokens, but a chunk sees only"):
            roberta.generate("The cat", ban=ban, **options | {"window": size - 1})
        # Where nothing slides there is no seam.
        assert roberta.generate("", ban=ban, **options | {"length": 4, "window": size - 1}).texts


def test_a_phrase_is_seen_where_one_chunk_meets_the_next():
    """Of K tokens, where a chunk sees K - 1 before it; and is not where it sees fewer."""
    rows, phrases = [[None] * 30] * 400, [(1, 1, 1), (0, 1, 1)]
    process = AbsorbingProcess(Polynomial(), 3)

    def crossing(window: Window) -> int:
        canvas = Canvas.from_rows(rows, 3, 3)

        def write(canvas, rng):
            banned = BannedPhrases(chain(), phrases)
            return sample(banned, process, canvas, RandomOrder(), Draw(), time_grid(4), rng)

        *_, last = slide(write, canvas, RowRng(torch.arange(len(rows))), window)
        runs = last.canvas.ids.unfold(1, 3, 1)
        return sum(int((runs == torch.tensor(phrase)).all(2).sum()) for phrase in phrases)

    assert crossing(Window(6, 4, 0)) == crossing(Window(4, 2, 0)) == 0
    assert crossing(Window(5, 4, 0)) > 0


def test_without_a_limit_only_a_window_slides(roberta):
    codec = roberta.codec
    assert make_window(codec, None, None, None) is None
    assert make_window(codec, None, 40, None) == Window(40, 19, 1)
    assert make_window(codec, 64, None, 5) == Window(64, 5, 1)
    assert make_window(codec, 3, None, None) == Window(3, 1, 1)
    with pytest.raises(UserError, match="needs a window"):
        make_window(codec, None, None, 5)


def test_a_recording_that_gets_too_long_is_thinned_out():
    rows = CELLS // 1024 // 8
    frames = written(chain(), [[None] * 8], None)
    wide = torch.zeros(rows, 8, dtype=torch.bool)
    recording, all_of_them = Recording(), Recording()
    for step in range(5000):
        frame = frames[0].__class__(
            step,
            *(getattr(frames[0], n) for n in ("time", "canvas", "revealed", "remasked")),
            frames[0].confidence,
            step,
        )
        all_of_them.add(frame, float(step))
        canvas = Canvas(wide.long(), wide, wide, wide)
        recording.add(
            frame.__class__(step, frame.time, canvas, wide, wide, wide.float(), step), step
        )
        steps = [f.step for f in recording.frames]
        assert steps[0] == 0
        assert steps[-1] == step
        assert len(steps) <= 1024 + 2
        assert recording.seconds == steps
    assert len(all_of_them.frames) == 5000
    assert len({b - a for a, b in pairwise(steps[:-1])}) == 1
    assert len(steps) > 512
