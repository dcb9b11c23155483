"""Writing in any order with a cache: exact conditionals, an exact likelihood, the same text."""

import itertools
import json

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    EsmConfig,
    FNetConfig,
)

from checks import assert_law, generator, golden, random_joint
from test_training import run_train
from unmask import Unmasker
from unmask.diffusion.formulation import AnyOrderFormulation
from unmask.diffusion.objectives.any_order import order_nelbo, order_token_nats, random_ranks
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import stratified_times, time_grid
from unmask.errors import UserError
from unmask.models.any_order import AnyOrderDenoiser, shuffle
from unmask.models.extra_weights import equip
from unmask.models.ordered_attention import attach
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import make_sampler
from unmask.sampling.token_sampling import Draw
from unmask.training import recipe_file as recipes

ZOO = ("bert", "roberta", "modernbert", "distilbert", "electra", "albert")
MASK, LENGTH = 4, 12
TEXT = "The cat sat on the mat today.\nA dog looked at the river again.\n"


class Conditionals:
    """An exact denoiser asked for one conditional after the other."""

    def __init__(self, joint):
        self.joint, self.vocab_size, self.data_ids = joint, joint.vocab_size, joint.data_ids

    def conditionals(self, x0, rank, at, valid=None):
        logits = []
        for row, place in at.nonzero().tolist():
            hidden = rank[row] >= rank[row, place]
            xt = x0[row : row + 1].masked_fill(hidden[None], self.joint.mask_token_id)
            logits.append(self.joint(xt, torch.ones(1))[0, place])
        return torch.stack(logits)


def network(zoo, name: str) -> AnyOrderDenoiser:
    model = AutoModelForMaskedLM.from_pretrained(zoo / name).eval().double()
    attach(model)
    return AnyOrderDenoiser(model, [MASK], MASK)


def rows(denoiser, count: int = 3) -> torch.Tensor:
    return torch.randint(5, denoiser.vocab_size, (count, LENGTH), generator=generator(0))


@pytest.mark.parametrize("joint", [golden(), random_joint(3, 4)], ids=["golden", "random"])
def test_the_likelihood_in_every_order_is_that_of_the_joint(joint):
    x0 = joint.sequences()
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    for order in itertools.permutations(range(joint.length)):
        rank = torch.tensor(order).expand_as(x0)
        nats = order_token_nats(Conditionals(joint), x0, rank, everywhere).sum(1)
        assert torch.allclose(nats, -joint.log_prob(x0), atol=1e-9)
    t = stratified_times(len(x0), generator(1))
    loss = order_nelbo(Conditionals(joint), x0, t, everywhere, generator(2))
    assert torch.allclose(loss.nats, -joint.log_prob(x0), atol=1e-9)
    assert loss.tokens.tolist() == [joint.length] * len(x0)


def test_given_tokens_come_first_and_padding_last():
    editable = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 1, 1]]).bool()
    valid = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    rank = random_ranks(editable, valid, generator(0))
    assert rank.sort(1).values.tolist() == [list(range(6))] * 2
    assert rank[0, :2].max() < rank[0, 2:5].min()
    assert rank[0, 5] == 5
    assert rank[1, [0, 3]].max() < rank[1, [1, 2, 4, 5]].min()
    many = torch.ones(60_000, 3, dtype=torch.bool)
    orders = random_ranks(many, None, generator(1)) @ torch.tensor([9, 3, 1])
    counts = torch.stack([(orders == code).sum() for code in orders.unique()])
    assert len(counts) == 6
    assert_law(counts, torch.full((6,), 1 / 6))


@pytest.mark.parametrize("name", ZOO)
def test_a_conditional_depends_on_what_was_written_before_and_on_nothing_else(zoo, name):
    denoiser = network(zoo, name)
    x0 = rows(denoiser, 1)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    rank = random_ranks(everywhere, None, generator(3))
    with torch.no_grad():
        logits = denoiser.conditionals(x0, rank, everywhere)
        moved = torch.zeros(LENGTH, LENGTH)
        for place in range(LENGTH):
            other = x0.clone()
            other[0, place] = 5 if x0[0, place] != 5 else 6
            change = denoiser.conditionals(other, rank, everywhere) - logits
            moved[place] = change[:, 5:].abs().amax(1)
    before = rank[0][:, None] < rank[0]
    assert moved[~before].max() < 1e-9, "a later token, or the token itself, was seen"
    seen = (moved > 1e-6) & before
    # A window of attention does not reach every pair through two layers.
    assert seen.sum() > (0.6 if name == "modernbert" else 0.99) * before.sum()


@pytest.mark.parametrize("name", ZOO)
def test_a_session_gives_the_conditionals_of_its_order(zoo, name):
    denoiser = network(zoo, name)
    x0 = rows(denoiser)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    rank = random_ranks(everywhere, None, generator(3))
    with torch.no_grad():
        whole = denoiser.conditionals(x0, rank, everywhere).view(*x0.shape, -1)
        for cached in (True, False):
            session = denoiser.session(cached)
            for step in range(LENGTH):
                at = rank == step
                xt = x0.masked_fill(rank >= step, MASK)
                logits = session(xt, torch.ones(3), at=at)
                assert torch.allclose(logits[:, 5:], whole[at][:, 5:], atol=1e-9)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("tokens", [1000, LENGTH, 3 * LENGTH])
def test_the_cache_changes_no_guess(zoo, name, tokens, monkeypatch):
    """Rows of different length that pause, finish and write several tokens at once.

    The cached ones run a few at a time.
    """
    denoiser = network(zoo, name)
    x0, rng = rows(denoiser, 4), generator(5)
    valid = torch.arange(LENGTH) < torch.tensor([12, 12, 9, 6])[:, None]
    masked = valid & (torch.rand(x0.shape, generator=rng) < 0.9)
    kept, forgotten = denoiser.session(True), denoiser.session(False)
    asked = 0
    with torch.no_grad():
        while masked.any():
            at = masked & (torch.rand(x0.shape, generator=rng) < 0.4)
            xt = x0.masked_fill(masked, MASK).masked_fill(~valid, 0)
            monkeypatch.setattr("unmask.models.encoder._CPU_TOKENS", tokens)
            one = kept(xt, torch.ones(4), at=at, valid=valid)
            monkeypatch.undo()
            two = forgotten(xt, torch.ones(4), at=at, valid=valid)
            assert one.shape == (int(at.sum()), denoiser.vocab_size)
            assert torch.allclose(one[:, 5:], two[:, 5:], atol=1e-9)
            masked = masked & ~(at & (torch.rand(x0.shape, generator=rng) < 0.7))
            asked += 1
    assert asked > 5


def test_a_changed_token_starts_the_row_anew(zoo):
    denoiser = network(zoo, "bert")
    x0 = rows(denoiser, 2)
    at = torch.zeros_like(x0, dtype=torch.bool)
    at[:, -1] = True
    xt = x0.masked_fill(at, MASK)
    session = denoiser.session()
    with torch.no_grad():
        session(xt, torch.ones(2), at=at)
        xt[0, 3] = 5 if xt[0, 3] != 5 else 6
        again = session(xt, torch.ones(2), at=at)
        assert torch.allclose(again[:, 5:], denoiser(xt, torch.ones(2), at=at)[:, 5:], atol=1e-9)
    with pytest.raises(UserError, match="predicts masks only"):
        session(xt, torch.ones(2), at=~at)


def test_a_row_does_not_depend_on_its_batch_or_its_padding(zoo):
    denoiser = network(zoo, "roberta")
    x0 = rows(denoiser, 2)
    masked = torch.rand(x0.shape, generator=generator(1)) < 0.5
    xt = x0.masked_fill(masked, MASK)
    wide = torch.cat([xt, torch.ones(2, 4, dtype=torch.int64)], 1)
    at = torch.cat([masked, torch.zeros(2, 4, dtype=torch.bool)], 1)
    valid = torch.arange(LENGTH + 4).expand(2, -1) < LENGTH
    with torch.no_grad():
        both = denoiser(wide, torch.ones(2), at=at, valid=valid)
        alone = [
            denoiser(xt[i : i + 1], torch.ones(1), at=masked[i : i + 1]) for i in range(len(xt))
        ]
    assert torch.allclose(both[:, 5:], torch.cat(alone)[:, 5:], atol=1e-9)


def test_an_attached_model_called_plainly_is_as_it_was(zoo):
    plain = AutoModelForMaskedLM.from_pretrained(zoo / "modernbert").eval()
    x0 = torch.randint(5, 90, (2, LENGTH), generator=generator(0))
    mask = (torch.arange(LENGTH) < torch.tensor([12, 7])[:, None]).long()
    with torch.no_grad():
        before = plain(input_ids=x0, attention_mask=mask).logits
        attach(plain)
        after = plain(input_ids=x0, attention_mask=mask).logits
    assert torch.allclose(before[mask.bool()], after[mask.bool()], atol=1e-5)


def test_the_fixed_order_of_a_short_text_is_that_of_a_long_one():
    long, short = shuffle(200, "cpu"), shuffle(50, "cpu")
    assert sorted(long.tolist()) == list(range(200))
    assert long[:50].argsort().tolist() == short.argsort().tolist()


def tiny() -> AnyOrderDenoiser:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=4,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        initializer_range=0.4,
        pad_token_id=None,
    )
    model = BertForMaskedLM(config).eval()
    attach(model)
    return AnyOrderDenoiser(model, [3], 3)


def test_one_token_a_step_has_the_law_of_the_average_order():
    denoiser, count = tiny(), 12_000
    x0 = torch.cartesian_prod(*[torch.arange(3)] * 3)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    with torch.no_grad():
        law = sum(
            (-order_token_nats(denoiser, x0, rank.expand_as(x0), everywhere).sum(1)).exp()
            for rank in map(torch.tensor, itertools.permutations(range(3)))
        )
    blank = Canvas.from_rows([[None] * 3] * count, 3, 0)
    # In so many steps two tokens are hardly ever written at once.
    *_, last = sample(
        denoiser.session(),
        AbsorbingProcess(Polynomial(), 3),
        blank,
        RandomOrder(),
        Draw(),
        time_grid(400),
        RowRng(torch.arange(count)),
    )
    code = last.canvas.ids @ torch.tensor([9, 3, 1])
    counts = torch.bincount(code, minlength=27)
    assert (law / 6).sum() == pytest.approx(1, abs=1e-5)
    assert_law(counts, law / 6)


@torch.no_grad()
@pytest.mark.parametrize("cached", [True, False])
def test_what_was_dropped_behind_an_end_is_not_seen_any_more(zoo, cached):
    """Also where it was written before the end was, and is an end symbol itself."""
    denoiser = network(zoo, "roberta")
    session, end = denoiser.session(cached), 9
    xt = torch.tensor([[5, 6, MASK, MASK, MASK, MASK, MASK, end]])
    at, valid = xt == MASK, torch.ones_like(xt, dtype=torch.bool)
    before = session(xt, torch.ones(1), at=at, valid=valid)
    xt = torch.tensor([[5, 6, MASK, MASK, end, end, end, end]])
    at, valid = xt == MASK, torch.arange(8)[None] < 5
    after = session(xt, torch.ones(1), at=at, valid=valid)
    alone = denoiser(xt[:, :5], torch.ones(1), at=at[:, :5])
    assert torch.allclose(after, alone, atol=1e-9)
    assert not torch.allclose(before[:2], after, atol=1e-3)


def test_cached_and_uncached_write_the_same(zoo):
    denoiser = network(zoo, "roberta")
    for name in ("ancestral", "maskgit", "threshold"):
        sampler = make_sampler(name, steps=6)
        written = []
        for cached in (True, False):
            canvas = Canvas.from_rows([[0, 9, 8, *[None] * 20], [0, *[None] * 9]], MASK, 1)
            *_, last = sample(
                denoiser.session(cached),
                AbsorbingProcess(Polynomial(), MASK),
                canvas,
                sampler.policy,
                sampler.drawing,
                sampler.times(20),
                RowRng(torch.tensor([1, 2])),
            )
            written.append(last.canvas.ids.tolist())
        assert written[0] == written[1]


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_it_is_trained_scored_and_sampled_from_by_name(zoo, text_file, tmp_path, name, capsys):
    out = tmp_path / "model"
    assert run_train("any-order", text_file, out, "--model", zoo / name) == 0
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    assert card["attention"] == "any-order"
    # Random weights as sharp as these: between 5.5 and 6.1, as the tokenizer breaks its ties.
    assert 4 < card["scores"]["validation"]["nats_per_token"] < 8
    writer = Unmasker.from_pretrained(str(out))
    assert isinstance(writer.formulation, AnyOrderFormulation)
    kept = writer.generate("The cat", length=20, steps=8, seed=3)
    again = Unmasker.from_pretrained(str(out), cache="off").generate(
        "The cat", length=20, steps=8, seed=3
    )
    assert kept.texts == again.texts
    batch = writer.generate("The cat", length=20, steps=8, seed=3, num_samples=3)
    assert batch.texts[0] == kept.texts[0]
    one, two = (writer.score(TEXT, draws=64, seed=seed) for seed in (0, 1))
    assert one.nats == pytest.approx(two.nats, rel=0.02)
    assert writer.infill("The [MASK:2-3] sat.").texts
    with pytest.raises(UserError, match="predicts masks only"):
        writer.generate("The", sampler="refine")
    with pytest.raises(UserError, match="bound in steps is not supported for any-order models"):
        writer.score(TEXT, num_steps=4)
    saved = tmp_path / "copy"
    writer.save_pretrained(saved)
    copy = Unmasker.from_pretrained(str(saved))
    assert copy.generate("The cat", length=20, steps=8, seed=3).texts == kept.texts
    # An ordinary checkpoint for everybody else, but not to be trained on as what it is not.
    assert AutoModelForMaskedLM.from_pretrained(out).config._attn_implementation == "sdpa"
    capsys.readouterr()
    assert run_train("md4", text_file, tmp_path / "other", "--model", out) == 2
    assert "was trained with model.attention=any-order" in capsys.readouterr().err


def test_a_network_that_guesses_by_more_than_it_may_see_is_refused(zoo):
    small = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 60}
    esm = {"num_attention_heads": 2, "mask_token_id": 4, "pad_token_id": 1}
    esm |= {"position_embedding_type": "rotary", "max_position_embeddings": 64}
    model = AutoModelForMaskedLM.from_config(FNetConfig(**small))
    with pytest.raises(UserError, match="does not let its attention be replaced"):
        equip(model, "none", {"name": "linear"}, "any-order")
    for dropout in (False, True):
        # What ESM scales by the share of masks is held.
        config = EsmConfig(**small, **esm, token_dropout=dropout)
        model = AutoModelForMaskedLM.from_config(config).train()
        equip(model, "none", {"name": "linear"}, "any-order")
        assert model.training
    # Few words, words that were never trained, and parts that are to stay without dropout.
    bert = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert |= {"intermediate_size": 64}
    few = BertForMaskedLM(BertConfig(**bert, vocab_size=6))
    bare = BertForMaskedLM(BertConfig(**bert, vocab_size=60))
    bare.bert.embeddings.word_embeddings.weight.data[:8] = 0
    still = BertForMaskedLM(BertConfig(**bert, vocab_size=60))
    for layer in still.bert.encoder.layer:
        layer.attention.output.dense.weight.data.zero_()
    still.bert.embeddings.eval()
    for model in (few, bare, still):
        equip(model, "none", {"name": "linear"}, "any-order")
    assert not still.bert.embeddings.training
    for name in ZOO:
        model = AutoModelForMaskedLM.from_pretrained(zoo / name)
        equip(model, "none", {"name": "linear"}, "any-order")


def test_a_network_that_counts_the_masks_is_refused(zoo):
    model = AutoModelForMaskedLM.from_pretrained(zoo / "bert")
    model.config.mask_token_id = 4

    def scaled(_module, args, output):
        return output * (1 + (args[0] == 4).float().mean(1)[:, None, None])

    model.get_input_embeddings().register_forward_hook(scaled)
    with pytest.raises(UserError, match="more than the tokens that it may see"):
        equip(model, "none", {"name": "linear"}, "any-order")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.attention": "any-ordr"}, "did you mean 'any-order'"),
        ({"objective.num_steps": 8}, "in continuous time"),
        ({"schedule.name": "spindle"}, "one schedule for all tokens"),
        ({"process.name": "uniform"}, "the absorbing process"),
        ({"model.time": "adaln"}, "model.time = 'none'"),
    ],
)
def test_what_does_not_go_together_is_said(settings, words):
    with pytest.raises(UserError, match=words):
        recipes.load("any-order", [f"{key}={value}" for key, value in settings.items()])
