"""The U-Net as a denoiser over sub-pixels: what it says untrained, and what it depends on."""

import math

import pytest
import torch
from torch import Tensor, nn

from checks import generator
from unmask.data.pixels import PixelCodec
from unmask.diffusion.formulation import MaskedFormulation
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.errors import UserError
from unmask.models import loading
from unmask.models.any_order import make_denoiser
from unmask.models.pixel_unet import PixelUNetConfig, PixelUNetForMaskedLM, register
from unmask.models.time_conditioning import attach
from unmask.training import recipe_file

SMALL = {"block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4}
SMALL |= {"embedding_size": 4, "hidden_size": 8}


def network(
    *, random: bool = True, time: str = "input", **settings: object
) -> PixelUNetForMaskedLM:
    """A small U-Net; its zero-initialised weights are random if ``random``."""
    torch.manual_seed(0)
    shape = {"height": 4, "width": 6, "channels": 3, "levels": 8, "num_classes": 2}
    model = PixelUNetForMaskedLM(PixelUNetConfig(**(shape | SMALL | settings))).eval()
    if random:
        for weight in model.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.3)
    attach(model, time)
    return model


def denoiser_of(model: PixelUNetForMaskedLM):
    config = model.config
    not_data = range(config.levels, config.vocab_size)
    return make_denoiser(model, not_data=[*not_data], mask_token_id=config.levels)


def rows(model: PixelUNetForMaskedLM, count: int, seed: int = 0) -> Tensor:
    """Images with masks, of every class and of none."""
    config, rng = model.config, generator(seed)
    ids = torch.randint(config.levels, (count, config.max_position_embeddings), generator=rng)
    ids[torch.rand(ids.shape, generator=rng) < 0.4] = config.levels
    ids[:, 0] = config.levels + torch.arange(count) % (1 + config.num_classes)
    return ids


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_untrained_it_costs_log_k(levels):
    """8 bits for every sub-pixel of 256 values: for any image, class and time."""
    model = network(random=False, levels=levels)
    denoiser, ids = denoiser_of(model), rows(model, 6)
    with torch.no_grad():
        logits = denoiser(ids, torch.linspace(0.1, 1, 6))
    expected = torch.full((levels,), -math.log(levels))
    log_probs = logits[:, 1:].log_softmax(-1)
    assert torch.allclose(log_probs[..., :levels], expected, atol=1e-6)
    assert (log_probs[..., levels:] == -math.inf).all()
    clean = ids.where(ids < levels, 0)
    clean[:, 0] = ids[:, 0]
    editable = torch.ones_like(ids, dtype=torch.bool)
    editable[:, 0] = False
    formulation = MaskedFormulation(AbsorbingProcess(Polynomial(), levels))
    with torch.no_grad():
        nats = formulation.bound(
            denoiser,
            x0=clean,
            editable=editable,
            valid=torch.ones_like(editable),
            generator=generator(0),
            t=torch.linspace(0.1, 1, 6).double(),
        ).nats
    torch.testing.assert_close(nats, torch.full((6,), 72 * math.log(levels)), rtol=1e-5, atol=0)


def test_the_loss_of_an_untrained_head_trains_it():
    model = network(random=False)
    denoiser_of(model)(rows(model, 2), torch.ones(2))[:, 1:, 0].sum().backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_logits_where_asked_are_those_of_the_whole():
    model = network()
    denoiser, ids, t = denoiser_of(model), rows(model, 5), torch.linspace(0.2, 1, 5)
    at = ids == model.config.levels
    at[:, 0] = False
    at[2] = False
    with torch.no_grad():
        whole, asked = denoiser(ids, t), denoiser(ids, t, at=at)
    assert asked.shape == (int(at.sum()), model.config.vocab_size)
    torch.testing.assert_close(asked, whole[at], atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_its_batch():
    model = network(block_out_channels=[8, 16], attention_resolutions=[1])
    denoiser, ids, t = denoiser_of(model), rows(model, 5), torch.linspace(0.2, 1, 5)
    with torch.no_grad():
        together = denoiser(ids, t)
        for i in range(5):
            alone = denoiser(ids[i : i + 1], t[i : i + 1])[0]
            torch.testing.assert_close(alone[1:], together[i, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ["categorical", "logistic"])
def test_saved_and_loaded_it_says_the_same(tmp_path, head):
    register()
    model = network(time="none", head=head)
    model.save_pretrained(tmp_path)
    again = loading.load_model(str(tmp_path), "masked")
    ids = rows(model, 3)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)
    assert {key: getattr(again.config, key) for key in SMALL} == SMALL
    assert not model(ids).logits.isnan().any()


def changed_by(model: PixelUNetForMaskedLM, ids: Tensor, other: Tensor, t=0.5, u=0.5) -> Tensor:
    """Return how much the logits differ between two rows and times, (H, W, C)."""
    denoiser, config = denoiser_of(model), model.config
    with torch.no_grad():
        one, two = (
            denoiser(row[None], torch.tensor([time]))[0, 1:, : config.levels]
            for row, time in ((ids, t), (other, u))
        )
    gap: Tensor = (one - two).abs().amax(-1).view(config.height, config.width, config.channels)
    return gap


def test_time_and_class_change_what_it_says():
    model = network()
    ids = rows(model, 1)[0]
    assert (changed_by(model, ids, ids, 0.5, 0.6) > 1e-4).float().mean() > 0.9
    for kind in range(1, 3):
        other = ids.clone()
        other[0] = model.config.levels + kind
        assert (changed_by(model, ids, other) > 1e-4).float().mean() > 0.9
    # The time is an input of a network that is conditioned on it, and of no other.
    untimed = network(time="none")
    assert not denoiser_of(untimed).uses_time
    assert changed_by(untimed, ids, ids, 0.5, 0.6).max() == 0


@pytest.mark.parametrize(("y", "x", "c"), [(0, 0, 0), (2, 5, 1), (3, 1, 2), (1, 4, 0)])
def test_a_sub_pixel_changes_what_is_around_it(y, x, c):
    """A token reaches the cells around its own place, and all channels there."""
    model = network()
    for module in model.body.unet.mid_block.modules():
        # Without the attention in the middle, and without norms over the whole image.
        if type(module).__name__ == "Attention":
            nn.init.zeros_(module.to_out[0].weight)
            nn.init.zeros_(module.to_out[0].bias)
    unet = model.body.unet
    # One convolution alone: the image goes through the first and the last layer.
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        for module in block.modules():
            if type(module).__name__ == "ResnetBlock2D":
                nn.init.zeros_(module.conv2.weight)
                nn.init.zeros_(module.conv2.bias)
    unet.conv_norm_out = nn.Identity()
    ids = rows(model, 1)[0]
    other = ids.clone()
    place = 1 + (y * 6 + x) * 3 + c
    other[place] = (ids[place] + 1) % model.config.levels
    gap = changed_by(model, ids, other).amax(-1)
    near = torch.zeros(4, 6, dtype=torch.bool)
    # Two convolutions of 3 x 3 see two cells in every direction.
    near[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
    assert gap[~near].max() < 1e-6
    assert gap[y, x] > 1e-4
    assert (gap[near] > 1e-7).float().mean() > 0.8


def test_channels_of_a_pixel_are_told_apart():
    """The same change in another channel of the same pixel says something else there."""
    model = network()
    ids = rows(model, 1)[0]
    ids[1 + 27 : 1 + 30] = 3
    gaps = []
    for channel in range(3):
        other = ids.clone()
        other[1 + 27 + channel] = 5
        gaps.append(changed_by(model, ids, other))
    assert (gaps[0] - gaps[1]).abs().max() > 1e-3
    assert (gaps[1] - gaps[2]).abs().max() > 1e-3


def test_the_network_of_md4_on_cifar10():
    """32 residual blocks down, 33 up, all at 32 x 32, one head of attention in the middle.

    The paper says about 28 M parameters; this network has 31.6 M.
    """
    config = recipe_file.load("cifar10").model.config
    with torch.device("meta"):
        model = PixelUNetForMaskedLM(
            PixelUNetConfig(height=32, width=32, channels=3, levels=256, **config)
        )
    unet = model.body.unet
    parts = [
        sum(type(m).__name__ == "ResnetBlock2D" for m in part.modules())
        for part in (unet.down_blocks, unet.mid_block, unet.up_blocks)
    ]
    assert parts == [32, 2, 33]
    names = [type(m).__name__ for m in unet.modules()]
    assert not any("sample2D" in name for name in names)
    attentions = [m for m in unet.modules() if type(m).__name__ == "Attention"]
    assert [m.heads for m in attentions] == [1]
    assert sum(p.numel() for p in model.parameters()) == 31_582_721


RECIPES = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "md4-pixels": (32, 32, 3),
    "d3pm-pixels": (32, 32, 3),
    "imagenet64": (64, 64, 3),
    "imagenet64-small": (64, 64, 3),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_network_of_every_recipe_can_be_made(name):
    recipe, (height, width, channels) = recipe_file.load(name), RECIPES[name]
    with torch.device("meta"):
        model = PixelUNetForMaskedLM(
            PixelUNetConfig(
                height=height,
                width=width,
                channels=channels,
                levels=recipe.images.levels,
                num_classes=10 * recipe.images.classes,
                **recipe.model.config,
            )
        )
    assert model.config.vocab_size == recipe.images.levels + 1 + 10 * recipe.images.classes
    halved = [type(m).__name__ for m in model.modules()].count("Downsample2D")
    assert halved == len(recipe.model.config["block_out_channels"]) - 1


def test_without_a_width_attention_has_a_single_head_at_every_resolution():
    model = network(block_out_channels=[8, 16], attention_resolutions=[0, 1], attention_head_dim=0)
    heads = [m.heads for m in model.modules() if type(m).__name__ == "Attention"]
    # One in the middle and one after each residual block: two on the way down, four up.
    assert heads == [1] * 7


def test_of_the_logistic_head_an_untrained_network_is_the_same_everywhere():
    model = network(random=False, head="logistic")
    ids = rows(model, 2)
    with torch.no_grad():
        logits = denoiser_of(model)(ids, torch.full((2,), 0.5))
    first = model.config.levels
    own = ids[:, 1:]
    for level in range(first + 1):
        found = logits[:, 1:][own == level][:, :first]
        assert (found - found[0]).abs().max() < 1e-5
        if 0 < level < first - 1:
            # Its location is tanh of the noised level: the nearer, the likelier.
            centre = math.tanh(2 * level / (first - 1) - 1)
            nearest = (torch.linspace(-1, 1, first) - centre).abs().argmin()
            assert found[0].argmax() == nearest
    assert (logits[..., first:] == -math.inf).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"block_out_channels": [8, 8, 8]}, "halves images 2 times, and 4 x 6 cannot be"),
        ({"attention_resolutions": [1]}, "attention_resolutions has 1"),
        ({"norm_num_groups": 5}, "must be divisible"),
        ({"head": "gaussian"}, "unknown head 'gaussian'"),
    ],
)
def test_what_cannot_be_made_is_refused(settings, says):
    with pytest.raises(UserError, match=says):
        network(**settings)


def test_the_ids_are_those_of_the_codec():
    model, codec = network(), PixelCodec(4, 6, 3, 8, ("ant", "bee"))
    assert model.config.vocab_size == codec.entries
    assert model.config.mask_token_id == codec.mask_token_id
    assert model.config.max_position_embeddings == codec.length
    codec.check_entries(len(model.get_input_embeddings().weight))
