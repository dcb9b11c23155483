"""Image files and folders of them: exact pixels, counted conversions, and refusals by name."""

import gzip
import io
import random
import struct
import sys
import zlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from unmask.data import images as images_module
from unmask.data.image_files import MOST_PIXELS, Conversions, Shape, decode_bytes
from unmask.data.image_sets import natural
from unmask.data.images import read_image, read_images
from unmask.errors import UserError

pytest.importorskip("PIL")
from PIL import Image, ImageOps

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def save(path, pixels=COLOUR, **options):
    """Write an image of an array or of Pillow, and return its path."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def png(width, height, depth, kind, rows=b"", extra=b""):
    """Return a PNG file, of kinds and depths that Pillow does not write."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def clear(content):
    """Return the chunk of a PNG file that makes a value transparent."""
    check = struct.pack(">I", zlib.crc32(b"tRNS" + content))
    return struct.pack(">I", len(content)) + b"tRNS" + content + check


def read(path, **options):
    notes = []
    return read_image(path, note=notes.append, **options), notes


def read_all(source, **options):
    notes = []
    return read_images(str(source), note=notes.append, **options), notes


@pytest.mark.parametrize("ending", ["png", "PNG", "bmp", "webp"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "rgb"])
def test_lossless_files_come_back_exactly(tmp_path, ending, pixels):
    options = {"lossless": True} if ending == "webp" else {}
    found, notes = read(save(tmp_path / f"a.{ending}", pixels, **options))
    if pixels is GREY:
        # WebP has no grey.
        assert found.shape == (5, 7, 3 if ending == "webp" else 1)
        pixels = pixels[..., None].repeat(found.shape[2], axis=2)
    assert found.dtype == np.uint8
    assert notes == []
    np.testing.assert_array_equal(found, pixels)


def test_an_rgb_file_of_greys_stays_rgb(tmp_path):
    found, _ = read(save(tmp_path / "a.png", GREY[..., None].repeat(3, axis=2)))
    assert found.shape == (5, 7, 3)


def test_the_format_is_found_in_the_file(tmp_path):
    save(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    (tmp_path / "b.png.gz").write_bytes(gzip.compress((tmp_path / "a.jpg").read_bytes()))
    found, notes = read_all(tmp_path)
    np.testing.assert_array_equal(found.pixels, [COLOUR, COLOUR])
    assert notes == []


ALPHA = np.array([[0, 1, 127, 128, 254, 255, 80]] * 5, np.uint8)


def on_white(pixels, alpha=ALPHA):
    """Composite on white in real numbers."""
    share = alpha[..., None] / 255
    return np.rint(pixels * share + 255 * (1 - share))


def test_transparency_is_composited_on_white(tmp_path):
    found, notes = read(save(tmp_path / "a.png", np.dstack([COLOUR, ALPHA])))
    np.testing.assert_array_equal(found, on_white(COLOUR))
    assert notes == [f"converted transparency to white: 1 image of {tmp_path / 'a.png'}"]
    found, notes = read(save(tmp_path / "b.png", Image.fromarray(np.dstack([GREY, ALPHA]), "LA")))
    np.testing.assert_array_equal(found, on_white(GREY[..., None]))
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("kind", "depth", "rows", "transparent", "expected"),
    [
        (0, 8, b"\0\x05\x06", b"\0\x05", [[255], [6]]),
        (2, 8, b"\0\1\2\3\4\5\6", b"\0\1\0\2\0\3", [[255] * 3, [4, 5, 6]]),
        (0, 16, b"\0\x12\x34\x12\x35", b"\x12\x34", [[255], [round(0x1235 / 257)]]),
        (0, 1, b"\0\x40", b"\0\0", [[255], [255]]),
    ],
    ids=["grey", "rgb", "grey of 16 bits", "1 bit"],
)
def test_one_transparent_value_of_a_png_file(tmp_path, kind, depth, rows, transparent, expected):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, depth, kind, rows, clear(transparent)))
    found, notes = read(path)
    np.testing.assert_array_equal(found, [expected])
    assert any("transparency" in line for line in notes)


def test_a_palette_becomes_rgb(tmp_path):
    image = Image.fromarray(GREY % 4, "P")
    colours = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3], [9, 9, 9]], np.uint8)
    image.putpalette(colours.tobytes())
    found, notes = read(save(tmp_path / "a.png", image))
    np.testing.assert_array_equal(found, colours[GREY % 4])
    assert notes == [f"converted palette to RGB: 1 image of {tmp_path / 'a.png'}"]
    found, notes = read(save(tmp_path / "b.png", image, transparency=2))
    expected = np.where(GREY[..., None] % 4 == 2, 255, colours[GREY % 4])
    np.testing.assert_array_equal(found, expected)
    assert len(notes) == 2
    found, notes = read(save(tmp_path / "c.gif", image))
    np.testing.assert_array_equal(found, colours[GREY % 4])


def test_cmyk_becomes_rgb(tmp_path):
    flat = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    image = Image.fromarray(flat).convert("CMYK")
    found, notes = read(save(tmp_path / "a.jpg", image, quality=100))
    assert abs(found.astype(int) - flat).max() <= 3
    assert notes == [f"converted CMYK to RGB: 1 image of {tmp_path / 'a.jpg'}"]


def test_16_bits_become_8_by_scaling(tmp_path):
    values = np.array([[0, 128, 129, 255, 257, 1000, 32768, 65534, 65535]], np.uint16)
    found, notes = read(save(tmp_path / "a.png", values))
    np.testing.assert_array_equal(found[..., 0], np.rint(values / 257))
    assert notes == [
        f"converted 16 bits to 8, so that 65535 becomes 255: 1 image of {tmp_path / 'a.png'}"
    ]
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found, _ = read(save(tmp_path / "b.png", every))
    np.testing.assert_array_equal(found[..., 0], np.rint(every / 257))


def test_16_bit_colours_keep_the_upper_byte(tmp_path):
    values = np.array([[257 * 3, 65535, 0], [257 * 255, 257, 257 * 128]], ">u2")
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 16, 2, b"\0" + values.tobytes()))
    found, notes = read(path)
    np.testing.assert_array_equal(found, [values // 257])
    assert len(notes) == 1
    assert "16 bits to 8" in notes[0]


def test_a_transparent_colour_of_16_bits_is_refused():
    content = png(1, 1, 16, 2, b"\0" + b"\1\2" * 3, clear(b"\1\2" * 3))
    with pytest.raises(UserError, match=r"x has a transparent colour of 16 bits; save it with 8"):
        decode_bytes(content, "x", Conversions())


def test_few_bits_become_8(tmp_path):
    bits = GREY > 100
    found, notes = read(save(tmp_path / "a.png", Image.fromarray(bits)))
    np.testing.assert_array_equal(found[..., 0], 255 * bits)
    assert notes == [f"converted 1 bit to 8-bit grey: 1 image of {tmp_path / 'a.png'}"]
    (tmp_path / "b.png").write_bytes(png(4, 1, 2, 0, b"\0\x1b"))
    found, notes = read(tmp_path / "b.png")
    np.testing.assert_array_equal(found[..., 0], [[0, 85, 170, 255]])
    assert notes == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", exif=exif)
    found, notes = read(path)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(found, expected)
    assert found.shape == ((7, 5, 3) if orientation > 4 else (5, 7, 3))
    deep = save(tmp_path / "b.png", GREY.astype(np.uint16) * 257, exif=exif)
    np.testing.assert_array_equal(read(deep)[0], expected[..., :1])
    upright = f"converted EXIF orientation to upright: 1 image of {path}"
    assert notes == ([] if orientation == 1 else [upright])


def test_damaged_exif_data_are_no_damage_of_the_image(tmp_path):
    path = save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0\0")
    np.testing.assert_array_equal(read(path)[0], COLOUR)


def test_a_jpeg_with_a_second_picture_is_one_image(tmp_path):
    flat = Image.new("RGB", (8, 8), (10, 200, 30))
    path = tmp_path / "a.jpg"
    flat.save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    with Image.open(path) as image:
        assert image.n_frames == 2
    found, _ = read(path)
    assert found.shape == (8, 8, 3)
    assert abs(found.astype(int) - np.asarray(flat)).max() <= 3


def test_conversions_are_counted_once_for_a_source(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", np.dstack([COLOUR, ALPHA]))
    save(tmp_path / "c.png", Image.fromarray(COLOUR).quantize(4))
    _, notes = read_all(tmp_path)
    assert notes == [
        f"converted palette to RGB: 1 image of {tmp_path}",
        f"converted transparency to white: 3 images of {tmp_path}",
    ]


# Resizing


def test_a_square_is_the_centre_and_is_averaged(tmp_path):
    # Columns of 10 at both ends, which the crop takes away; the rest is 200.
    pixels = np.full((8, 12), 200, np.uint8)
    pixels[:, :2] = pixels[:, -2:] = 10
    path = save(tmp_path / "a.png", pixels)
    found, _ = read(path, resize=4)
    np.testing.assert_array_equal(found, np.full((4, 4, 1), 200))
    noise = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    found, _ = read(save(tmp_path / "b.png", noise), resize=4)
    centre = Image.fromarray(noise[:, 1:10])
    np.testing.assert_array_equal(found, centre.resize((4, 4), Image.Resampling.LANCZOS))
    found, _ = read(path, resize=(2, 6))
    assert found.shape == (2, 6, 1)
    # One of the right size is not resampled, one that is smaller is enlarged.
    np.testing.assert_array_equal(read(path, resize=(8, 12))[0][..., 0], pixels)
    assert read(path, resize=32)[0].shape == (32, 32, 1)


def test_extreme_shapes_are_cut_to_at_least_a_pixel(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((1, 50), np.uint8))
    assert read(path, resize=(40, 1))[0].shape == (40, 1, 1)
    assert read(path, resize=(1, 40))[0].shape == (1, 40, 1)


def test_channels_are_chosen(tmp_path):
    found, notes = read(save(tmp_path / "a.png"), channels=1)
    weights = COLOUR.astype(float) @ [0.299, 0.587, 0.114]
    assert found.shape == (5, 7, 1)
    assert abs(found[..., 0] - weights).max() <= 0.51
    found, notes = read(save(tmp_path / "b.png", GREY), channels=3)
    np.testing.assert_array_equal(found, GREY[..., None].repeat(3, axis=2))
    assert notes == []


@pytest.mark.parametrize("resize", [0, -1, True, 2.5, "32", (3,), (3, 0), (1, 2, 3), [4, 4]])
def test_a_size_has_to_be_one(resize):
    with pytest.raises(UserError, match="give the side of a square in pixels, or height and"):
        Shape.of(resize, None)


def test_a_shape_is_possible():
    assert Shape.of((2, 3), 1) == ((2, 3), 1)
    with pytest.raises(UserError, match="more than 64 megapixels"):
        Shape.of(8001, None)
    with pytest.raises(UserError, match="choose 1 for grey or 3 for RGB"):
        Shape.of(None, 4)


# Refusals


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {}),
        ("b.jpg", {"progressive": True}),
        ("a.webp", {"lossless": True}),
        ("a.bmp", {}),
        ("a.gif", {}),
    ],
)
def test_a_truncated_file_is_named(tmp_path, name, options):
    path = save(tmp_path / "data" / name, **options)
    content = path.read_bytes()
    for size in {0, 1, 10, len(content) // 2, len(content) * 9 // 10, len(content) - 5}:
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=f"cannot read the image .*{name}: .*; repair it or"):
            read_images(str(path.parent))


def test_every_wrong_bit_of_a_png_file_is_found():
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "PNG")
    content = file.getvalue()
    rng = random.Random(0)
    for _ in range(200):
        changed = bytearray(content)
        # The last chunk, of 12 bytes, is empty.
        changed[rng.randrange(len(changed) - 12)] ^= 1 << rng.randrange(8)
        with pytest.raises(UserError, match=r"image x"):
            decode_bytes(bytes(changed), "x", Conversions())


def test_a_text_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1", "utf-8")
    with pytest.raises(UserError, match=r"a.png: it is damaged, or no PNG, JPEG, WebP, BMP or GIF"):
        read_images(str(tmp_path))
    # Other decoders of Pillow are not for files of strangers.
    save(tmp_path / "a.tiff").replace(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png: it is damaged, or no PNG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_an_animation_is_refused_and_one_frame_is_not(tmp_path, ending):
    frames = [Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)) for _ in range(2)]
    path = save(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf"a.{ending} is animated; save one of its frames"):
        read_images(str(tmp_path))
    save(path, frames[0], save_all=True)
    assert read_all(tmp_path)[0].pixels.shape == (1, 5, 7, 3)


@pytest.mark.parametrize("side", [8001, 14000, 60000])
def test_the_size_of_a_bomb_is_read_before_its_pixels(tmp_path, side):
    path = tmp_path / "a.png"
    path.write_bytes(png(side, side, 8, 0))
    with pytest.raises(UserError, match=r"a.png has .*more than 64 megapixels; make it smaller"):
        read_image(path)


def test_the_largest_size_is_decoded(tmp_path):
    assert MOST_PIXELS == 8000 * 8000
    with pytest.raises(UserError, match="cannot read the image x"):
        # No bomb: it is refused because it has no pixels.
        decode_bytes(png(8000, 8000, 8, 0), "x", Conversions())


def test_pillow_is_optional(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match=r"pip install 'unmask\[images\]'"):
        read_images(str(tmp_path))


@pytest.mark.parametrize("name", ["a.png", "none/a.jpg", "", "~/a.webp"])
def test_a_file_that_is_not_there(tmp_path, name, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for call in (read_image, read_images):
        with pytest.raises(UserError, match=r"there is no file|the name of the data is empty"):
            call(name)


# Folders


def fill(folder, *names, shade=0):
    """Write an image for each name, of one more level of grey than the one before."""
    for number, name in enumerate(names):
        save(folder / name, np.full((2, 2), shade + number, np.uint8))
    return folder


def shades(found):
    return found.pixels[:, 0, 0, 0].tolist()


def test_sub_folders_are_classes_in_natural_order(tmp_path):
    fill(tmp_path, "10/a.png", "9/b.png", "9/deep/c.png", "b/x.bmp", "A/y.png")
    found, notes = read_all(tmp_path)
    assert found.classes == ("9", "10", "A", "b")
    # Files are in the order of their paths.
    assert shades(found) == [0, 1, 2, 4, 3]
    assert found.labels.tolist() == [1, 0, 0, 2, 3]
    assert found.labels.dtype == np.int64
    assert found.pixels.shape == (5, 2, 2, 1)
    assert len(found) == 5
    assert notes == []
    with pytest.raises(FrozenInstanceError):
        found.classes = ()


def test_names_sort_by_their_numbers():
    names = ["a10", "a2", "B1", "b", "10", "9", "2.5", "a2b10", "a2b9", "9" * 5000]
    ordered = ["2.5", "9", "10", "9" * 5000, "a2", "a2b9", "a2b10", "a10", "b", "B1"]
    assert sorted(names, key=natural) == ordered


def test_files_of_a_folder_itself_have_no_labels(tmp_path):
    found, _ = read_all(fill(tmp_path, "b.png", "a.png"))
    assert (found.labels, found.classes) == (None, ())
    assert shades(found) == [1, 0]
    found, _ = read_all(tmp_path / "a.png")
    assert shades(found) == [1]


def test_what_is_no_image_is_left_out_and_counted(tmp_path):
    fill(tmp_path, "a/x.png", ".a.png", ".git/b.png")
    for name in ("a/Thumbs.db", ".DS_Store", "a/notes.txt"):
        (tmp_path / name).write_text("no image", encoding="utf-8")
    found, notes = read_all(tmp_path)
    assert shades(found) == [0]
    assert len(notes) == 1
    assert notes[0].startswith(f"left out 5 of 6 files in {tmp_path}: ")


def test_splits_have_classes_in_common(tmp_path):
    fill(
        tmp_path, "train/b/1.png", "train/c/2.png", "Test/a/3.png", "Test/c/4.png", "valid/b/5.png"
    )
    for split, shade, labels in (
        ("train", [0, 1], [1, 2]),
        ("test", [2, 3], [0, 2]),
        ("validation", [4], [1]),
        ("valid", [4], [1]),
        ("all", [2, 3, 0, 1, 4], [0, 2, 1, 2, 1]),
    ):
        found, _ = read_all(tmp_path, split=split)
        assert found.classes == ("a", "b", "c")
        assert (shades(found), found.labels.tolist()) == (shade, labels)
    with pytest.raises(UserError, match=r"no split 'dev'; choose one of test, train, valid.*, all"):
        read_images(str(tmp_path), split="dev")


def test_a_folder_without_splits_has_none(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    assert len(read_all(tmp_path, split="all")[0]) == 2
    for source in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(UserError, match=r"has no splits, so there is no 'test'; leave out"):
            read_images(str(source), split="test")


def test_images_outside_of_splits_and_classes_are_refused(tmp_path):
    fill(tmp_path / "a", "train/x.png", "car/y.png")
    with pytest.raises(UserError, match=r"split train, and images outside .*car.y.png; move"):
        read_images(str(tmp_path / "a"))
    fill(tmp_path / "b", "x.png", "car/y.png")
    with pytest.raises(UserError, match=r"which are classes, and images outside .*x.png; move"):
        read_images(str(tmp_path / "b"))


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv"])
def test_a_table_has_the_labels(tmp_path, name):
    fill(tmp_path, "a.png", "b.png", "sub/c.png")
    lines = "file,label,n\nb.png,dog 10,1\n./sub/c.png, dog 9,2\na.png,dog 10,3\n"
    content = lines.replace(",", "\t") if name.endswith("tsv") else lines
    (tmp_path / name).write_text(content, encoding="utf-8")
    found, notes = read_all(tmp_path)
    assert found.classes == ("dog 9", "dog 10")
    assert found.labels.tolist() == [1, 1, 0]
    assert notes == []
    assert read_all(tmp_path, label_field="n")[0].classes == ("1", "2", "3")


def test_tables_of_splits(tmp_path):
    fill(tmp_path, "train/a.png", "train/b.png", "test/c.png")
    (tmp_path / "train/labels.csv").write_text("file,label\na.png,x\nb.png,y\n", "utf-8")
    assert read_all(tmp_path)[0].labels.tolist() == [0, 1]
    assert read_all(tmp_path, split="test")[0].labels is None
    with pytest.raises(UserError, match=r"images outside of them, such as .*c.png"):
        read_images(str(tmp_path), split="all")
    # One table for all splits.
    (tmp_path / "train/labels.csv").rename(tmp_path / "labels.csv")
    content = "file,label\ntrain/a.png,x\ntrain/b.png,y\ntest/c.png,y\n"
    (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
    assert read_all(tmp_path, split="test")[0].labels.tolist() == [1]
    assert read_all(tmp_path, split="all")[0].labels.tolist() == [1, 0, 1]


TABLES = {
    "a.png,x\n": r"labels.csv has no label for .*b.png; add it, or take the image out",
    "a.png,x\nb.png,y\nc.png,z\n": r"row 3 of .*labels.csv names c.png, which is no image in",
    "a.png,x\nb.png,y\n../b.png,y\n": r"names ../b.png, which is no image in",
    "a.png,x\nb.png,y\na.png,y\n": r"names a.png a second time; take one of the rows out",
    "a.png,x\nb.png,\n": r"row 2 of .* has an empty cell; fill in both columns",
    "a.png,x\nb.png\n": r"row 2 of .* has an empty cell; fill in both columns",
    "a.png,x,y\n": r"line 2 has 3 cells under 2 names",
    "": r"has no label for .*a.png and 1 more; add it",
}


@pytest.mark.parametrize("rows", TABLES)
def test_a_table_that_does_not_fit(tmp_path, rows):
    fill(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("file,label\n" + rows, encoding="utf-8")
    with pytest.raises(UserError, match=TABLES[rows]):
        read_images(str(tmp_path))


def test_a_table_without_its_columns(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text("a.png;x\nb.png;y\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has no column 'file'; its first line has to name"):
        read_images(str(tmp_path))
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(UserError, match=r"no table of labels.*leave out --label-field breed"):
        read_images(str(tmp_path), label_field="breed")
    with pytest.raises(UserError, match=r"has no columns; leave out --field img"):
        read_images(str(tmp_path), field="img")


def test_images_of_two_sizes_need_a_size(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", GREY.T.copy())
    with pytest.raises(
        UserError,
        match=r"a.png has 7 x 5 pixels and .*b.png has 5 x 7; give --resize N to bring all to N x",
    ):
        read_images(str(tmp_path))
    assert read_all(tmp_path, resize=4)[0].pixels.shape == (2, 4, 4, 1)


def test_grey_and_colour_need_channels(tmp_path):
    save(tmp_path / "a.png", COLOUR)
    save(tmp_path / "b.png", GREY)
    with pytest.raises(UserError, match=r"b.png is grey and .*a.png is RGB; give --channels 3"):
        read_images(str(tmp_path))
    assert read_all(tmp_path, channels=3)[0].pixels.shape == (2, 5, 7, 3)
    found, _ = read_all(tmp_path, channels=1)
    np.testing.assert_array_equal(found.pixels[1, ..., 0], GREY)


def test_folders_without_images(tmp_path):
    for _ in range(2):
        with pytest.raises(UserError, match=r"holds no images, which end in .png, .*; name a fol"):
            read_images(str(tmp_path))
        (tmp_path / "a.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(UserError, match=r"a.txt is no file of images; give a folder of"):
        read_images(str(tmp_path / "a.txt"))


def test_one_file_is_read_at_a_time(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "b.png", "c.png")
    alive = []
    collect = images_module._collect

    def watched(pictures, *rest):
        return collect((alive.append(picture.name) or picture for picture in pictures), *rest)

    monkeypatch.setattr(images_module, "_collect", watched)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"b.png"):
        read_images(str(tmp_path))
    assert alive == [str(tmp_path / "a.png")]
