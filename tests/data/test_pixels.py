"""Images as token ids: levels, the order of the sub-pixels, classes, and masks of images."""

import numpy as np
import pytest
import torch

from unmask.data import image_masks
from unmask.data.image_rows import rows_of, text_of
from unmask.data.images import Images, read_image
from unmask.data.pixels import PixelCodec
from unmask.errors import UserError
from unmask.render.pictures import save_png

EVERY = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)


@pytest.mark.parametrize("levels", [2, 3, 5, 16, 17, 52, 86, 128, 255, 256])
def test_a_level_is_the_nearest_of_evenly_spaced_ones(levels):
    codec = PixelCodec(16, 16, 1, levels)
    ids = np.array(codec.encode(EVERY))
    spaced = np.linspace(0, 255, levels)
    gaps = np.abs(EVERY.ravel()[:, None] - spaced)
    assert np.allclose(gaps[np.arange(256), ids], gaps.min(1))
    # Every level is used, and is the level of its own brightness.
    assert np.array_equal(np.unique(ids), np.arange(levels))
    again = codec.decode(ids)
    assert np.abs(again - spaced[ids].reshape(again.shape)).max() <= 0.5
    assert codec.encode(again) == ids.tolist()
    if levels == 256:
        assert np.array_equal(again, EVERY)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_comes_back_without_loss(tmp_path, channels):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    save_png(tmp_path / "in.png", pixels)
    codec = PixelCodec(5, 7, channels)
    save_png(tmp_path / "out.png", codec.decode(codec.encode(read_image(tmp_path / "in.png"))))
    assert np.array_equal(read_image(tmp_path / "out.png"), pixels)


def test_sub_pixels_are_in_raster_order_channels_last():
    # Two rows of two pixels of red, green and blue, counted as one reads them.
    image = np.array(
        [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]],
        dtype=np.uint8,
    )
    codec = PixelCodec(2, 2, 3)
    assert codec.encode(image) == list(range(12))
    assert (codec.dims, codec.length, codec.shape) == (12, 13, (2, 2, 3))
    rows = rows_of(Images(image[None]), codec)
    assert rows.tolist() == [[256, *range(12)]]
    wide = PixelCodec(1, 3, 1)
    assert wide.decode([0, 255, 7]).tolist() == [[[0], [255], [7]]]


def test_ids_of_classes_come_after_the_mask():
    codec = PixelCodec(2, 2, 1, 4, ("ant", "bee", "7"))
    assert codec.entries == 8
    assert codec.mask_token_id == 4
    assert [codec.class_id(name) for name in ("ant", "bee", "7")] == [5, 6, 7]
    # A number is that of a class, unless it is the name of one.
    assert [codec.class_id(label) for label in (0, "0", 1, 2, "2")] == [5, 5, 6, 7, 7]
    assert codec.class_id(None) == codec.mask_token_id
    assert codec.start == [4]
    assert codec.not_data(10) == [4, 5, 6, 7, 8, 9]
    assert codec.pieces([3, 4, 5]) == ["3", "", "ant"]


@pytest.mark.parametrize("label", ["cat", "3", 3, -1, 1.5, "-1"])
def test_an_unknown_class_is_refused(label):
    with pytest.raises(UserError, match=r"class|label"):
        PixelCodec(2, 2, 1, 4, ("ant", "bee", "fly")).class_id(label)


def test_a_nearly_right_class_is_named():
    with pytest.raises(UserError, match=r"unknown class 'bees'.*'bee'"):
        PixelCodec(2, 2, 1, 4, ("ant", "bee")).class_id("bees")
    with pytest.raises(UserError, match="without classes"):
        PixelCodec(2, 2, 1, 4).class_id("bee")


def test_a_mask_is_mid_grey():
    codec = PixelCodec(1, 2, 1, 4)
    assert codec.decode([4, 3]).ravel().tolist() == [128, 255]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((2, 3, 1), np.uint8), "2 x 3 x 1 values.*2 x 2 x 1; resize it"),
        (np.zeros((2, 2, 3), np.uint8), "2 x 2 x 3 values"),
        (np.zeros((2, 2, 1)), "uint8, not of float64"),
        (np.zeros((2, 2, 1), np.int64), "uint8, not of int64"),
    ],
)
def test_other_images_are_refused(image, says):
    codec = PixelCodec(2, 2, 1)
    with pytest.raises(UserError, match=says):
        codec.encode(image)
    for rows in (rows_of, text_of):
        with pytest.raises(UserError, match=says):
            rows(Images(image[None]), codec)


def test_grey_needs_no_axis_of_channels():
    assert PixelCodec(2, 2, 1).encode(np.eye(2, dtype=np.uint8)) == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "wrong", [{"levels": 1}, {"levels": 257}, {"height": 0}, {"channels": 0}, {"classes": "ant"}]
)
def test_a_codec_that_cannot_be_is_refused(wrong):
    if wrong == {"classes": "ant"}:
        # One text is a list of one class.
        assert PixelCodec(**wrong).classes == ("ant",)
        return
    with pytest.raises(UserError, match=next(iter(wrong))):
        PixelCodec(**wrong)


def test_a_codec_is_what_its_card_says():
    codec = PixelCodec(3, 5, 3, 17, ("ant", "bee"))
    assert PixelCodec(**codec.as_card()) == codec
    with pytest.raises(UserError, match="19 embeddings"):
        codec.check_entries(19)
    codec.check_entries(20)


def test_rows_have_the_ids_of_their_classes():
    images = Images(
        np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1), np.array([1, 0, 1]), ("bee", "ant")
    )
    codec = PixelCodec(2, 2, 1, 256, ("ant", "bee"))
    # By name: the images count their classes in another order.
    assert rows_of(images, codec)[:, 0].tolist() == [257, 258, 257]
    assert rows_of(images, PixelCodec(2, 2, 1))[:, 0].tolist() == [256] * 3
    unlabelled = Images(images.pixels)
    assert rows_of(unlabelled, codec)[:, 0].tolist() == [256] * 3
    with pytest.raises(UserError, match="'bee' that the model does not know"):
        rows_of(images, PixelCodec(2, 2, 1, 256, ("ant", "wasp")))


@pytest.mark.parametrize("count", [10, 1000, 40_000])
def test_ids_of_any_number_of_classes_fit(count):
    names = tuple(map(str, range(count)))
    codec = PixelCodec(1, 1, 1, 200, names)
    pixels = np.full((1, 1, 1, 1), 255, np.uint8)
    rows = rows_of(Images(pixels, np.array([count - 1]), names), codec)
    assert rows.tolist() == [[200 + count, 199]]


def test_what_is_scored_is_every_sub_pixel():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    images = Images(pixels, np.array([0, 1, 1, 0, 1]), ("ant", "bee"))
    codec = PixelCodec(2, 3, 3, 256, ("ant", "bee"))
    text = text_of(images, codec, 3)
    assert text.rows.shape == (3, 19)
    assert torch.equal(text.rows, rows_of(images, codec).long()[:3])
    assert not text.editable[:, 0].any()
    assert text.editable[:, 1:].all()
    assert text.units == {"tokens": 54, "dims": 54}
    assert codec.units(pixels[0]) == {"dims": 18}
    with pytest.raises(UserError, match="no images to score"):
        text_of(Images(pixels[:0]), codec)


def test_white_is_generated():
    mask = np.array([[0, 255, 127], [128, 0, 0]], np.uint8)[..., None]
    found = image_masks.from_image(mask, (2, 3, 3))
    assert found.shape == (2, 3, 3)
    for channel in range(3):
        assert found[..., channel].tolist() == [[False, True, False], [True, False, False]]
    with pytest.raises(UserError, match="black"):
        image_masks.from_image(mask // 2, (2, 3, 3))
    with pytest.raises(UserError, match=r"3 x 2 pixels \(width, height\), but the image 2 x 3"):
        image_masks.from_image(mask, (3, 2, 3))


def test_colours_are_red_and_blue():
    found = image_masks.colours((2, 2, 3))
    assert found.all((0, 1)).tolist() == [True, False, True]
    assert found.any((0, 1)).tolist() == [True, False, True]
    with pytest.raises(UserError, match="grey"):
        image_masks.colours((2, 2, 1))


def test_a_small_image_is_every_kth_pixel():
    small = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3)
    large, free = image_masks.spread(small, (6, 6, 3))
    assert np.array_equal(large[::3, ::3], small)
    assert np.array_equal(large[~free].reshape(2, 2, 3), small)
    assert free.sum() == 6 * 6 * 3 - small.size
    assert np.array_equal(free, image_masks.between((6, 6, 3), 3))


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 6), (4, 2), (1, 1)])
def test_sizes_that_are_no_multiple_are_refused(shape):
    with pytest.raises(UserError, match="whole multiple"):
        image_masks.spread(np.zeros((2, 2, 1), np.uint8), (*shape, 1))
