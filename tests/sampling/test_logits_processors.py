"""What must not be written is not, whoever writes; and the penalty is what its authors define."""

from itertools import pairwise, permutations, product

import pytest
import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from checks import assert_law, chain, generator, random_joint
from laws import CHAINS, counts_of
from test_sampler import OneAtATime
from unmask import Unmasker
from unmask.diffusion.denoiser import masked_cross_entropy
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, MarkovOracle
from unmask.pipelines.autoregressor import Autoregressor
from unmask.sampling.canvas import Canvas
from unmask.sampling.logits_processors import Banned, BannedPhrases, RepetitionPenalty, Restriction
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import SAMPLERS, make_sampler
from unmask.sampling.token_sampling import Draw

SIZE = 7
MASK, PAD = SIZE, SIZE + 1


class Fixed:
    """A denoiser that answers with the logits it was made with, whatever it is shown."""

    vocab_size = SIZE

    def __init__(self, logits: Tensor, data_ids: Tensor | None = None) -> None:
        self.logits = logits
        self.data_ids = torch.arange(SIZE) if data_ids is None else data_ids

    def __call__(self, xt, t, *, at=None, valid=None):
        return self.logits.clone() if at is None else self.logits[at]


def random_rows(rows: int, length: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids with masks and padding in them, what is valid, and logits."""
    rng = generator(seed)
    ids = torch.randint(SIZE, (rows, length), generator=rng)
    ids[torch.rand(ids.shape, generator=rng) < 0.4] = MASK
    size = torch.randint(2, length + 1, (rows, 1), generator=rng)
    valid = torch.arange(length) < size
    # What stands on padding is an id like any other for some tokenizers.
    ids = torch.where(valid, ids, torch.where(size % 2 == 0, PAD, 3))
    return ids, valid, 3 * torch.randn(rows, length, SIZE, generator=rng)


def penalised(ids: Tensor, valid: Tensor, logits: Tensor, penalty: float) -> Tensor:
    """Return the definition of the penalty, one number at a time."""
    result = logits.clone()
    for b, i in product(range(ids.shape[0]), range(ids.shape[1])):
        others = [j for j in range(ids.shape[1]) if j != i and valid[b, j]]
        for v in {int(ids[b, j]) for j in others} & set(range(SIZE)):
            value = float(logits[b, i, v])
            result[b, i, v] = value / penalty if value > 0 else value * penalty
    return result


@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.3, 5.0])
def test_penalty_against_its_definition(penalty):
    ids, valid, logits = random_rows(40, 9, 0)
    before = logits.clone()
    wrapped, t = RepetitionPenalty(Fixed(logits), penalty), torch.ones(40)
    expected = penalised(ids, valid, logits, penalty)
    assert torch.allclose(wrapped(ids, t, valid=valid), expected)
    # Visible tokens that are queried do not count for themselves, but for all others.
    for seed in range(3):
        at = (torch.rand(ids.shape, generator=generator(seed)) < 0.5) & valid
        assert torch.allclose(wrapped(ids, t, at=at, valid=valid), expected[at])
    everywhere = penalised(ids, torch.ones_like(valid), logits, penalty)
    assert torch.allclose(wrapped(ids, t), everywhere)
    assert torch.equal(logits, before), "the logits of the network were written over"
    assert (penalty == 1) == torch.equal(expected, logits)


def test_penalty_is_that_of_transformers():
    ids, _, logits = random_rows(30, 6, 1)
    ids = ids.clamp_max(SIZE - 1)
    hidden = torch.randint(6, (30,), generator=generator(2))
    at = torch.arange(6) == hidden[:, None]
    given = ids[~at].view(30, 5)
    expected = RepetitionPenaltyLogitsProcessor(1.4)(given, logits[at])
    answer = RepetitionPenalty(Fixed(logits), 1.4)(ids.masked_fill(at, MASK), torch.ones(30), at=at)
    assert torch.allclose(answer, expected)


def test_penalty_knows_neither_names_nor_order_nor_padding():
    ids, valid, logits = random_rows(30, 8, 3)
    t = torch.ones(30)
    answer = RepetitionPenalty(Fixed(logits), 1.5)(ids, t, valid=valid)
    # Other names for the tokens.
    names = torch.randperm(SIZE, generator=generator(4))
    renamed = torch.cat([names, torch.tensor([MASK, PAD])])[ids]
    permuted = RepetitionPenalty(Fixed(logits[..., names.argsort()]), 1.5)(renamed, t, valid=valid)
    assert torch.equal(permuted[..., names], answer)
    # Another order of the positions.
    order = torch.rand(ids.shape, generator=generator(5)).argsort(1)
    moved = logits.gather(1, order[..., None].expand(-1, -1, SIZE))
    shuffled = RepetitionPenalty(Fixed(moved), 1.5)(
        ids.gather(1, order), t, valid=valid.gather(1, order)
    )
    assert torch.equal(shuffled, answer.gather(1, order[..., None].expand(-1, -1, SIZE)))
    # More padding.
    wide = torch.cat([ids, torch.full((30, 3), 2)], 1)
    room = torch.cat([valid, torch.zeros(30, 3, dtype=torch.bool)], 1)
    more = torch.cat([logits, torch.zeros(30, 3, SIZE)], 1)
    padded = RepetitionPenalty(Fixed(more), 1.5)(wide, t, valid=room)
    assert torch.equal(padded[:, :8][valid], answer[valid])


def test_what_is_impossible_stays_impossible():
    ids, _, logits = random_rows(20, 6, 6)
    logits[..., 4] = -torch.inf
    data = torch.tensor([0, 1, 2, 3, 5, 6])
    answer = RepetitionPenalty(Fixed(logits, data), 0.5)(ids, torch.ones(20))
    assert torch.equal(answer.isneginf(), logits.isneginf())
    assert not answer.isnan().any()


def test_a_ban_is_minus_infinity_and_nothing_else():
    ids, _, logits = random_rows(10, 6, 7)
    banned = Banned(Fixed(logits), torch.tensor([5, 2, MASK, 99]))
    assert banned.vocab_size == SIZE
    assert banned.data_ids.tolist() == [0, 1, 3, 4, 6]
    answer = banned(ids, torch.ones(10))
    assert answer[..., [2, 5]].isneginf().all()
    assert torch.equal(answer[..., [0, 1, 3, 4, 6]], logits[..., [0, 1, 3, 4, 6]])
    # A text that holds what is banned is impossible, any other is not.
    masked = torch.tensor([[True, True]])
    blank, one, other = torch.full((1, 2), MASK), torch.tensor([[0, 5]]), torch.tensor([[0, 4]])
    inner = Banned(Fixed(logits[:1, :2]), torch.tensor([5]))
    assert masked_cross_entropy(inner, blank, torch.ones(1), one, masked).isinf()
    assert masked_cross_entropy(inner, blank, torch.ones(1), other, masked).isfinite()


def test_something_must_be_left_to_write():
    everything = Fixed(torch.zeros(1, 2, SIZE))
    with pytest.raises(UserError, match="every token is banned"):
        Banned(everything, torch.arange(SIZE))
    Banned(everything, torch.arange(SIZE - 1))
    with pytest.raises(UserError, match="use every token"):
        BannedPhrases(everything, [(0, 1, 2), (3, 4), (5, 6)])
    with pytest.raises(UserError, match="two tokens or more"):
        BannedPhrases(everything, [(1,)])


def completed(row: tuple[int, ...], phrases: list[tuple[int, ...]]) -> set[tuple[int, int]]:
    """Return which phrases (by index) stand in a row, and where."""
    return {
        (k, i)
        for k, phrase in enumerate(phrases)
        for i in range(len(row) - len(phrase) + 1)
        if row[i : i + len(phrase)] == phrase
    }


PHRASES = [[(0, 1)], [(1, 1)], [(0, 1, 0)], [(1, 1, 0), (0, 1)], [(0, 0, 1, 1)]]


@pytest.mark.parametrize("phrases", PHRASES, ids=str)
def test_no_phrase_is_completed_however_many_tokens_are_written_at_once(phrases):
    """Every canvas of four positions, and every set of them that is queried.

    None of the combinations that are left completes a phrase, also if some of the visible tokens
    that were queried stay as they are. And nothing is ruled out without need: each token that
    is would complete a phrase with some choice of the others.
    """
    vocab, length, mask = 3, 4, 3
    oracle = JointOracle(torch.full((vocab,) * length, vocab**-length, dtype=torch.float64))
    flat = Fixed(torch.zeros(1, length, vocab), oracle.data_ids)
    ruled_out = 0
    canvases = torch.tensor(list(product(range(vocab + 1), repeat=length)))
    chosen = torch.rand(len(canvases), generator=generator(8)) < 0.25
    for row in canvases[chosen].tolist():
        for asked in product([False, True], repeat=length):
            at = torch.tensor([asked])
            places = [i for i in range(length) if asked[i]]
            answer = BannedPhrases(flat, phrases)(torch.tensor([row]), torch.ones(1), at=at)
            allowed = [answer[n].isfinite().nonzero()[:, 0].tolist() for n in range(len(places))]
            before = completed(tuple(row), phrases)
            ends: list[set[int]] = [set() for _ in places]
            options = [[*range(vocab), *([row[i]] if row[i] < mask else [])] for i in places]
            for choice in product(*options):
                # The last option of a visible position is to stay, written or not.
                after = list(row)
                for i, token in zip(places, choice, strict=True):
                    after[i] = token
                new = completed(tuple(after), phrases) - before
                for k, first in new:
                    span = range(first, first + len(phrases[k]))
                    last = max(i for i in places if i in span and after[i] != row[i])
                    ends[places.index(last)].add(after[last])
            for n, i in enumerate(places):
                for token in range(vocab):
                    if token == row[i]:
                        continue  # To write what is there completes nothing new.
                    needed = token in ends[n]
                    assert (token not in allowed[n]) == needed, (row, asked, i, token)
                    ruled_out += needed
    assert ruled_out > 100


class LeaveOneOut:
    """Exact predictions that are not conditioned on the token at the queried position."""

    def __init__(self, inner: MarkovOracle) -> None:
        self.inner, self.vocab_size, self.data_ids = inner, inner.vocab_size, inner.data_ids

    def __call__(self, xt, t, *, at=None, valid=None):
        columns = torch.eye(xt.shape[1], dtype=torch.bool)
        views = [self.inner(xt.masked_fill(one, 3), t, valid=valid)[:, one] for one in columns]
        logits = torch.cat(views, 1)
        return logits if at is None else logits[at]


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_writes_what_is_banned(name):
    oracle, length = LeaveOneOut(chain()), 12
    sampler = make_sampler(name, steps=40 if name in CHAINS else 6)
    process = AbsorbingProcess(Polynomial(), 3)
    canvas = Canvas.from_rows([[None] * length, [1, *[None] * 6, 2, *[None] * 4]] * 60, 3, 3)
    rng, grid = RowRng(torch.arange(120)), sampler.times(length)

    def written(denoiser):
        frames = sample(denoiser, process, canvas, sampler.policy, sampler.drawing, grid, rng)
        return [tuple(row) for row in list(frames)[-1].canvas.ids.tolist()]

    def holding(rows, *phrases):
        return sum(bool(completed(row, list(phrases))) for row in rows)

    assert holding(written(oracle), (0, 0)) > 5
    assert not holding(written(BannedPhrases(oracle, [(0, 0), (0, 2, 0)])), (0, 0), (0, 2, 0))
    assert not holding(written(Banned(oracle, torch.tensor([0]))), (0,))
    both = BannedPhrases(Banned(oracle, torch.tensor([0])), [(1, 1)])
    assert not holding(written(both), (0,), (1, 1))


def test_a_dead_end_is_one_clear_sentence():
    """Phrases and what a denoiser rules out itself may leave nothing between two given tokens."""
    process, rng = AbsorbingProcess(Polynomial(), 3), RowRng(torch.zeros(1).long())
    probs = torch.zeros(3, 3, 3, dtype=torch.float64)
    probs[0, 0, 0] = 1
    canvas = Canvas.from_rows([[0, None, 0]], 3, 3)
    denoiser = BannedPhrases(JointOracle(probs), [(0, 0)])
    frames = sample(denoiser, process, canvas, RandomOrder(), Draw(), time_grid(1), rng)
    next(frames)
    with pytest.raises(UserError, match="every token is excluded"):
        next(frames)


def law_of_one_at_a_time(oracle: JointOracle, phrases, banned) -> Tensor:
    """Return the law when no token may be written that completes a phrase or is banned."""
    law = torch.zeros_like(oracle.probs)
    size, length = oracle.vocab_size, oracle.length

    def go(row, order, weight):
        if not order:
            law[tuple(row)] += weight
            return
        i = order[0]
        xt = torch.tensor([[size if v is None else v for v in row]])
        probs = oracle(xt, torch.ones(1))[0, i].exp()
        for v in range(size):
            after = [*row[:i], v, *row[i + 1 :]]
            if v in banned or completed(tuple(after), phrases):
                probs[v] = 0
        for v in (probs > 0).nonzero()[:, 0].tolist():
            go([*row[:i], v, *row[i + 1 :]], order[1:], weight * float(probs[v] / probs.sum()))

    orders = list(permutations(range(length)))
    for order in orders:
        go([None] * length, order, 1 / len(orders))
    return law


@pytest.mark.parametrize(
    ("phrases", "banned"), [([(0, 1)], []), ([(1, 1), (2, 1, 2)], []), ([(0, 0)], [1]), ([], [2])]
)
def test_one_token_a_step_has_the_law_of_a_ban_by_enumeration(phrases, banned):
    oracle = random_joint(3, 3)
    denoiser = oracle
    if phrases:
        denoiser = BannedPhrases(denoiser, phrases)
    if banned:
        denoiser = Banned(denoiser, torch.tensor(banned))
    canvas = Canvas.from_rows([[None] * 3] * 20_000, 3, 3)
    process, rng = AbsorbingProcess(Polynomial(), 3), RowRng(torch.arange(20_000))
    *_, last = sample(denoiser, process, canvas, OneAtATime(), Draw(), time_grid(3), rng)
    assert_law(counts_of(last.canvas.ids, 3), law_of_one_at_a_time(oracle, phrases, banned))


@pytest.fixture(scope="module")
def roberta(zoo) -> Unmasker:
    return Unmasker.from_pretrained(str(zoo / "roberta"))


def ids_of(writer: Unmasker, **options) -> list[list[int]]:
    *_, last = writer.stream("The cat", length=50, num_samples=12, **options)
    return last.canvas.ids[:, 1 + len(writer.codec.encode("The cat")) :].tolist()


def test_what_has_to_match_is_written_without_the_phrase(roberta):
    """Within a blank and across its edges; what matches without the phrase is always found."""
    spellings = roberta.codec.spellings
    for phrase, wish, template in [
        ("the cat", " ?the (cat|dog)", "[MASK:{}] sat."),
        ("cat sat", " ?(cat|dog)", "The [MASK:{}] sat."),
        ("The cat", " ?(cat|dog)", "The[MASK:{}] sat."),
    ]:
        banned = {tuple(ids) for ids in spellings(phrase) if len(ids) > 1}
        assert banned
        size = max(map(len, spellings("the dog" if "the" in wish else "dog")))
        for steps in (1, 2, size + 1):
            options = {"steps": steps, "num_samples": 20, "matching": wish, "ban": phrase}
            *_, last = roberta.stream(template.format(size), **options)
            rows = [tuple(row) for row in last.canvas.ids.tolist()]
            assert all(not completed(row, [ids]) for row in rows for ids in banned)
            assert any("dog" in roberta.codec.decode(list(row)) for row in rows)


@pytest.mark.parametrize("name", ["ancestral", "refine", "threshold", "maskgit"])
def test_a_writer_leaves_out_what_it_is_told_to(roberta, name):
    options = {"sampler": name, "steps": 12, "temperature": 3.0}
    free = ids_of(roberta, **options)
    # A token that is often written, and two that stand side by side.
    words = {i: roberta.codec.tokenizer.decode([i]) for row in free for i in row}
    plain = {i for i, word in words.items() if word.strip().isalpha() and word.isascii()}
    one = max(plain, key=lambda i: sum(i in row for row in free))
    pairs = [p for row in free for p in pairwise(row) if set(p) <= plain - {one}]
    pairs = [p for p in pairs if list(p) in roberta.codec.spellings(words[p[0]] + words[p[1]])]
    # The greedy one writes the same few words in every row.
    assert pairs or name == "threshold"
    bans = [words[one], *(words[first] + words[second] for first, second in pairs[:2])]
    forbidden = [tuple(ids) for ban in bans for ids in roberta.codec.spellings(ban)]
    for phrase in [(one,), *pairs[:2]]:
        assert phrase in forbidden
        assert any(completed(tuple(row), [phrase]) for row in free)
    for row in ids_of(roberta, ban=bans, **options):
        assert not completed(tuple(row), forbidden)
    assert roberta.generate("A", length=5, ban=bans).settings["ban"] == bans


def test_an_autoregressive_writer_leaves_it_out_as_well(zoo):
    writer = Autoregressor.from_pretrained(str(zoo / "gpt2"))

    def pieces(**options):
        return (
            writer.generate("The cat", length=40, seed=1, **options).tracks[0].snapshots[-1].pieces
        )

    free = pieces()
    prompt = len(free) - 40
    letters = [piece for piece in free[prompt:] if piece.isascii() and piece.isalpha()]
    assert letters
    banned = pieces(ban=letters)
    assert not set(banned[prompt:]) & set(letters)
    # Without chance the penalty is all that keeps the most likely token from coming again.
    greedy, varied = pieces(temperature=0), pieces(temperature=0, repetition_penalty=3.0)
    assert len(set(varied[prompt:])) > len(set(greedy[prompt:]))


def test_the_penalty_makes_a_writer_repeat_itself_less(roberta):
    def different(**options):
        return sum(len(set(row)) for row in ids_of(roberta, steps=50, temperature=0.5, **options))

    plain, less, more = (
        different(),
        different(repetition_penalty=2.0),
        different(repetition_penalty=0.5),
    )
    assert more < plain < less
    assert different(repetition_penalty=1.0) == plain
    settings = roberta.generate("A", length=5, repetition_penalty=2.0).settings
    assert settings["repetition_penalty"] == 2.0


def test_restrictions_compose_with_everything_that_is_written(roberta):
    """Blanks of unknown length, several prompts, and rows that do not depend on their batch."""
    options = {"ban": [" the", "cat"], "repetition_penalty": 1.5, "steps": 8, "seed": 3}
    templates = ["The [MASK:1-4] sat.", "A dog [MASK:6]", "[MASK:3] the river [MASK]"]
    together = roberta.infill(templates, **options)
    assert list(together.texts) == [roberta.infill(one, **options).texts[0] for one in templates]


def test_spellings_are_what_a_tokenizer_writes(roberta, zoo):
    codec = roberta.codec
    assert codec.spellings("</s>")[0] == [codec.end]
    for text in ("cat", "the river", "Z~"):
        ways = codec.spellings(text)
        assert [codec.decode(ids) for ids in ways] in ([text, f" {text}"], [text])
    bert = Unmasker.from_pretrained(str(zoo / "bert")).codec
    assert bert.spellings("the cat") == [bert.encode("the cat")]
    with pytest.raises(UserError, match="no tokens for '☃'"):
        bert.spellings("☃")
    assert bert.spellings("[UNK]")[0] == [bert.tokenizer.unk_token_id]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ban": ""}, "text to be left out"),
        ({"ban": ["cat", " "]}, "text to be left out"),
        ({"ban": 5}, "list of texts"),
        ({"ban": [7]}, "must be a text, not 7"),
        ({"repetition_penalty": 0.0}, "from 0.000001"),
        ({"repetition_penalty": -1.2}, "from 0.000001"),
        ({"repetition_penalty": float("nan")}, "from 0.000001"),
        ({"repetition_penalty": float("inf")}, "from 0.000001"),
    ],
)
def test_a_restriction_that_makes_no_sense_is_refused(options, says):
    with pytest.raises(UserError, match=says):
        make_sampler("ancestral", **options)


def test_a_ban_of_the_whole_vocabulary_is_refused(roberta):
    data = roberta.denoiser.data_ids.tolist()
    for left, phrase in ((0, [0, 1]), (1, [data[0], data[1]])):
        spell = {"most": [[i] for i in data[left:]], "rest": [phrase]}
        with pytest.raises(UserError, match="allow at least one"):
            Restriction(ban=("most", "rest")).around(roberta.denoiser, spell.__getitem__)
