"""Guidance changes the prediction of a token as its formula says, and nothing else."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, ConvBertConfig, PreTrainedConfig

from checks import Recorder, assert_law, generator, random_joint
from conftest import configurations, story, wordpiece
from laws import counts_of
from test_sampler import OneAtATime
from unmask.data.text import TextCodec
from unmask.diffusion.denoiser import calls_of
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, TokenwiseOracle
from unmask.models.classifier import TextClassifier
from unmask.sampling.canvas import Canvas
from unmask.sampling.guidance import ClassifierFree, ClassifierGuided
from unmask.sampling.logits_processors import Banned
from unmask.sampling.policies.confidence import MostConfident
from unmask.sampling.policies.fixed_order import ByToken, RandomOrder
from unmask.sampling.sampler import sample
from unmask.sampling.token_sampling import Draw
from unmask.training.tokenizer import train_tokenizer

SIZE, LENGTH, MASK = 3, 4, 3


def oracle() -> JointOracle:
    return random_joint(SIZE, LENGTH)


def given_first(rows: int) -> Tensor:
    """The first token is the condition."""
    given = torch.zeros(rows, LENGTH, dtype=torch.bool)
    given[:, 0] = True
    return given


def guided(scale: float, rows: int, inner=None) -> ClassifierFree:
    return ClassifierFree(inner or oracle(), scale, given_first(rows), MASK)


def half_written(rows: int = 27) -> Tensor:
    """Every third token of a few rows is still a mask; the first never is."""
    ids = torch.randint(SIZE, (rows, LENGTH), generator=generator(0))
    hidden = torch.rand(rows, LENGTH, generator=generator(1)) < 0.4
    return ids.masked_fill(hidden & ~given_first(rows), MASK)


def run(denoiser, rows: int, policy=None, steps: int = 4, draw=None) -> list:
    canvas = Canvas.from_rows([[1, None, None, None]] * rows, MASK, 0)
    process, rng = AbsorbingProcess(Polynomial(), MASK), RowRng(torch.arange(rows))
    policy, draw = policy or RandomOrder(), draw or Draw()
    return list(sample(denoiser, process, canvas, policy, draw, time_grid(steps), rng))


# --- without a classifier ---


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_the_prediction_is_the_two_predictions_weighed(scale):
    xt = half_written()
    time, where = torch.ones(len(xt)), xt == MASK
    with_it = oracle()(xt, time).log_softmax(-1)
    without = oracle()(xt.masked_fill(given_first(len(xt)), MASK), time).log_softmax(-1)
    expected = (scale * with_it + (1 - scale) * without)[where].softmax(-1)
    found = guided(scale, len(xt))(xt, time, at=where)
    assert torch.allclose(found.softmax(-1), expected, rtol=1e-12)
    assert torch.equal(guided(scale, len(xt))(xt, time)[where], found)


@pytest.mark.parametrize("steps", [1, 5])
def test_scale_one_is_the_model_to_the_bit_and_no_dearer(steps):
    plain, same = run(oracle(), 50, steps=steps), run(guided(1.0, 50), 50, steps=steps)
    assert plain[-1].nfe == same[-1].nfe
    for a, b in zip(plain, same, strict=True):
        assert torch.equal(a.canvas.ids, b.canvas.ids)
        assert torch.equal(a.confidence.nan_to_num(), b.confidence.nan_to_num())


def test_scale_zero_never_looks_at_the_condition():
    recorder = Recorder(oracle())
    frames = run(guided(0.0, 20, recorder), 20)
    assert all((xt[:, 0] == MASK).all() for xt, _, _ in recorder.calls)
    assert frames[-1].nfe == len(recorder.calls)
    assert (frames[-1].canvas.ids[:, 0] == 1).all()


def test_other_scales_cost_two_evaluations_in_one_batch():
    recorder = Recorder(oracle())
    frames = run(guided(2.0, 20, recorder), 20)
    assert all(len(xt) == 40 for xt, _, _ in recorder.calls)
    assert frames[-1].nfe == 2 * len(recorder.calls)
    assert calls_of(guided(2.0, 1, guided(3.0, 1))) == 4


def test_a_condition_that_says_nothing_guides_nowhere():
    """Independent of the first token, the rest keeps its law whatever the scale."""
    rest = random_joint(SIZE, LENGTH - 1).probs
    independent = JointOracle(torch.tensor([0.2, 0.5, 0.3])[:, None, None, None] * rest)
    plain = run(independent, 200)
    for scale in (0.0, 0.3, 4.0):
        frames = run(guided(scale, 200, independent), 200)
        assert torch.equal(frames[-1].canvas.ids, plain[-1].canvas.ids)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("policy", [RandomOrder(), MostConfident("confidence")])
def test_a_network_that_does_not_read_the_label_generates_the_same_images(policy, scale):
    """Binary images of 2 x 3 pixels behind a label, to the bit."""
    images, label, mask, rows = random_joint(2, 6, seed=3), 3, 2, 4000

    class Blind:
        vocab_size, data_ids = 2, torch.arange(2)

        def __call__(self, xt, t, *, at=None, valid=None):
            logits = torch.cat([torch.zeros(len(xt), 1, 2), images(xt[:, 1:], t)], 1)
            return logits if at is None else logits[at]

    def ids(denoiser) -> Tensor:
        canvas = Canvas.from_rows([[label] + [None] * 6] * rows, mask, mask)
        process, rng = AbsorbingProcess(Polynomial(), mask), RowRng(torch.arange(rows))
        *_, last = sample(denoiser, process, canvas, policy, Draw(), time_grid(6), rng)
        assert (last.canvas.ids[:, 0] == label).all()
        return last.canvas.ids[:, 1:]

    given = (torch.arange(7) == 0).expand(rows, 7)
    assert torch.equal(ids(ClassifierFree(Blind(), scale, given, mask)), ids(Blind()))


@pytest.mark.parametrize("scale", [0.5, 2.5])
def test_a_single_blank_has_the_guided_law(scale):
    rows = 20_000
    canvas = Canvas.from_rows([[1, 2, None, 0]] * rows, MASK, 0)
    process, rng = AbsorbingProcess(Polynomial(), MASK), RowRng(torch.arange(rows))
    frames = list(
        sample(guided(scale, rows), process, canvas, RandomOrder(), Draw(), time_grid(3), rng)
    )
    probs = oracle().probs
    with_it, without = probs[1, 2, :, 0], probs[:, 2, :, 0].sum(0)
    law = (with_it / with_it.sum()) ** scale * (without / without.sum()) ** (1 - scale)
    assert_law(frames[-1].canvas.ids[:, 2].bincount(minlength=SIZE), law / law.sum())


def test_one_token_a_step_has_the_law_of_the_guided_predictions():
    scale, rows = 2.0, 15_000
    frames = run(guided(scale, rows), rows, OneAtATime(), steps=3)
    probs = oracle().probs
    states = torch.cartesian_prod(*[torch.arange(SIZE)] * 3)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    law = torch.zeros(len(states), dtype=torch.float64)
    for i, state in enumerate(states.tolist()):
        for order in orders:
            seen: dict[int, int] = {}
            chance = 1.0
            for place in order:
                predictions = []
                for table in (probs[1], probs.sum(0)):
                    for axis in range(3):
                        if axis in seen:
                            index = torch.tensor([seen[axis]])
                            table = table.index_select(axis, index)
                    table = table.sum(tuple(a for a in range(3) if a != place))
                    predictions.append(table / table.sum())
                mixed = predictions[0] ** scale * predictions[1] ** (1 - scale)
                chance *= float(mixed[state[place]] / mixed.sum())
                seen[place] = state[place]
            law[i] += chance / len(orders)
    counts = counts_of(frames[-1].canvas.ids[:, 1:], SIZE)
    used = law * rows >= 5
    assert_law(counts[used], law[used] / law[used].sum())


class Exponents:
    """1 - alpha_v(t) = t^(w_v)."""

    vocab_size = SIZE

    def mask_prob(self, t):
        return t[:, None] ** torch.tensor([0.4, 1.0, 2.5], dtype=torch.float64)


def tokenwise(joint: JointOracle) -> TokenwiseOracle:
    return TokenwiseOracle(joint, PerTokenProcess(Exponents(), MASK))


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.5])
def test_a_single_blank_has_the_guided_law_under_a_schedule_for_every_token(scale):
    """The given tokens are masked on purpose: at what rate they fade is no evidence about them."""
    rows, joint = 20_000, JointOracle(oracle().probs ** 2 / (oracle().probs ** 2).sum())
    given = torch.tensor([[True, True, False, True]]).expand(rows, -1)
    canvas = Canvas.from_rows([[1, 2, None, 0]] * rows, MASK, 0)
    exact, rng = tokenwise(joint), RowRng(torch.arange(rows))
    denoiser = ClassifierFree(exact, scale, given, MASK, True)
    steps = (denoiser, exact.process, canvas, ByToken(), Draw(), time_grid(6), rng)
    *_, last = sample(*steps)
    with_it, without = joint.probs[1, 2, :, 0], joint.probs.sum((0, 1, 3))
    law = (with_it / with_it.sum()) ** scale * without ** (1 - scale)
    assert_law(last.canvas.ids[:, 2].bincount(minlength=SIZE), law / law.sum())


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_a_condition_that_is_masked_on_purpose_is_no_evidence_of_the_time(scale):
    """At every state and several times, against the sum over all that the condition may be."""
    joint = JointOracle(oracle().probs ** 2 / (oracle().probs ** 2).sum())
    exact, x0 = tokenwise(joint), joint.sequences()
    states = torch.cartesian_prod(*[torch.arange(SIZE + 1)] * 3)
    xt = torch.cat([torch.full((len(states), 1), 1), states], 1)
    given, where = given_first(len(xt)), xt == MASK
    for t in (0.1, 0.4, 0.7):
        time = torch.full((len(xt),), t, dtype=torch.float64)
        rates = exact.process.schedule.mask_prob(time[:1])[0]
        fits = torch.where(where[:, None], rates[x0], (xt[:, None] == x0).double())
        predictions = []
        for factors in (fits, fits[..., 1:]):  # with the condition and without
            weight = joint.probs.flatten() * factors.prod(2)
            own = (x0[..., None] == torch.arange(SIZE)).double()
            law = torch.einsum("ns,slv->nlv", weight, own)[where]
            predictions.append(law / law.sum(1, keepdim=True))
        expected = predictions[0] ** scale * predictions[1] ** (1 - scale)
        expected = expected / expected.sum(1, keepdim=True)
        denoiser = ClassifierFree(exact, scale, given, MASK, True)
        for valid in (None, torch.ones_like(given)):
            found = denoiser(xt, time, at=where, valid=valid).softmax(1)
            assert torch.allclose(found, expected, atol=1e-9)
        masked = ClassifierFree(exact, scale, given, MASK)(xt, time, at=where).softmax(1)
        assert float((masked - expected).abs().sum(1).max()) > 0.02, "this schedule tells nothing"


def test_guidance_leaves_the_pace_alone_and_mixed_posteriors_would_not():
    """Mixing two posteriors over "token" and "still masked" turns u into u Z / (u Z + 1 - u)."""
    plain, frames = run(oracle(), 300, steps=6), run(guided(3.0, 300), 300, steps=6)
    for a, b in zip(plain, frames, strict=True):
        assert torch.equal(a.revealed, b.revealed)
    scale, xt = 3.0, half_written()
    time, where = torch.ones(len(xt)), xt == MASK
    two = Recorder(oracle())
    # The oracle answers in normalised log-probabilities, so what is left is the normaliser Z.
    normaliser = guided(scale, len(xt), two)(xt, time, at=where).logsumexp(-1).exp()
    assert (normaliser >= 1 - 1e-12).all()
    assert (normaliser > 1.05).any()
    t, s = torch.tensor([0.8, 0.5], dtype=torch.float64)
    u = float(AbsorbingProcess(Polynomial(), MASK).reveal_prob(t, s))
    (asked, _, at), *_ = two.calls
    posteriors = []
    for prediction in oracle()(asked, torch.ones(len(asked)), at=at).exp().chunk(2):
        stays = torch.full_like(prediction[:, :1], 1 - u)
        posteriors.append(torch.cat([u * prediction, stays], 1))
    mixed = posteriors[0] ** scale * posteriors[1] ** (1 - scale)
    written = 1 - mixed[:, -1] / mixed.sum(1)
    assert torch.allclose(written, u * normaliser / (u * normaliser + 1 - u), rtol=1e-9)
    half = guided(0.5, len(xt))(xt, time, at=where).logsumexp(-1).exp()
    assert (half <= 1 + 1e-12).all()


# --- with a classifier ---


@dataclass(frozen=True)
class Bayes:
    """The exact classifier of a joint in which a label, the first token, was marked out."""

    joint: Tensor
    label: int

    def log_prob(self, ids, valid):
        rows, size = len(ids), self.joint.shape[0]
        first = torch.full((rows, 1), size)
        prediction = JointOracle(self.joint)(torch.cat([first, ids], 1), torch.ones(rows))
        return prediction[:, 0, self.label]

    def slopes(self, ids, at, valid):
        raise AssertionError("there are no slopes to ask for")


@dataclass(frozen=True)
class Linear:
    """log p(y | x) = sum of weights of its tokens: a mask has one as well."""

    weights: Tensor  # (L, SIZE + 1)

    def log_prob(self, ids, valid):
        return self.weights[torch.arange(ids.shape[1]), ids].sum(1)

    def slopes(self, ids, at, valid):
        now = self.weights[torch.arange(ids.shape[1]), ids]
        return (self.weights - now[..., None])[at]


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_exact_form_is_the_rule_of_bayes(scale):
    """With the exact classifier and scale 1, the prediction is the one of the conditional."""
    joint = random_joint(SIZE, LENGTH, seed=5).probs
    unconditional = JointOracle(joint.sum(0))
    given = JointOracle(joint[2] / joint[2].sum())
    rows = torch.cartesian_prod(*[torch.arange(SIZE + 1)] * 3)
    where, time = rows == MASK, torch.ones(len(rows))
    for candidates in (SIZE, 50):
        denoiser = ClassifierGuided(unconditional, Bayes(joint, 2), scale, candidates, 7)
        found = denoiser(rows, time, at=where).softmax(-1)
        prior, exact = (o(rows, time, at=where).exp() for o in (unconditional, given))
        expected = prior ** (1 - scale) * exact**scale
        expected = expected / expected.sum(1, keepdim=True)
        assert torch.allclose(found, expected, rtol=1e-9)


def test_few_candidates_rule_the_others_out():
    xt = half_written()
    where, time = xt == MASK, torch.ones(len(xt))
    joint = random_joint(SIZE, LENGTH + 1, seed=6).probs
    one = ClassifierGuided(oracle(), Bayes(joint, 0), 2.0, 2)(xt, time, at=where)
    plain = oracle()(xt, time, at=where)
    assert (one.isneginf().sum(1) == 1).all()
    assert torch.equal(one.isneginf().int().argmax(1), plain.argmin(1))


def test_candidates_are_tokens_that_can_be_written():
    """Whatever is ruled out before is no candidate, and the classifier does not score it."""
    xt = half_written()
    where, time = xt == MASK, torch.ones(len(xt))
    joint = random_joint(SIZE, LENGTH + 1, seed=6).probs
    banned = Banned(oracle(), torch.tensor([0]))

    class Narrow(Bayes):
        def log_prob(self, ids, valid=None):
            # Every row is one of those given with one token written, and that is not the banned.
            written = ids[:, None] != xt
            token = (ids[:, None] * written).sum(2)
            assert ((written.sum(2) == 1) & (token != 0)).any(1).all()
            return super().log_prob(ids, valid)

    few = ClassifierGuided(banned, Narrow(joint, 0), 2.0, SIZE)(xt, time, at=where)
    plain = ClassifierGuided(oracle(), Bayes(joint, 0), 2.0, SIZE)(xt, time, at=where)
    assert few[:, 0].isneginf().all()
    assert torch.allclose(few[:, 1:], plain[:, 1:])


@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_the_first_order_form_is_exact_for_a_linear_classifier(scale):
    weights = torch.randn(LENGTH, SIZE + 1, dtype=torch.float64, generator=generator(3))
    xt = half_written()
    where, time = xt == MASK, torch.ones(len(xt))
    first = ClassifierGuided(oracle(), Linear(weights), scale)(xt, time, at=where)
    exact = ClassifierGuided(oracle(), Linear(weights), scale, SIZE)(xt, time, at=where)
    assert torch.allclose(first.softmax(1), exact.softmax(1), rtol=1e-12)
    assert not torch.allclose(first.softmax(1), oracle()(xt, time, at=where).exp(), rtol=0.1)


@pytest.mark.parametrize("policy", [RandomOrder(), MostConfident()])
def test_a_constant_classifier_changes_nothing(policy):
    constant = Linear(torch.full((LENGTH, SIZE + 1), -0.7, dtype=torch.float64))
    plain = run(oracle(), 100, policy)
    for candidates in (None, SIZE):
        frames = run(ClassifierGuided(oracle(), constant, 5.0, candidates), 100, policy)
        assert [f.canvas.ids.tolist() for f in frames] == [f.canvas.ids.tolist() for f in plain]
        assert frames[-1].nfe == 2 * plain[-1].nfe
        for a, b in pairwise(frames):
            assert b.nfe >= a.nfe


# --- a Hugging Face classifier ---


def pieces():
    text = story(300)
    return wordpiece(text), train_tokenizer([text], 330)


@pytest.fixture(scope="module")
def kit() -> dict:
    """Configurations and tokenizers of all architectures."""
    return configurations(*pieces())


def classifier(kit: dict, name: str) -> tuple[nn.Module, TextCodec]:
    config, tokenizer = kit[name]
    config.num_labels = 3
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    return model, TextCodec(tokenizer)


NAMES = ["bert", "roberta", "modernbert", "distilbert", "electra", "albert"]


def noised(codec: TextCodec) -> tuple[Tensor, Tensor]:
    texts = ["The cat sat on the mat.", "A dog slept under the moon today."]
    rows = [[*codec.start, *codec.encode(text)] for text in texts]
    canvas = Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id)
    ids = canvas.ids.clone()
    ids[:, [2, 4]] = codec.mask_token_id
    return ids, canvas.valid


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_reads_a_row_as_its_tokenizer_lays_it_out(kit, name):
    model, codec = classifier(kit, name)
    judge = TextClassifier(model, codec, 1)
    ids, valid = noised(codec)
    found = judge.log_prob(ids, valid)
    closing = [codec.end] if codec.end in codec.tokenizer("a")["input_ids"] else []
    assert closing == ([] if name in ("roberta", "modernbert") else [codec.end])
    for row in range(len(ids)):
        one = ids[row, valid[row]]
        closed = torch.cat([one, torch.tensor(closing, dtype=torch.int64)])[None]
        with torch.no_grad():
            expected = model(closed).logits.log_softmax(1)[0, 1]
        assert float(found[row]) == pytest.approx(float(expected), abs=1e-5)
        assert float(judge.log_prob(one[None], None)) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_the_first_order_change_of_a_classifier(kit, name):
    """Moving the embedding of a token a small step towards another changes log p by the slope."""
    model, codec = classifier(kit, name)
    model.double()
    judge = TextClassifier(model, codec, 2)
    ids, valid = noised(codec)
    at = ids == codec.mask_token_id
    slopes = judge.slopes(ids, at, valid)
    table = model.get_input_embeddings().weight.detach()
    assert slopes.shape == (int(at.sum()), len(table))
    places = at.nonzero().tolist()
    for index, token in ((0, 20), (1, 33), (3, 50)):
        row, column = places[index]
        values = []
        for step in (-1e-4, 1e-4):

            def move(_module, _args, output, row=row, column=column, token=token, step=step):
                output = output.clone()
                output[row, column] += step * (table[token] - table[ids[row, column]])
                return output

            handle = model.get_input_embeddings().register_forward_hook(move)
            values.append(judge._log_prob(ids, valid)[row].item())
            handle.remove()
        numeric = (values[1] - values[0]) / 2e-4
        assert float(slopes[index, token]) == pytest.approx(numeric, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_asked_of_rows_that_still_change_only(kit, name):
    model, codec = classifier(kit, name)
    judge, ran = TextClassifier(model.double(), codec, 2), []
    ids, valid = noised(codec)
    at = ids == codec.mask_token_id
    whole = judge.slopes(ids, at, valid).split(at.sum(1).tolist())
    model.get_input_embeddings().register_forward_hook(lambda *told: ran.append(len(told[2])))
    for row in range(len(ids)):
        if at[row].any():
            only = at & (torch.arange(len(ids)) == row)[:, None]
            assert torch.allclose(judge.slopes(ids, only, valid), whole[row], atol=1e-9)
            assert ran.pop() == 1
    assert judge.slopes(ids, torch.zeros_like(at), valid).shape == (0, whole[0].shape[1])


class Sum(nn.Module):
    """A classifier whose log p(label 0) is the sum of one number for each token."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, 1)
        nn.init.uniform_(self.embedding.weight, -0.3, -0.1)
        self.config = PreTrainedConfig(id2label={0: "yes", 1: "no"})
        self.device = torch.device("cpu")

    @property
    def base_model(self) -> nn.Module:
        return self

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids, attention_mask):
        total = (self.embedding(input_ids)[..., 0] * attention_mask).sum(1)
        logits = torch.stack([total, torch.log1p(-total.exp())], 1)
        return type("Output", (), {"logits": logits})


def test_slopes_of_a_linear_classifier_are_its_differences(kit):
    codec = TextCodec(kit["bert"][1])
    judge = TextClassifier(Sum(len(codec.tokenizer)), codec, "yes")
    ids, valid = noised(codec)
    at = ids == codec.mask_token_id
    slopes = judge.slopes(ids, at, valid)
    before = judge.log_prob(ids, valid)
    for index, (row, column) in enumerate(at.nonzero().tolist()):
        for token in (7, 30, 44):
            changed = ids.clone()
            changed[row, column] = token
            difference = judge.log_prob(changed, valid)[row] - before[row]
            assert float(slopes[index, token]) == pytest.approx(float(difference), abs=1e-5)


def test_labels_have_names_and_numbers(kit):
    model, codec = classifier(kit, "bert")
    model.config.id2label = {0: "sad", 1: "neutral", 2: "happy"}
    assert [TextClassifier(model, codec, x).label for x in ("happy", 2, "2")] == [2, 2, 2]
    with pytest.raises(UserError, match="no label 'hapy'; did you mean 'happy'"):
        TextClassifier(model, codec, "hapy")
    with pytest.raises(UserError, match="choose one of happy, neutral, sad"):
        TextClassifier(model, codec, 3)


def test_a_classifier_into_which_padding_leaks_reads_rows_of_one_length_at_a_time(kit):
    codec = TextCodec(kit["bert"][1])
    sizes = {"hidden_size": 32, "embedding_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 48, "conv_kernel_size": 3}
    config = ConvBertConfig(
        vocab_size=len(codec.tokenizer), num_labels=3, initializer_range=0.3, **sizes
    )
    torch.manual_seed(1)
    judge = TextClassifier(AutoModelForSequenceClassification.from_config(config), codec, 1)
    ids, valid = noised(codec)
    at = valid & (ids == codec.mask_token_id)
    log_prob, slopes = judge.log_prob(ids, valid), judge.slopes(ids, at, valid)
    for row, own in enumerate(slopes.split(at.sum(1).tolist())):
        one, where = ids[row, valid[row]][None], at[row, valid[row]][None]
        assert torch.allclose(judge.log_prob(one, None), log_prob[row], atol=1e-4)
        assert torch.allclose(judge.slopes(one, where, None), own, atol=1e-3)
