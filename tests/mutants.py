"""The classic bugs of masked diffusion, one by one, for ``mutate.py`` to plant."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One bug: in which file, what becomes what, its story, and the tests that should notice."""

    file: str
    old: str
    new: str
    story: str
    tests: str


MUTANTS = [
    Mutant(
        "objective.py",
        "weight = rate(process.schedule, t.double())",
        "weight = -rate(process.schedule, t.double())",
        "sign of the weight: the bound is maximised",
        "objective",
    ),
    Mutant(
        "objective.py",
        "_loss(weight * surprise, tokens, reconstruction)",
        "_loss(surprise, tokens, reconstruction)",
        "the 1/t weight is missing: not the bound any more",
        "objective",
    ),
    Mutant(
        "objective.py",
        "tokens = editable.sum(1)\n    never_clean",
        "tokens = noised.masked.sum(1)\n    never_clean",
        "normalised by the masked tokens instead of all",
        "objective",
    ),
    Mutant(
        "objective.py",
        "torch.ceil(t.double() * tokens)",
        "torch.floor(t.double() * tokens)",
        "k off by one: never all tokens hidden",
        "conditioning",
    ),
    Mutant(
        "objective.py",
        "weight = tokens.double() / count.clamp_min(1)",
        "weight = x0.shape[1] / count.double().clamp_min(1)",
        "L counts the columns of the batch, padding included",
        "conditioning",
    ),
    Mutant(
        "objective.py",
        "noised.ids, now, x0, noised.masked",
        "noised.ids, before, x0, noised.masked",
        "the network is told the time after the step",
        "conditioning",
    ),
    Mutant(
        "objective.py",
        "weight = num_steps * process.reveal_prob(now, before)",
        "weight = process.reveal_prob(now, before)",
        "T-step bound without the T",
        "objective",
    ),
    Mutant(
        "schedule.py",
        "return 1 - (order / count + shift) % 1",
        "return 1 - (order / count) % 1",
        "stratified times without the random shift",
        "schedule",
    ),
    Mutant(
        "schedule.py",
        "return t**self.exponent\n",
        "return 1 - self.alpha(t)\n",
        "1 - alpha as a difference: no digits left near t = 0",
        "schedule",
    ),
    Mutant(
        "schedule.py",
        "grid = torch.sin(math.pi / 2 * t)",
        "grid = 1 - torch.cos(math.pi / 2 * t)",
        "cosine grid upside down: most is revealed at first",
        "schedule",
    ),
    Mutant(
        "process.py",
        "self.schedule.mask_prob(t.double())[:, None]",
        "self.schedule.mask_prob(1 - t.double())[:, None]",
        "time reversed: t = 1 is clean",
        "process",
    ),
    Mutant(
        "process.py",
        "(noise < hide_prob) & editable",
        "(noise >= hide_prob) & editable",
        "keep and mask swapped",
        "process",
    ),
    Mutant(
        "process.py",
        "(noise < hide_prob) & editable",
        "noise < hide_prob",
        "the prompt is hidden as well",
        "process",
    ),
    Mutant(
        "process.py",
        "torch.where(s == 0, torch.ones_like(hidden_t), (hidden_t - hidden_s) / hidden_t)",
        "(hidden_t - hidden_s) / hidden_t",
        "the last step leaves masks if alpha(0) is not quite 1",
        "policy",
    ),
    Mutant(
        "process.py",
        "(fate >= 0.8) & (fate < 0.9)",
        "(fate >= 0.8)",
        "80/20 instead of 80/10/10",
        "process",
    ),
    Mutant(
        "noise.py",
        "return (bits.double() + 0.5) * 2.0**-52",
        "return ((bits.double() + 0.5) * 2.0**-52).float().double()",
        "float32 noise: the tail is cut off",
        "noise",
    ),
    Mutant(
        "noise.py",
        "_hash(_hash(self.seeds) ^ label)",
        "_hash(_hash(self.seeds))",
        "the choice of position and of token share their noise",
        "noise",
    ),
    Mutant(
        "draw.py",
        "block, rest = _invert(mass, u[:, None])",
        "block, rest = _invert(mass, u[:, None].float().double())",
        "sampling in float32: tail tokens are skipped",
        "draw",
    ),
    Mutant(
        "draw.py",
        "ordered.masked_fill(ahead >= goal, 0.0)",
        "ordered.masked_fill(ahead + ordered > goal, 0.0)",
        "top-p drops the token that crosses p",
        "draw",
    ),
    Mutant(
        "draw.py",
        "/ max(temperature, 1e-30)",
        "* max(temperature, 1e-30)",
        "temperature upside down",
        "draw",
    ),
    Mutant(
        "canvas.py",
        "where = where & self.editable\n        written",
        "written",
        "given tokens can be overwritten",
        "canvas",
    ),
    Mutant(
        "policy.py",
        "clock.process.schedule.mask_prob(clock.s)",
        "clock.process.schedule.mask_prob(clock.t)",
        "renoise with the rate of t instead of s",
        "policy",
    ),
    Mutant(
        "policy.py",
        "reveal = rank < quota[:, None]",
        "reveal = rank <= quota[:, None]",
        "off by one in the number of reveals",
        "policy",
    ),
    Mutant(
        "policy.py",
        "if clock.last:\n            return remaining",
        "if False:\n            return remaining",
        "the last step leaves masks",
        "policy",
    ),
    Mutant(
        "policy.py",
        "argsort(dim=1, descending=True, stable=True)",
        "argsort(dim=1, descending=False, stable=True)",
        "the least confident guesses are revealed first",
        "policy",
    ),
    Mutant(
        "policy.py",
        "canvas.masked & (chance < clock.process",
        "canvas.editable & (chance < clock.process",
        "ancestral sampling draws visible tokens anew",
        "policy",
    ),
    Mutant(
        "sampler.py",
        "at=wanted, valid=canvas.valid)",
        "at=wanted)",
        "padding of shorter rows is attended in sampling",
        "sampler",
    ),
    Mutant(
        "adapters/encoder.py",
        'logits.index_fill_(-1, self._not_data, float("-inf"))',
        "logits.index_fill_(-1, self._not_data[:0], 0.0)",
        "[MASK] itself can be predicted",
        "encoder",
    ),
    Mutant(
        "adapters/encoder.py",
        "mask = None if valid is None or bool(valid.all()) else valid.long()",
        "mask = None",
        "padding is attended by the encoder",
        "encoder",
    ),
    Mutant(
        "adapters/encoder.py",
        "module.padding_idx + 1",
        "0",
        "RoBERTa's position offset forgotten: long rows crash",
        "encoder",
    ),
]
