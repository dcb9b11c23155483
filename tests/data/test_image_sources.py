"""Sets of images that are no folders of files: digits, IDX, sprite sheets, parquet and the hub."""

import bz2
import gzip
import io
import json
import re
import struct
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from unmask.data import sprites
from unmask.data.images import read_images
from unmask.errors import UserError

pytest.importorskip("PIL")
from PIL import Image

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data in ../shared")
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
GREYS = COLOURS[..., 0]


def read_all(source, **options):
    notes = []
    return read_images(str(source), note=notes.append, **options), notes


# Digits


def test_digits_in_17_levels_of_grey(tmp_path, monkeypatch):
    data = pytest.importorskip("sklearn.datasets").load_digits()
    train, notes = read_all("digits")
    test, _ = read_all("digits", split="test")
    both, _ = read_all("digits", split="all")
    assert notes == []
    assert train.pixels.shape == (1500, 8, 8, 1)
    assert test.pixels.shape == (297, 8, 8, 1)
    np.testing.assert_array_equal(both.pixels, np.concatenate([train.pixels, test.pixels]))
    np.testing.assert_array_equal(both.labels, data.target)
    np.testing.assert_array_equal(np.rint(both.pixels[..., 0] / 255 * 16), data.images)
    levels = [round(v * 255 / 16) for v in range(17)]
    assert np.unique(both.pixels).tolist() == levels
    assert both.classes == tuple("0123456789")
    with pytest.raises(UserError, match=r"no split 'validation'; choose one of test, train, all"):
        read_images("digits", split="validation")
    with pytest.raises(UserError, match=r"digits has no columns; leave out --field text"):
        read_images("digits", field="text")
    # A path of that name goes first.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(UserError, match=r"digits holds no images"):
        read_images("digits")


def test_scikit_learn_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"digits needs .*pip install 'unmask\[images\]'"):
        read_images("digits")


# IDX


def idx(values):
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def make_idx(folder, train=GREYS[:4], test=GREYS[4:], pack=bytes, ending="", dot="-"):
    for name, images in (("train", train), ("t10k", test)):
        numbers = np.arange(len(images)) * (1 if name == "train" else 7)
        for kind, values in ((f"images{dot}idx3", images), (f"labels{dot}idx1", numbers)):
            (folder / f"{name}-{kind}-ubyte{ending}").write_bytes(pack(idx(values)))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_the_files_of_mnist(tmp_path, packed):
    make_idx(tmp_path, pack=gzip.compress if packed else bytes, ending=".gz" if packed else "")
    for split, images, labels in (
        ("train", GREYS[:4], [0, 1, 2, 3]),
        ("test", GREYS[4:], [0, 7]),
        ("all", [*GREYS[4:], *GREYS[:4]], [0, 7, 0, 1, 2, 3]),
    ):
        found, _ = read_all(tmp_path, split=split)
        np.testing.assert_array_equal(found.pixels[..., 0], images)
        assert found.labels.tolist() == labels
        # Those of all files, so that a number means the same class in each split.
        assert found.classes == tuple("01234567")
    with pytest.raises(UserError, match=r"no split 'validation'; choose one of test, train, all"):
        read_images(str(tmp_path), split="validation")
    with pytest.raises(UserError, match=r"has no columns; leave out --label-field x"):
        read_images(str(tmp_path), label_field="x")
    Image.fromarray(GREYS[0]).save(tmp_path / "preview.png")
    found, notes = read_all(tmp_path)
    assert len(found) == 4
    assert notes == [f"left out 1 of 3 files in {tmp_path}: .png"]


def test_one_idx_file_and_other_places(tmp_path):
    make_idx(tmp_path, dot=".")
    file = tmp_path / "t10k-images.idx3-ubyte"
    assert read_all(file)[0].labels.tolist() == [0, 7]
    with pytest.raises(UserError, match=r"has no splits, so there is no 'test'"):
        read_images(str(file), split="test")
    # By its first bytes, without labels, and resized as any other.
    (tmp_path / "other.bz2").write_bytes(bz2.compress(file.read_bytes()))
    found, _ = read_all(tmp_path / "other.bz2", resize=2, channels=3)
    assert found.pixels.shape == (2, 2, 2, 3)
    assert (found.labels, found.classes) == (None, ())
    # As torchvision keeps them: both forms, in a folder below.
    raw = tmp_path / "set" / "raw"
    raw.mkdir(parents=True)
    make_idx(make_idx(raw), pack=gzip.compress, ending=".gz")
    assert len(read_all(raw.parent)[0]) == 4
    (raw / "emnist-train-images-idx3-ubyte").write_bytes(idx(GREYS))
    with pytest.raises(UserError, match=r"holds several IDX files of images for the split train"):
        read_images(str(raw))


IDX = {
    "short": (idx(GREYS)[:-1], r"has 111 bytes where its header promises 112; fetch it anew"),
    "long": (idx(GREYS) + b"x", r"has 113 bytes where its header promises 112"),
    "cut header": (idx(GREYS)[:9], r"has 9 bytes where its header promises 16; fetch it anew"),
    "empty": (b"", r"is no IDX file of images, which begins with the bytes 00 00 08 03"),
    "other type": (b"\0\0\x0d\x03" + idx(GREYS)[4:], r"is no IDX file of images"),
    "labels": (idx(np.arange(6)), r"is no IDX file of images"),
    "forged": (b"\0\0\x08\x03" + b"\xff" * 12, r"has 16 bytes where its header promises 7922816"),
    "none": (idx(GREYS[:0]), r"holds no images; name a file that does"),
    "no pixels": (idx(GREYS[:, :0]), r"holds no images"),
}


@pytest.mark.parametrize("kind", IDX)
def test_a_damaged_idx_file(tmp_path, kind):
    content, message = IDX[kind]
    make_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    for source in (tmp_path, path):
        with pytest.raises(UserError, match=rf"{path.name} {message}"):
            read_images(str(source))


def test_idx_files_that_do_not_fit(tmp_path):
    make_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(3)))
    with pytest.raises(UserError, match=r"has 4 images, and the file beside it 3 labels; fetch"):
        read_images(str(tmp_path))
    packed = gzip.compress(idx(GREYS))
    (tmp_path / "b-idx3-ubyte.gz").write_bytes(packed[:-9])
    with pytest.raises(UserError, match=r"cannot read .*b-idx3-ubyte.gz: "):
        read_images(str(tmp_path / "b-idx3-ubyte.gz"))


# Sprite sheets


def sheet(path, rows):
    """Write a grid of images, (rows, columns, S, S, C), as one file."""
    Image.fromarray(np.concatenate([np.concatenate([*row], 1) for row in rows])).save(path)


def make_sheets(folder):
    sheet(folder / "b_10.png", COLOURS.reshape(3, 2, 4, 4, 3))
    sheet(folder / "b_9.png", COLOURS[::-1].reshape(2, 3, 4, 4, 3))
    labels = {"9": [1, 1, 1, 1], "b_10": [0, 1, 0, 1, 0, 1], "7": [0]}
    content = {"class_names": ["x", "y"], "labels": labels}
    (folder / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "readme.txt").write_text("sheets", encoding="utf-8")
    return folder


def test_tiles_are_cut_row_by_row(tmp_path):
    make_sheets(tmp_path)
    found, notes = read_all(f"sprites:{tmp_path}?size=4")
    # Sheets in natural order; two tiles of the first have no labels, so they are empty.
    np.testing.assert_array_equal(found.pixels, [*COLOURS[::-1][:4], *COLOURS])
    assert found.labels.tolist() == [1, 1, 1, 1, 0, 1, 0, 1, 0, 1]
    assert found.classes == ("x", "y")
    assert notes == [f"left out 1 of 4 files in {tmp_path}: .txt"]
    source = f"sprites:{tmp_path}?size=4&test=10"
    np.testing.assert_array_equal(read_all(source, split="test")[0].pixels, COLOURS)
    assert len(read_all(source)[0]) == 4
    assert len(read_all(source, split="all")[0]) == 10
    (tmp_path / "labels.json").unlink()
    found, _ = read_all(f"sprites:{tmp_path}?size=2", channels=1)
    assert found.pixels.shape == (48, 2, 2, 1)
    assert found.labels is None


def test_rows_of_a_sheet_are_images(tmp_path):
    Image.fromarray(COLOURS.reshape(6, 16, 3)).save(tmp_path / "a.png")
    found, _ = read_all(f"sprites:{tmp_path}?layout=rows&size=4")
    np.testing.assert_array_equal(found.pixels, COLOURS)
    with pytest.raises(UserError, match=r"a row of .*a.png has 16 pixels, and not 3 x 3; correct"):
        read_images(f"sprites:{tmp_path}?size=3&layout=rows")
    with pytest.raises(UserError, match=r"16 x 6 pixels, which cannot be .* or add layout=rows"):
        read_images(f"sprites:{tmp_path}?size=4")


SOURCES = {
    "sprites:{}": r"has to say how large an image is; write sprites:FOLDER\?size=S",
    "sprites:{}?size=0": r"has to say how large",
    "sprites:{}?size=-4": r"has to say how large",
    "sprites:{}?size=²": r"has to say how large",
    "sprites:{}?size=": r"has to say how large",
    "sprites:{}?size=4&sise=4": r"has an option 'sise'; did you mean 'size'\?",
    "sprites:{}?size=4&size=5": r"has an option twice",
    "sprites:{}?size=4&layout=row": r"has the layout 'row'; did you mean 'rows'\?",
    "sprites:{}/none?size=4": r"there is no folder",
    "sprites:{}?size=5": r"b_9.png has 12 x 8 pixels, which cannot be cut into tiles of 5 x 5",
    "sprites:{}?size=2": r"b_9.png has 24 images, and the JSON file in its folder 4 labels",
    "sprites:{}?size=4&test=8": r"has no sheet '8'; correct test=8",
    "sprites:{}?size=4&test=9,10": r"leaves no sheet for the split train",
}


@pytest.mark.parametrize("source", SOURCES)
def test_sheets_that_cannot_be_cut(tmp_path, source):
    make_sheets(tmp_path)
    with pytest.raises(UserError, match=SOURCES[source]):
        read_images(source.format(tmp_path), note=lambda line: None)


JSON = [
    "[]",
    "{}",
    '{"class_names": "xy", "labels": {}}',
    '{"class_names": [1], "labels": {}}',
    '{"class_names": ["x"], "labels": [0]}',
    '{"class_names": ["x"], "labels": {"9": [true]}}',
    '{"class_names": ["x"], "labels": {"9": 0}}',
]


def test_labels_of_sheets_that_do_not_fit(tmp_path):
    make_sheets(tmp_path)
    path, source = tmp_path / "labels.json", f"sprites:{tmp_path}?size=4"

    def refused(content, message):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_images(source, note=lambda line: None)

    for content in JSON:
        refused(content, r"labels.json is no file of labels; it has to be an object such as")
    refused("{", r"cannot read .*labels.json as JSON")
    refused('{"class_names": ["x"], "labels": {"9": [0]}}', r"6 images, and .* 1 labels for it")
    labels = {"9": [0] * 6, "10": [0, 0, 0, 0, 0, 2]}
    refused(json.dumps({"class_names": ["x", "y"], "labels": labels}), r"has a label 2, and class")
    del labels["10"]
    refused(json.dumps({"class_names": ["x", "y"], "labels": labels}), r"b_10.png has 6 .* 0 label")
    refused(json.dumps({"class_names": ["x"], "labels": labels | {"10": [0] * 7}}), r"7 labels")
    with pytest.raises(UserError, match=r"has no splits, so there is no 'test'"):
        read_images(source, split="test", note=lambda line: None)
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    refused("{}", r"holds several JSON files, labels.json and other.json; leave the one")
    with pytest.raises(UserError, match=r"there is no folder .*labels.json"):
        read_images(f"sprites:{path}?size=4")
    with pytest.raises(UserError, match=r"has no columns; leave out --field img"):
        read_images(source, field="img")


# Parquet and the hub


def encoded(pixels, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


FILES = [encoded(pixels) for pixels in COLOURS]
STRUCTS = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(FILES)]


def table(path, images=FILES, names=None, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pyarrow.table({"image": images} | columns)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        content = content.replace_schema_metadata({"huggingface": about})
    parquet.write_table(content, path)
    return path


@pytest.mark.parametrize("images", [FILES, STRUCTS], ids=["bytes", "structs"])
@pytest.mark.parametrize(
    ("labels", "names", "classes", "indices"),
    [
        ([2, 0, 1, 0, 0, 0], ["a", "b", "c", "d"], "abcd", [2, 0, 1, 0, 0, 0]),
        ([2, 0, 1, 0, 0, 0], {"0": "a", "1": "b", "2": "c"}, "abc", [2, 0, 1, 0, 0, 0]),
        ([2, 0, 4, 0, 0, 0], None, "01234", [2, 0, 4, 0, 0, 0]),
        (["b", "a", "b", "c", "a", "a"], None, "abc", [1, 0, 1, 2, 0, 0]),
        ([True, False] * 3, None, ["False", "True"], [1, 0] * 3),
        ([-1] * 6, ["a", "b"], None, None),
        ([None] * 6, None, None, None),
        (None, None, None, None),
    ],
)
def test_a_parquet_file(tmp_path, images, labels, names, classes, indices):
    columns = {} if labels is None else {"label": labels, "n": range(6)}
    path = table(tmp_path / "a.parquet", images, names, **columns)
    found, notes = read_all(path)
    np.testing.assert_array_equal(found.pixels, COLOURS)
    assert found.classes == tuple(classes or ())
    assert (found.labels is None) if indices is None else (found.labels.tolist() == indices)
    assert notes == []


def test_columns_of_a_parquet_file(tmp_path):
    path = table(tmp_path / "a.parquet", kind=["x"] * 6, n=[0.5] * 6)
    found, notes = read_all(path)
    assert found.labels is None
    assert notes == [
        f"{path} has no column 'label', so its images have no labels; --label-field chooses "
        "another, of image, kind, n"
    ]
    assert read_all(path, label_field="kind")[0].classes == ("x",)
    for options, message in (
        ({"field": "img"}, r"no column 'img' of images; choose one with --field, of image, kind"),
        ({"label_field": "k"}, r"no column 'k' of labels; choose one with --label-field, of imag"),
        ({"field": "kind"}, r"image in row 1 of .* is a str, not the content of an image file"),
        ({"label_field": "n"}, r"label in row 1 of .* is 0.5, neither a whole number nor a name"),
        ({"split": "test"}, r"has no splits, so there is no 'test'"),
    ):
        with pytest.raises(UserError, match=message):
            read_images(str(path), note=lambda line: None, **options)


def test_bad_cells_of_a_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    for images, labels, message in (
        ([*FILES[:5], None], [0] * 6, r"in row 6 of .* is empty, not the content"),
        ([*FILES[:5], b"x"], [0] * 6, r"cannot read the image in row 6 of .*a.parquet: it is dama"),
        ([*FILES[:5], FILES[0][:99]], [0] * 6, r"cannot read the image in row 6"),
        (FILES, [0, 1, None, 0, 0, 0], r"1 of 6 images in .* no label, the first of them number 3"),
        (FILES, [0, 1, -2, 0, 0, 0], r"has a label -2, and classes 0 to 1; correct it"),
        (FILES, [10**12] * 6, r"label 1000000000000, which is no class; choose another column"),
        ([*FILES[:5], encoded(GREYS[0])], [0] * 6, r"in row 6 .* is grey and in row 1 .* is RGB"),
        ([*FILES[:5], encoded(COLOURS[0, 1:])], [0] * 6, r"in row 1 of .* has 4 x 4 pixels and in"),
        ([{"bytes": None, "path": "no.png"}] * 6, [0] * 6, r"no.png, which does not exist; fetch"),
    ):
        table(path, images, label=labels)
        with pytest.raises(UserError, match=message):
            read_images(str(path))
    table(path, FILES, label=[9] * 6, names=["a", "b"])
    with pytest.raises(UserError, match=r"has a label 9, and classes 0 to 1; correct it"):
        read_images(str(path))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"cannot read .*a.parquet as parquet"):
        read_images(str(path))


def test_images_of_a_table_in_files_beside_it(tmp_path):
    Image.fromarray(COLOURS[0]).save(tmp_path / "a.png")
    path = table(tmp_path / "a.parquet", [{"bytes": None, "path": "a.png"}])
    np.testing.assert_array_equal(read_all(path)[0].pixels, COLOURS[:1])


@pytest.mark.parametrize("layout", ["data/{}-0000{}.parquet", "{}/{}.parquet"])
def test_a_folder_of_parquet_files_has_splits(tmp_path, layout):
    for split, number, part in (("train", 0, 0), ("train", 1, 2), ("test", 0, 4)):
        labels = [part % 3, 0]
        path = tmp_path / layout.format(split, number)
        table(path, FILES[part : part + 2], ["a", "b", "c"], label=labels)
    (tmp_path / "README.md").write_text("a data set", encoding="utf-8")
    found, notes = read_all(tmp_path)
    np.testing.assert_array_equal(found.pixels, COLOURS[:4])
    assert found.labels.tolist() == [0, 0, 2, 0]
    assert found.classes == ("a", "b", "c")
    assert notes == [f"left out 1 of 4 files in {tmp_path}: .md"]
    test, _ = read_all(tmp_path, split="test")
    np.testing.assert_array_equal(test.pixels, COLOURS[4:])
    with pytest.raises(UserError, match=r"no split 'validation'; choose one of test, train, all"):
        read_images(str(tmp_path), split="validation", note=lambda line: None)
    table(tmp_path / "other.parquet", FILES)
    with pytest.raises(UserError, match=r"has the split test, and images outside of it"):
        read_images(str(tmp_path), note=lambda line: None)


def test_a_folder_of_parquet_files_with_other_classes(tmp_path):
    for number, names in enumerate((["a", "b"], ["b", "a"])):
        table(tmp_path / f"{number}.parquet", FILES, names, label=[0] * 6)
    with pytest.raises(UserError, match=r"the classes of .*1.parquet are not those of .*0.parquet"):
        read_images(str(tmp_path))


@pytest.fixture
def hub(monkeypatch):
    """Answer for the hub: sets ``fetched`` to what is asked for, and returns rows."""
    answers = {}

    def load(name, config, split):
        answers["fetched"] = (name, config, split)
        return answers["rows"]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return answers


@pytest.mark.parametrize("feature", ["Image", "binary"])
def test_a_hub_data_set(hub, feature):
    image = datasets.Image() if feature == "Image" else datasets.Value("binary")
    features = datasets.Features(
        img=image, n=datasets.Value("int64"), label=datasets.ClassLabel(names=["x", "y"])
    )
    content = {"img": FILES, "n": [0] * 6, "label": [0, 1, 1, 0, 0, 0]}
    hub["rows"] = datasets.Dataset.from_dict(content, features=features)
    found, notes = read_all("someone/images:small", split="train[:6]", field="img")
    assert hub["fetched"] == ("someone/images", "small", "train[:6]")
    np.testing.assert_array_equal(found.pixels, COLOURS)
    assert (found.labels.tolist(), found.classes) == ([0, 1, 1, 0, 0, 0], ("x", "y"))
    assert notes == []
    with pytest.raises(UserError, match=r"no column 'image' of images; .* of img, n, label"):
        read_images("someone/images")


def test_a_hub_data_set_is_decoded_by_our_own_rules(hub):
    animated = io.BytesIO()
    frames = [Image.fromarray(pixels) for pixels in COLOURS]
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    content = {"image": [FILES[0], animated.getvalue()]}
    features = datasets.Features(image=datasets.Image())
    hub["rows"] = datasets.Dataset.from_dict(content, features=features)
    with pytest.raises(UserError, match=r"image in row 2 of someone/images is animated"):
        read_images("someone/images")


def test_images_of_pillow_in_a_hub_data_set(hub):
    class Rows(list):
        column_names = ("image", "label")
        features = {"image": None, "label": None}  # noqa: RUF012

        def select_columns(self, names):
            assert names == ["image", "label"]
            return self

    hub["rows"] = Rows({"image": Image.fromarray(p).convert("P"), "label": "x"} for p in GREYS)
    found, notes = read_all("someone/images")
    assert found.pixels.shape == (6, 4, 4, 3)
    assert notes == ["converted palette to RGB: 6 images of someone/images"]
    for mode, message in (("F", r"row 1 of .* real numbers as pixels"), ("I", r"than 16 bits")):
        hub["rows"] = Rows([{"image": Image.new(mode, (4, 4), 70000), "label": "x"}])
        with pytest.raises(UserError, match=message):
            read_images("someone/images")


def test_a_hub_data_set_that_cannot_be_fetched():
    with pytest.raises(UserError, match=r"no data set of that name could be fetched"):
        read_images("nobody/knows-this-one")


# Real data


@needs_shared
def test_mnist():
    counts = {"train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]}
    counts["test"] = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    for split, expected in counts.items():
        found, _ = read_all(SHARED / "mnist", split=split)
        assert found.pixels.shape == (sum(expected), 28, 28, 1)
        assert np.bincount(found.labels).tolist() == expected
        assert found.classes == tuple("0123456789")
    # The average grey level that every user of MNIST divides by.
    assert read_all(SHARED / "mnist")[0].pixels.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


@needs_shared
def test_cifar10_as_the_documentation_names_it(monkeypatch):
    # The documentation names it from the root of a checkout.
    monkeypatch.chdir(Path(__file__).parents[2])
    source = re.search(r"``(sprites:\.\./shared.*?)``", sprites.__doc__)[1]
    train, _ = read_all(source)
    test, _ = read_all(source, split="test")
    assert train.pixels.shape == (10000, 32, 32, 3)
    assert test.pixels.shape == (1000, 32, 32, 3)
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert train.classes[6] == "frog"
    # The first pixels of the first image of data_batch_1, and pixels next to each other are alike.
    assert train.pixels[0, 0, 0].tolist() == [59, 62, 63]
    for axis in (1, 2):
        assert abs(np.diff(train.pixels.astype(int), axis=axis)).mean() < 20
