"""Pictures: image files, their recordings, and what is drawn from them."""

import json
import re
import sys
import zlib
from base64 import b64decode
from io import StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from test_render import Page, plain, terminal
from unmask.cli import main
from unmask.errors import UserError
from unmask.pipelines.picture_trace import PictureFrame, PictureTrack
from unmask.render import json_lines, style
from unmask.render.gif import LAST_SECONDS
from unmask.render.picture_gif import MOST_FRAMES, save_gif
from unmask.render.picture_html import save_html
from unmask.render.picture_jsonl import load_frames, save_frames
from unmask.render.picture_page import SIDES
from unmask.render.picture_terminal import (
    LivePicture,
    as_text,
    half_blocks,
    play_pictures,
    shades,
)
from unmask.render.pictures import (
    MIDDLE,
    by_label,
    chequered,
    downscaled,
    near_square,
    save_grid,
    save_png,
    shown,
    upscaled,
)

GREY = (6, 5, 1)
COLOUR = (5, 6, 3)
SMALL = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 8, 7]]]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def frame(pixels, undecided=None, given=None, step=3, seconds=0.5, nfe=4):
    pixels = np.array(pixels, dtype=np.uint8)
    none = np.zeros(pixels.shape, bool)
    undecided, given = (none if flags is None else np.array(flags) for flags in (undecided, given))
    return PictureFrame(step, seconds, nfe, pixels, undecided, given)


def recording(shape=GREY, steps=8, label="a track", seconds=2.0, seed=0, image=None):
    """Return a track that decides sub-pixels in a random order; the first row is given."""
    image = noise(*shape, seed=seed) if image is None else image
    order = np.random.default_rng(seed).random(image.shape)
    given = np.zeros(image.shape, bool)
    given[0] = True
    frames = []
    for step in range(steps + 1):
        undecided = (order >= step / steps) & ~given
        junk = np.where(undecided, 77, image).astype(np.uint8)
        frames.append(PictureFrame(step, seconds * step / steps, step, junk, undecided, given))
    return PictureTrack(label, tuple(frames))


def same(one, other):
    """Return whether two recordings agree in everything."""
    if [track.label for track in one] != [track.label for track in other]:
        return False
    pairs = [
        pair
        for a, b in zip(one, other, strict=True)
        for pair in zip(a.frames, b.frames, strict=True)
    ]
    return all(
        (a.step, a.seconds, a.nfe) == (b.step, b.seconds, b.nfe)
        and np.array_equal(a.pixels, b.pixels)
        and np.array_equal(a.undecided, b.undecided)
        and np.array_equal(a.given, b.given)
        for a, b in pairs
    )


class TestTrace:
    @pytest.mark.parametrize(
        ("pixels", "undecided"),
        [
            (noise(4, 4), np.zeros((4, 4), bool)),
            (noise(4, 4, 2), np.zeros((4, 4, 2), bool)),
            (noise(0, 4, 1), np.zeros((0, 4, 1), bool)),
            (noise(4, 4, 1), np.zeros((4, 4, 3), bool)),
            (noise(4, 4, 1), np.zeros((4, 4, 1), np.uint8)),
            (noise(4, 4, 1).astype(int), np.zeros((4, 4, 1), bool)),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, pixels, undecided):
        with pytest.raises(ValueError, match=r"shape|uint8"):
            PictureFrame(0, 0.0, 0, pixels, undecided, np.zeros(pixels.shape, bool))

    def test_a_track_has_one_size(self):
        with pytest.raises(ValueError, match="differ in shape"):
            PictureTrack("a", (frame(noise(2, 2, 1)), frame(noise(2, 3, 1))))

    def test_what_is_given_is_no_progress(self):
        done = [f.done for f in recording(steps=4).frames]
        assert done[0] == 0
        assert done[-1] == 1
        assert done == sorted(done)
        everything = np.ones((2, 2, 1), bool)
        assert frame(noise(2, 2, 1), given=everything).done == 1


class TestLook:
    def test_decided_sub_pixels_show_their_value(self):
        grey, colour = noise(*GREY), noise(*COLOUR)
        assert np.array_equal(shown(frame(colour)), colour)
        assert np.array_equal(shown(frame(grey)), grey.repeat(3, axis=2))
        for track in (recording(), recording(COLOUR)):
            for f in track.frames:
                values = np.broadcast_to(f.pixels, (*f.pixels.shape[:2], 3))
                decided = np.broadcast_to(~f.undecided, values.shape)
                assert np.array_equal(shown(f)[decided], values[decided])

    @pytest.mark.parametrize("shape", [GREY, COLOUR])
    def test_an_undecided_picture_is_chequered_and_no_grey(self, shape):
        look = shown(frame(np.zeros(shape), np.ones(shape, bool)))
        assert np.array_equal(look, chequered(*shape[:2]))
        assert tuple(look[0, 0]) == tuple(look[1, 1]) == style.UNDECIDED[0]
        assert tuple(look[0, 1]) == tuple(look[1, 0]) == style.UNDECIDED[1]
        assert all(len(set(colour)) > 1 for colour in style.UNDECIDED)

    def test_an_undecided_channel_is_between_the_ground_and_the_middle(self):
        undecided = [[[False, True, True]]]
        red, green, blue = shown(frame([[[200, 1, 2]]], undecided))[0, 0]
        assert red == 200
        assert (green, blue) == tuple((c + MIDDLE) // 2 for c in style.UNDECIDED[0][1:])

    def test_the_value_of_an_undecided_sub_pixel_is_never_seen(self):
        undecided = np.random.default_rng(0).random(COLOUR) < 0.5
        one, other = noise(*COLOUR), noise(*COLOUR, seed=1)
        other = np.where(undecided, other, one)
        assert np.array_equal(shown(frame(one, undecided)), shown(frame(other, undecided)))


class TestScale:
    def test_enlarging_repeats_and_reducing_undoes_it(self):
        image = noise(*COLOUR)
        large = upscaled(image, 3)
        assert large.shape == (15, 18, 3)
        assert np.array_equal(large[::3, ::3], image)
        assert np.array_equal(large[2::3, 1::3], image)
        assert np.array_equal(downscaled(large, 3), image)

    def test_an_edge_that_does_not_divide_is_kept(self):
        assert downscaled(np.full((5, 7, 3), 9, np.uint8), 2).shape == (3, 4, 3)
        assert (downscaled(np.full((5, 7, 3), 9, np.uint8), 2) == 9).all()

    @pytest.mark.parametrize(
        ("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4)]
    )
    def test_a_grid_is_nearly_square(self, count, columns):
        assert near_square(count) == columns


class TestPng:
    @pytest.mark.parametrize(
        ("shape", "mode"), [((7, 9), "L"), ((7, 9, 1), "L"), ((7, 9, 3), "RGB"), ((1, 1, 3), "RGB")]
    )
    def test_every_value_comes_back(self, tmp_path, shape, mode):
        image = noise(*shape)
        save_png(tmp_path / "a.png", image)
        with Image.open(tmp_path / "a.png") as file:
            assert file.mode == mode
            assert file.info["Software"] == "unmask"
            assert np.array_equal(np.array(file), image.reshape(np.array(file).shape))

    def test_all_256_levels_come_back(self, tmp_path):
        levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
        save_png(tmp_path / "a.PNG", levels)
        assert np.array_equal(np.array(Image.open(tmp_path / "a.PNG")), levels[:, :, 0])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_grid_without_padding_is_the_images(self, tmp_path, channels):
        images = noise(6, 4, 5, channels)
        save_grid(tmp_path / "a.png", images, pad=0)
        sheet = np.array(Image.open(tmp_path / "a.png")).reshape(8, 15, channels)
        for index, image in enumerate(images):
            top, left = index // 3 * 4, index % 3 * 5
            assert np.array_equal(sheet[top : top + 4, left : left + 5], image)

    def test_padding_and_scale(self, tmp_path):
        images = noise(5, 4, 6, 3)
        save_grid(tmp_path / "a.png", images, columns=2, pad=2, scale=3)
        sheet = np.array(Image.open(tmp_path / "a.png"))
        assert sheet.shape == (3 * (3 * (4 + 2) + 2), 3 * (2 * (6 + 2) + 2), 3)
        small = sheet[::3, ::3]
        assert np.array_equal(upscaled(small, 3), sheet)
        assert np.array_equal(small[2 + 6 : 2 + 6 + 4, 2 + 8 : 2 + 8 + 6], images[3])
        empty = small[2 + 12 :, 2 + 8 :]
        assert (empty == style.FAINT).all()

    def test_the_padding_of_grey_images_is_grey_and_neither_black_nor_white(self, tmp_path):
        save_grid(tmp_path / "a.png", np.zeros((4, 2, 2, 1), np.uint8))
        with Image.open(tmp_path / "a.png") as file:
            assert file.mode == "L"
            assert file.size == (7, 7)
            assert 30 < file.getpixel((0, 0)) < 200
            assert file.getpixel((1, 1)) == 0

    @pytest.mark.parametrize(
        "image", [noise(3), noise(3, 3, 2), noise(3, 3, 3, 1), np.zeros((3, 3)), noise(0, 3)]
    )
    def test_what_is_no_image_is_refused(self, tmp_path, image):
        with pytest.raises(UserError, match=r"an image is|a PNG has"):
            save_png(tmp_path / "a.png", image)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("images", "options", "reason"),
        [
            (noise(3, 3, 3), {}, "a grid takes"),
            (noise(0, 3, 3, 1), {}, "a grid takes"),
            (noise(2, 3, 3, 1), {"columns": 0}, "columns"),
            (noise(2, 3, 3, 1), {"pad": -1}, "pad"),
            (noise(2, 3, 3, 1), {"scale": 0}, "scale"),
            (noise(2, 3, 3, 1), {"scale": 10_000}, "smaller scale"),
        ],
    )
    def test_a_grid_that_cannot_be_is_refused(self, tmp_path, images, options, reason):
        with pytest.raises(UserError, match=reason):
            save_grid(tmp_path / "a.png", images, **options)
        assert not list(tmp_path.iterdir())

    def test_only_our_own_files_are_replaced(self, tmp_path):
        ours, foreign, other = (tmp_path / name for name in ("ours.png", "foreign.png", "a.png"))
        save_png(ours, noise(3, 3))
        save_png(ours, noise(4, 4))
        assert Image.open(ours).size == (4, 4)
        Image.fromarray(noise(3, 3)).save(foreign)
        other.write_text("a text")
        for path in (foreign, other):
            before = path.read_bytes()
            for write in (
                lambda path=path: save_png(path, noise(3, 3)),
                lambda path=path: save_grid(path, noise(2, 3, 3, 1)),
            ):
                with pytest.raises(UserError, match="was not written by"):
                    write()
            assert path.read_bytes() == before
        with pytest.raises(UserError, match=r"ends in \.png"):
            save_png(tmp_path / "a.jpg", noise(3, 3))

    def test_a_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        save_png(path, noise(3, 3))
        before = path.read_bytes()
        monkeypatch.setattr(Image.Image, "save", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_png(path, noise(3, 3, seed=1))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_missing_library_names_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(UserError, match=r"a PNG needs PIL.*pip install 'unmask\[viz\]'"):
            save_png(tmp_path / "a.png", noise(3, 3))


class TestRecord:
    def test_reading_returns_what_was_written(self, tmp_path):
        tracks = [
            recording(),
            recording(COLOUR, label="[red]\u2028 é \ud800", seed=1),
            recording((1, 1, 1), steps=1),
        ]
        save_frames(tracks, tmp_path / "new" / "r.jsonl")
        assert same(load_frames(tmp_path / "new" / "r.jsonl"), tracks)

    def test_a_header_and_a_line_per_frame(self, tmp_path):
        path = tmp_path / "r.jsonl"
        save_frames([recording()], path)
        header, *lines = map(json.loads, path.read_text().splitlines())
        about = {"label": "a track", "height": 6, "width": 5, "channels": 1}
        assert header == {"format": 1, "pictures": [about]}
        assert len(lines) == 9
        first = recording().frames[0]
        assert b64decode(lines[0]["pixels"]) == first.pixels.tobytes()
        bits = np.frombuffer(b64decode(lines[0]["undecided"]), np.uint8)
        assert len(bits) == 4
        assert np.array_equal(np.unpackbits(bits, count=30), first.undecided.ravel())

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"pixels": "AAAA"}, "pixels has 3 bytes, not 1"),
            ({"pixels": "A"}, "pixels is not base64"),
            ({"pixels": "é"}, "ASCII"),
            ({"undecided": ""}, "undecided has 0 bytes"),
            ({"given": 1}, "wrong type"),
            ({"step": True}, "wrong type"),
            ({"track": 1}, "no track 1"),
            ({"nfe": None}, "wrong type"),
        ],
    )
    def test_a_bad_frame_is_named_with_its_line(self, tmp_path, change, reason):
        good = {"track": 0, "step": 0, "seconds": 0, "nfe": 0}
        good |= {"pixels": "AA==", "undecided": "gA==", "given": "AA=="}
        about = {"label": "a", "height": 1, "width": 1, "channels": 1}
        path = tmp_path / "r.jsonl"
        lines = [{"format": 1, "pictures": [about]}, good, good | change]
        path.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(UserError, match=rf"in line 3, .*{reason}"):
            load_frames(path)

    @pytest.mark.parametrize(
        "about",
        [[], {}, {"label": 1, "height": 1, "width": 1, "channels": 1}, {"label": "a", "height": 0}],
    )
    def test_a_bad_header_is_named(self, tmp_path, about):
        path = tmp_path / "r.jsonl"
        path.write_text(json.dumps({"format": 1, "pictures": [about]}))
        with pytest.raises(UserError, match="in line 1, a picture has no label, height"):
            load_frames(path)

    def test_channels_other_than_1_and_3_are_refused(self, tmp_path):
        path = tmp_path / "r.jsonl"
        save_frames([recording((1, 2, 1))], path)
        path.write_text(
            path.read_text().replace('"width": 2, "channels": 1', '"width": 1, "channels": 2')
        )
        with pytest.raises(UserError, match="in line 2, a picture has the shape"):
            load_frames(path)

    def test_nothing_recorded_is_refused(self, tmp_path):
        for tracks in ([], [PictureTrack("a", ())]):
            with pytest.raises(UserError, match="the recording is empty"):
                save_frames(tracks, tmp_path / "r.jsonl")

    def test_both_kinds_may_be_replaced_and_nothing_else(self, tmp_path):
        path = tmp_path / "r.jsonl"
        save_frames([recording()], path)
        assert json_lines.holds_pictures(path)
        json_lines.check_replaceable(path)
        for content in ('{"text": "mine"}\n', '{"format": 1, "pictures": [1]}', '"pictures"', "1"):
            path.write_text(content)
            assert not json_lines.holds_pictures(path) or "format" in content
            with pytest.raises(UserError, match="is not a recording"):
                json_lines.check_replaceable(path)


class TestGif:
    def frames(self, path):
        with Image.open(path) as image:
            pictures, times = [], []
            for index in range(image.n_frames):
                image.seek(index)
                pictures.append(np.array(image.convert("RGB")))
                times.append(image.info["duration"])
        return pictures, times

    def inside(self, picture, image):
        """Return the part of a frame that shows the only picture."""
        scale = round(SIDES[0] / max(image.shape[:2]))
        wanted = upscaled(image, scale)
        height, width, _ = wanted.shape
        # A panel at (36, 70) with 26 pixels around the picture.
        left = 36 + 26 + (max(width, 260) - width) // 2
        return picture[96 : 96 + height, left : left + width]

    def test_every_step_is_a_frame_and_the_last_lingers(self, tmp_path):
        save_gif([recording()], tmp_path / "a.gif")
        pictures, times = self.frames(tmp_path / "a.gif")
        assert len(pictures) == 9
        assert times == [500] * 8 + [1000 * LAST_SECONDS]

    @pytest.mark.parametrize("shape", [(28, 28, 1), (8, 9, 3)])
    def test_few_colours_are_exact_in_every_frame(self, tmp_path, shape):
        track = recording(shape, image=noise(*shape) // 16 * 16)
        if shape[2] == 3:
            track = PictureTrack("a", track.frames[-1:])
        save_gif([track], tmp_path / "a.gif")
        for picture, f in zip(self.frames(tmp_path / "a.gif")[0], track.frames, strict=True):
            look = shown(f)
            scale = round(SIDES[0] / max(shape))
            assert np.array_equal(self.inside(picture, look), upscaled(look, scale))

    def test_many_colours_are_near(self, tmp_path):
        ramp = np.indices((32, 32)).transpose(1, 2, 0) * 8
        image = np.concatenate([ramp, 255 - ramp[:, :, :1]], axis=2).astype(np.uint8)
        track = recording((32, 32, 3), image=image)
        save_gif([track], tmp_path / "a.gif")
        pictures, _ = self.frames(tmp_path / "a.gif")
        last = self.inside(pictures[-1], image).astype(int)
        assert np.abs(last - upscaled(image, 10)).mean() < 6
        # The ground of undecided pixels is exact, whatever the other colours.
        first = self.inside(pictures[0], image)
        undecided = track.frames[0].undecided.all(axis=2)
        assert np.array_equal(first[::10, ::10][undecided], chequered(32, 32)[undecided])

    def test_grey_levels_that_do_not_fit_are_off_by_one_at_most(self, tmp_path):
        image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
        save_gif([recording(image=image)], tmp_path / "a.gif")
        last = self.inside(self.frames(tmp_path / "a.gif")[0][-1], image)
        assert np.abs(last.astype(int) - upscaled(image, 20)).max() <= 1

    def test_tracks_of_one_label_share_a_panel(self, tmp_path):
        def size(*labels):
            save_gif([recording(label=label) for label in labels], tmp_path / "a.gif")
            return Image.open(tmp_path / "a.gif").size

        one, four = size("a"), size("a", "a", "a", "a")
        two = size("a", "b")
        assert two[0] > 1.5 * one[0]
        assert two[1] == one[1]
        assert four[0] < 2 * one[0]
        assert four[0] > one[0]
        assert by_label([recording(label=n) for n in "abab"]) == [[0, 2], [1, 3]]
        assert by_label([recording(), recording(COLOUR)]) == [[0], [1]]

    def test_a_long_run_is_thinned_out_but_not_its_ends(self, tmp_path):
        track = recording((1, 1, 1), steps=2 * MOST_FRAMES)
        save_gif([track], tmp_path / "a.gif")
        pictures, _ = self.frames(tmp_path / "a.gif")
        assert MOST_FRAMES / 2 < len(pictures) <= MOST_FRAMES + 1

    def test_no_track_and_no_frame_are_refused(self, tmp_path):
        for tracks in ([], [PictureTrack("a", ())]):
            with pytest.raises(UserError, match="the recording is empty"):
                save_gif(tracks, tmp_path / "a.gif")
            with pytest.raises(UserError, match="the recording is empty"):
                save_html(tracks, tmp_path / "a.html", "title")
        assert not list(tmp_path.iterdir())


class TestHtml:
    def write(self, path, tracks, title="A title"):
        save_html(tracks, path, title)
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        return text, page, json.loads(page.scripts[0])

    def test_the_page_loads_nothing(self, tmp_path):
        text, page, _ = self.write(tmp_path / "a.html", [recording()])
        assert page.loads == ["data:,"]
        without_data = text.replace(page.scripts[0], "")
        assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(", without_data)
        assert "$" not in without_data

    def test_label_and_title_cannot_leave_their_place(self, tmp_path):
        label, title = "</script><img src=x>", "<img src=y> & $data \ud800"
        text, page, data = self.write(tmp_path / "a.html", [recording(label=label)], title)
        assert text.count("</script>") == 2
        assert "<img" not in text
        assert data["tracks"][0]["label"] == label
        assert page.titles == ["<img src=y> & $data ?"] * 2

    @pytest.mark.parametrize("shape", [GREY, COLOUR])
    def test_the_differences_add_up_to_the_recording(self, tmp_path, shape):
        track = recording(shape)
        _, _, data = self.write(tmp_path / "a.html", [track])
        assert data["moments"][-1] == [4000, 8]
        (stored,) = data["tracks"]
        assert (stored["height"], stored["width"], stored["channels"]) == shape
        size = int(np.prod(shape))
        rows = np.frombuffer(zlib.decompress(b64decode(stored["packed"])), np.uint8)
        rows = np.bitwise_xor.accumulate(rows.reshape(len(track.frames), -1), axis=0)
        assert rows.shape[1] == size + (size + 7) // 8
        for row, f, about in zip(rows, track.frames, stored["frames"], strict=True):
            undecided = np.unpackbits(row[size:], count=size).astype(bool)
            assert np.array_equal(undecided, f.undecided.ravel())
            values = np.where(f.undecided, 0, f.pixels).ravel()
            assert np.array_equal(row[:size], values)
            assert (about["step"], about["nfe"], about["seconds"]) == (f.step, f.nfe, f.seconds)
        given = np.frombuffer(b64decode(stored["given"]), np.uint8)
        assert np.array_equal(np.unpackbits(given, count=size), track.frames[0].given.ravel())

    def test_256_steps_of_a_small_picture_are_small(self, tmp_path):
        text, _, _ = self.write(tmp_path / "a.html", [recording((32, 32, 3), steps=256)])
        assert len(text) < 100_000


class TestTerminal:
    def sent(self, console, *frames):
        with LivePicture(console, "a label") as live:
            live.update(*frames)
        return console.file.getvalue()

    def test_two_pixels_in_a_character(self):
        sent = self.sent(terminal(), frame(SMALL))
        left = "\x1b[38;2;255;0;0;48;2;0;0;255m▀"
        right = "\x1b[38;2;0;255;0;48;2;9;8;7m▀"
        assert re.search(re.escape(left) + r"(\x1b\[0m)?" + re.escape(right), sent)
        assert "a label" in plain(terminal_of(sent))
        assert "step 3 · 4 calls · 0.50 s" in plain(terminal_of(sent))

    def test_a_last_row_alone_leaves_the_background(self):
        (line,) = half_blocks(np.array([[[1, 2, 3]]], np.uint8))
        assert line.plain == "▀"
        assert line.spans[0].style.bgcolor is None
        assert [len(half_blocks(noise(n, 4, 3))) for n in (1, 2, 3, 4)] == [1, 1, 2, 2]

    def test_a_small_terminal_gets_a_smaller_picture(self):
        image = noise(32, 64, 3)
        for width, height, columns in ((80, 24, 64), (40, 24, 32), (80, 12, 32), (20, 8, 16)):
            console = terminal(width=width, height=height)
            text = plain(terminal_of(self.sent(console, frame(image))))
            rows = [line for line in text.splitlines() if "▀" in line]
            assert {line.count("▀") for line in rows} == {columns}
            assert max(map(len, text.splitlines())) <= width

    def test_several_frames_are_a_grid_and_several_labels_are_panels(self):
        tracks = [recording((4, 4, 1), label=n, seed=i) for i, n in enumerate("aabb")]
        console = terminal()
        play_pictures(tracks, console, speed=100)
        last = plain(console).split("╭─ a")[-1]
        assert "╭─ b" in last
        assert "step 8 · 8 calls · 2.00 s" in last
        assert last.count("▀") == 2 * 2 * (4 + 1 + 4)

    def test_without_colours_there_are_shades(self):
        pixels = np.array([[0, 64, 128, 191, 255, 3]] * 2, np.uint8)[:, :, None]
        undecided = np.zeros(pixels.shape, bool)
        undecided[:, 5] = True
        undecided[0, 4] = True
        assert shades(frame(pixels, undecided)) == [" ░▒▓█·"]
        for options in ({"no_color": True}, {"color_system": "standard"}, {"color_system": None}):
            sent = self.sent(terminal(**options), frame(pixels, undecided))
            assert " ░▒▓█·" in plain(terminal_of(sent))
            assert "▀" not in sent
            assert "38;2" not in sent

    def test_a_picture_as_text_is_at_most_80_columns_wide(self):
        lines = as_text(frame(noise(100, 200, 3))).split("\n")
        assert {len(line) for line in lines} == {67}
        assert len(lines) == 17

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_the_cursor_comes_back_however_the_block_is_left(self, error):
        console = terminal()
        with pytest.raises(error), LivePicture(console, "a") as live:  # noqa: PT012
            live.update(frame(SMALL))
            raise error
        sent = console.file.getvalue()
        assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")

    def test_nothing_is_animated_where_there_is_no_terminal(self):
        pipe = Console(file=StringIO(), force_terminal=False)
        dumb = Console(file=StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
        for console in (pipe, dumb):
            assert self.sent(console, frame(SMALL)) == ""
            play_pictures([recording()], console)
            assert console.file.getvalue() == ""


def terminal_of(sent):
    """Return a console that was sent a text, for ``plain``."""
    return Console(file=StringIO(sent))


class TestShow:
    def test_a_recording_of_pictures_becomes_text_gif_and_page(self, tmp_path, capsys):
        tracks = [recording(label="one"), recording(label="two", seed=1)]
        file, gif, page = (tmp_path / name for name in ("r.jsonl", "r.gif", "r.html"))
        save_frames(tracks, file)
        assert main(["show", str(file), "--gif", str(gif), "--html", str(page)]) == 0
        texts = [as_text(track.frames[-1]) for track in tracks]
        assert capsys.readouterr().out == "\n\n".join(texts) + "\n"
        assert gif.read_bytes()[:4] == b"GIF8"
        assert "<title>one against two</title>" in page.read_text(encoding="utf-8")

    def test_files_of_others_are_not_replaced(self, tmp_path, capsys):
        file, gif = tmp_path / "r.jsonl", tmp_path / "r.gif"
        save_frames([recording()], file)
        Image.fromarray(noise(3, 3)).save(gif)
        before = gif.read_bytes()
        assert main(["show", str(file), "--gif", str(gif)]) == 2
        assert "is not overwritten" in capsys.readouterr().err
        assert gif.read_bytes() == before

    def test_a_truncated_recording_is_an_error(self, tmp_path, capsys):
        file = tmp_path / "r.jsonl"
        save_frames([recording()], file)
        file.write_text(file.read_text()[:-40])
        assert main(["show", str(file)]) == 2
        assert "line 10, the line is not JSON" in capsys.readouterr().err
