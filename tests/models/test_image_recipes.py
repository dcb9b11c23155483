"""The networks of the recipes for images, at their own size, on the meta device."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from unmask.models import pixel_unet
from unmask.training import recipe_file as recipes

UNETS = [n for n in recipes.names() if recipes.load(n).model.type == pixel_unet.TYPE]
SIZES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)} | dict.fromkeys(
    ("imagenet64", "imagenet64-small"), (64, 64, 3)
)
PUBLISHED = {"cifar10": 28e6, "imagenet64": 198e6}
"""Weights of the papers' networks."""


def network(name):
    recipe = recipes.load(name)
    pixel_unet.register()
    shape = (*SIZES.get(name, (32, 32, 3)), recipe.images.levels, 10)
    about = dict(zip(pixel_unet.SHAPE, shape, strict=True)) | recipe.model.config
    with torch.device("meta"):
        return AutoModelForMaskedLM.from_config(AutoConfig.for_model(pixel_unet.TYPE, **about))


@pytest.mark.parametrize("name", UNETS)
def test_the_network_of_a_recipe_takes_its_images(name):
    model = network(name)
    height, width, channels = SIZES.get(name, (32, 32, 3))
    ids = torch.zeros(1, 1 + height * width * channels, dtype=torch.int64, device="meta")
    assert model(ids).logits.shape == (*ids.shape, model.config.vocab_size)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_have_about_as_many_weights(name):
    weights = sum(p.numel() for p in network(name).parameters())
    assert weights == pytest.approx(PUBLISHED[name], rel=0.15)


def test_the_network_of_cifar10_keeps_the_resolution():
    body = network("cifar10").body.unet
    assert not any(block.downsamplers for block in body.down_blocks)
    assert [len(block.resnets) for block in body.down_blocks] == [32]
    assert [len(block.resnets) for block in body.up_blocks] == [33]


def test_training_and_generation_compute_the_same_logits():
    """The image has other strides in training, see ``PixelUNet.forward``."""
    about = {"block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4}
    torch.manual_seed(0)
    model = pixel_unet.PixelUNetForMaskedLM(pixel_unet.PixelUNetConfig(4, 6, 3, 5, 2, **about))
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    ids = torch.randint(0, 8, (2, 1 + 4 * 6 * 3))
    layout = []
    model.body.unet.conv_in.register_forward_pre_hook(
        lambda _, inputs: layout.append(inputs[0].is_contiguous())
    )
    trained, generated = model.train()(ids).logits, model.eval()(ids).logits
    assert layout == [True, False]
    torch.testing.assert_close(trained, generated)
