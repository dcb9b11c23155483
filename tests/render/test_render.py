"""Recordings on disk and what is drawn from them: terminal, GIF, web page, loss curve."""

import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from unmask.errors import UserError
from unmask.files import replacing
from unmask.pipelines.trace import Snapshot, Track
from unmask.render.gif import LAST_SECONDS, write_gif
from unmask.render.html import write_html
from unmask.render.jsonl import read_tracks, write_tracks
from unmask.render.layout import UNKNOWN, arrange, fit, reserved
from unmask.render.plots import exponents, loss_curve, smoothed
from unmask.render.terminal import LiveCanvas, can_animate, play
from unmask.render.timeline import LONGEST, SHORTEST, timeline

WORDS = ["Once", " upon", " a", " time", ",", " there", " lived", " a", " lighthouse", "."]
WEIRD = [
    "[bold]",
    " </script>",
    "\n\n",
    "\t",
    "\x1b[31m",
    "\u202eabc",
    "日本",
    "👩‍👩‍👧",
    "\ud800",
    "<b>&",
]
LEFTOVER = "what was there before"


def recording(words=WORDS, seconds=2.0, label="a track", prompt=2):
    """Return a track that writes one token per step, from left to right."""
    snapshots = []
    for step in range(len(words) - prompt + 1):
        seen = prompt + step
        status = ["given"] * prompt + ["kept"] * step + ["masked"] * (len(words) - seen)
        if step:
            status[seen - 1] = "revealed"
        snapshots.append(
            Snapshot(
                step=step,
                seconds=seconds * step / (len(words) - prompt),
                nfe=step,
                pieces=tuple(words[:seen] + [""] * (len(words) - seen)),
                status=tuple(status),
                confidence=tuple(0.25 if prompt <= i < seen else None for i in range(len(words))),
            )
        )
    return Track(label, tuple(snapshots))


def terminal(**options):
    settings = {"force_terminal": True, "width": 80, "height": 24, "color_system": "truecolor"}
    # rich reads these where no environment is passed.
    environment = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    return Console(file=StringIO(), _environ=environment, **(settings | options))


def plain(console):
    """Return what a console was sent, without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


class TestRecord:
    @pytest.mark.parametrize("words", [WORDS, WEIRD], ids=["plain", "weird"])
    def test_reading_returns_what_was_written(self, tmp_path, words):
        tracks = [recording(words), recording(words, label="[red]\u2028 é \ud800"), Track("", ())]
        write_tracks(tmp_path / "new" / "r.jsonl", tracks)
        assert read_tracks(tmp_path / "new" / "r.jsonl") == tracks

    def test_one_line_per_snapshot_after_the_header(self, tmp_path):
        path = tmp_path / "r.jsonl"
        write_tracks(path, [recording(), recording(label="b")])
        header, *lines = path.read_text().splitlines()
        assert json.loads(header) == {"format": 1, "tracks": ["a track", "b"]}
        assert [json.loads(line)["track"] for line in lines] == [0] * 9 + [1] * 9

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"status": ["kept"]}, "differ in length"),
            ({"pieces": "text"}, "wrong type"),
            ({"pieces": [1], "status": ["kept"], "confidence": [None]}, "wrong type"),
            ({"pieces": ["a"], "status": ["lost"], "confidence": [None]}, "a status is none of"),
            ({"pieces": ["a"], "status": [[]], "confidence": [None]}, "wrong type"),
            ({"pieces": ["a"], "status": ["kept"], "confidence": [math.nan]}, "not a finite"),
            ({"seconds": math.inf}, "not a finite"),
            ({"seconds": 10**400}, "too large"),
            ({"step": True}, "wrong type"),
            ({"nfe": 0.5}, "wrong type"),
            ({"track": 1}, "no track 1"),
            ({"track": -1}, "no track -1"),
        ],
    )
    def test_a_bad_snapshot_is_named_with_its_line(self, tmp_path, change, reason):
        good = {"track": 0, "step": 0, "seconds": 0, "nfe": 0}
        good |= {"pieces": [], "status": [], "confidence": []}
        lines = [{"format": 1, "tracks": ["a"]}, good, good | change]
        path = tmp_path / "r.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(UserError, match=rf"in line 3, .*{reason}"):
            read_tracks(path)

    @pytest.mark.parametrize(
        "key", ["track", "step", "seconds", "nfe", "pieces", "status", "confidence"]
    )
    def test_a_missing_key_is_named(self, tmp_path, key):
        path = tmp_path / "r.jsonl"
        write_tracks(path, [recording()])
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        del lines[1][key]
        path.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(UserError, match=f"line 2, the key '{key}' is missing"):
            read_tracks(path)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "line 1, the line is not JSON"),
            (b"hello", "line 1, the line is not JSON"),
            (b"[" * 200_000, "line 1, the line is not JSON"),
            (b"[1]", "not a JSON object"),
            (b"{}", "does not begin with"),
            (b'{"format": "1", "tracks": []}', "does not begin with"),
            (b'{"format": 1, "tracks": "a"}', "does not begin with"),
            (b'{"format": 1, "tracks": [1]}', "a label is not a string"),
            (b'{"format": 2, "tracks": []}', "upgrade unmask"),
            (b'{"format": 1, "tracks": []}\n\n{}', "line 2, the line is not JSON"),
            (b"GIF89a\xff\xfe\x00", "not UTF-8"),
        ],
    )
    def test_a_file_that_is_no_recording(self, tmp_path, content, reason):
        path = tmp_path / "r.jsonl"
        path.write_bytes(content)
        with pytest.raises(UserError, match=reason) as caught:
            read_tracks(path)
        assert "\n" not in str(caught.value)

    def test_no_such_file_or_a_folder(self, tmp_path):
        with pytest.raises(UserError, match="there is no recording"):
            read_tracks(tmp_path / "none.jsonl")
        with pytest.raises(UserError, match="is a folder"):
            read_tracks(tmp_path)


class TestFiles:
    def test_a_failure_keeps_the_old_file_and_leaves_no_other(self, tmp_path):
        path = tmp_path / "f"
        path.write_text(LEFTOVER)
        with pytest.raises(KeyboardInterrupt), replacing(path) as part:  # noqa: PT012
            part.write_text("half")
            raise KeyboardInterrupt
        assert path.read_text() == LEFTOVER
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_is_followed_and_permissions_are_the_usual(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "f")
        (tmp_path / "usual").write_text("")
        with replacing(tmp_path / "link") as part:
            part.write_text("new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "f").read_text() == "new"
        assert (tmp_path / "f").stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_a_target_that_cannot_be_written_is_one_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        for target in (tmp_path, "/dev/null", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
            with pytest.raises(UserError, match="cannot write"), replacing(target):
                pass

    def test_writers_that_fail_leave_the_old_file(self, tmp_path):
        path = tmp_path / "f"
        path.write_text(LEFTOVER)
        broken = replace(recording().snapshots[0], confidence=(object(),) * len(WORDS))
        tracks = [Track("broken", (*recording().snapshots, broken))]
        for write in (
            lambda: write_tracks(path, tracks),
            lambda: write_html(path, tracks, "title"),
            lambda: write_gif(path, [Track("a", ())]),
            lambda: write_gif(path, tracks, font=path),
            lambda: loss_curve([], path, "title"),
        ):
            with pytest.raises((UserError, TypeError)):
                write()
            assert path.read_text() == LEFTOVER
            assert list(tmp_path.iterdir()) == [path]


class TestClock:
    @pytest.mark.parametrize(("seconds", "shown"), [(0.003, SHORTEST), (60, LONGEST), (7, 7)])
    def test_a_replay_lasts_between_shortest_and_longest(self, seconds, shown):
        moments = timeline([recording(seconds=seconds)])
        assert moments[0].at == 0
        assert moments[-1].at == pytest.approx(shown)
        assert [moment.shown for moment in moments] == [(i,) for i in range(9)]
        assert timeline([recording(seconds=seconds)], speed=2)[-1].at == pytest.approx(shown / 2)

    def test_tracks_share_one_clock(self):
        moments = timeline([recording(seconds=5.0), recording(seconds=10.0)])
        end_of_first = next(moment for moment in moments if moment.shown[0] == 8)
        assert end_of_first.at == pytest.approx(5)
        assert end_of_first.shown == (8, 4)

    def test_frames_too_close_together_become_one_and_the_end_is_kept(self):
        words = [" a"] * 1000
        moments = timeline([recording(words, seconds=60)], frame_seconds=0.1)
        assert all(b.at - a.at >= 0.1 for a, b in pairwise(moments[1:]))
        assert 100 <= len(moments) <= 122
        assert moments[-1].shown == (998,)

    def test_without_times_the_steps_are_evenly_spaced(self):
        moments = timeline([recording(seconds=0)])
        assert len({round(b.at - a.at, 9) for a, b in pairwise(moments)}) == 1

    def test_a_clock_that_was_set_back_keeps_the_order(self):
        snapshots = recording().snapshots
        late = replace(snapshots[3], seconds=0.1)
        moments = timeline([Track("a", (*snapshots[:3], late, *snapshots[4:]))])
        assert [m.shown[0] for m in moments] == sorted(m.shown[0] for m in moments)

    def test_nothing_to_show_or_a_bad_speed(self):
        for tracks in ([], [Track("a", ())], [recording(), Track("a", ())]):
            with pytest.raises(UserError, match="empty"):
                timeline(tracks)
        for speed in (0, -1, math.nan, math.inf):
            with pytest.raises(UserError, match="speed"):
                timeline([recording()], speed)


class TestLayout:
    def test_lines_break_between_words_only(self):
        cells = arrange(["The", " ligh", "thouse", " is", " white", "."], 12)
        assert [(c.line, c.column, c.width) for c in cells] == [
            (0, 0, 3),
            (1, 0, 4),
            (1, 4, 6),
            (2, 0, 2),
            (2, 3, 5),
            (2, 8, 1),
        ]

    def test_newlines_end_a_line_and_an_indentation_stays(self):
        cells = arrange([" def", "\n   ", " x", "\n", "\n\n", "y", ".\n", "z"], 20)
        assert [c.line for c in cells] == [0, 0, 1, 1, 2, 4, 4, 5]
        assert cells[0].column == 0

    @pytest.mark.parametrize("columns", [1, 2, 7, 80])
    def test_cells_are_on_the_page_and_do_not_overlap(self, columns):
        cells = arrange([*WEIRD, *WORDS, "x" * 100, " ", "", *WEIRD], columns)
        taken = [(c.line, c.column + i) for c in cells for i in range(c.width)]
        assert len(set(taken)) == len(taken)
        assert all(0 <= column < columns for _, column in taken)
        pieces = [*WEIRD, *WORDS, "x" * 100, " ", "", *WEIRD]
        assert all((c.width >= 1) == (p != "") for c, p in zip(cells, pieces, strict=True))

    @pytest.mark.parametrize("piece", [*WORDS, *WEIRD, "a\nb", "\u0301", "\u200b", "\x00", ""])
    @pytest.mark.parametrize("width", [1, 2, 5, 30])
    def test_a_fitted_piece_has_the_width_and_nothing_that_moves_the_cursor(self, piece, width):
        text = fit(piece, width)
        assert cell_len(text) == width
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)
        text.encode()

    def test_a_place_is_sized_by_the_last_piece_that_was_seen(self):
        first = Snapshot(0, 0, 0, (" a", "", " c"), ("kept", "masked", "kept"), (None,) * 3)
        last = Snapshot(1, 0, 0, (" long", ""), ("kept", "masked"), (None,) * 2)
        assert reserved([first, last]) == (" long", UNKNOWN, " c")


CHARACTERS = ["ok", " ", "", "", "今", "", "", "天", " on", "", "\n", "", "א"]
"""Characters of several tokens: those before the last have no text."""


class TestTerminal:
    def test_a_token_without_text_takes_no_place(self):
        console = terminal()
        play([recording(CHARACTERS)], console, speed=100)
        lines = plain(console).splitlines()
        assert any("ok 今天 on" in line for line in lines)
        assert any("│ א" in line for line in lines)
        assert "\ufffd" not in plain(console)

    def test_a_replay_shows_every_word_and_what_it_cost(self):
        console = terminal()
        play([recording()], console, speed=100)
        text = plain(console)
        assert "Once upon a time, there lived a lighthouse." in text
        assert "a track" in text
        assert "step 8 · 8 calls · 2.00 s" in text
        assert "░░░░░░░░░░" in text

    def test_words_stay_in_their_place_while_others_appear(self):
        console = terminal()
        play([recording()], console, speed=100, frame_seconds=0)
        lines = [line for line in plain(console).splitlines() if "Once upon" in line]
        # rich draws the last picture once more when it stops.
        assert len(lines) == 9 + 1
        last = lines[-1]
        for line in lines:
            assert all(a == b or a == "░" for a, b in zip(line, last, strict=True))
        assert sorted(lines, key=lambda line: -line.count("░")) == lines

    def test_states_look_different(self):
        states = ("given", "masked", "remasked", "revealed", "kept", "kept")
        pieces = ("Given", "", "", " new", " sure", " unsure")
        snapshot = Snapshot(3, 0.1, 3, pieces, states, (None, None, None, 0.1, 0.9, 0.1))
        console = terminal()
        with LiveCanvas(console, ["a"]) as canvas:
            canvas.update(0, snapshot)
        sent = console.file.getvalue()
        assert "░░░" in sent
        assert "▒▒▒" in sent
        styles = [
            re.search(r"\x1b\[([0-9;]*)m" + text, sent)[1]
            for text in ("Given", "░", "▒", "new", "sure", "unsure")
        ]
        assert len(set(styles)) == 6

    @pytest.mark.parametrize("width", [80, 20, 5])
    def test_no_piece_and_no_label_can_break_the_frame(self, width):
        console = terminal(width=width)
        track = recording([*WEIRD, "[/]", "[link=file:///x]y"], label="[red]\x1b[2J\n[/nothing]")
        play([track, track], console, speed=100)
        text = plain(console)
        assert "\x1b[31m" not in console.file.getvalue()
        assert "\x1b[2J" not in console.file.getvalue()
        rows = [line for line in text.splitlines() if line.startswith("│")]
        assert rows
        assert all(cell_len(line) <= width for line in rows)
        if width == 80:
            assert "[bold]" in text
            assert "[red]" in text
            assert "</script>" in text

    def test_tracks_stand_side_by_side_or_below_each_other(self):
        tracks = [recording(label="left"), recording(label="right")]
        wide, narrow = terminal(), terminal(width=40)
        play(tracks, wide, speed=100)
        play(tracks, narrow, speed=100)
        assert any("left" in line and "right" in line for line in plain(wide).splitlines())
        assert not any("left" in line and "right" in line for line in plain(narrow).splitlines())

    def test_a_text_higher_than_the_screen_scrolls_and_is_whole_at_the_end(self):
        track = recording([f" word{i}" for i in range(200)])
        console = terminal(height=10)
        with LiveCanvas(console, ["a"]) as canvas:
            for snapshot in track.snapshots[:100]:
                canvas.show([snapshot])
            during = plain(console)
            canvas.show([track.snapshots[-1]])
        frames = during.split("╭")[1:]
        assert max(frame.count("\n") for frame in frames) <= 10
        assert "word99" in frames[-1]
        last = plain(console).split("╭")[-1]
        assert "word0 " in last
        assert "word199" in last

    @pytest.mark.parametrize("count", [4, 30])
    def test_many_tracks_stay_on_the_screen(self, count):
        console = terminal(width=90)
        last = recording().snapshots[-1]
        with LiveCanvas(console, [f"track {i}" for i in range(count)], transient=True) as canvas:
            canvas.show([last] * count)
        frames = re.split(r"(?:\x1b\[2K\x1b\[1A)+|\x1b\[1A", console.file.getvalue())
        assert max(frame.count("\n") for frame in frames) <= 24
        assert "track 3" in plain(console)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_the_cursor_comes_back_however_the_block_is_left(self, error):
        console = terminal()
        with pytest.raises(error), LiveCanvas(console, ["a"]) as canvas:  # noqa: PT012
            canvas.update(0, recording().snapshots[0])
            raise error
        sent = console.file.getvalue()
        assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")

    def test_nothing_is_animated_where_there_is_no_terminal(self):
        pipe = Console(file=StringIO(), force_terminal=False)
        dumb = Console(file=StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
        for console in (pipe, dumb):
            with LiveCanvas(console, ["a"]) as canvas:
                canvas.update(0, recording().snapshots[-1])
            play([recording()], console)
            assert not can_animate(console)
            assert console.file.getvalue() == ""


class TestGif:
    def open(self, path):
        from PIL import Image

        return Image.open(path)

    def durations(self, image):
        times = []
        for index in range(image.n_frames):
            image.seek(index)
            times.append(image.info["duration"])
        return times

    def test_a_frame_per_step_and_a_long_last_one(self, tmp_path):
        write_gif(tmp_path / "a.gif", [recording()], title="A title")
        with self.open(tmp_path / "a.gif") as image:
            assert image.format == "GIF"
            assert image.info["loop"] == 0
            assert image.n_frames == 9 + 1
            times = self.durations(image)
        assert times == [500] * 9 + [1000 * LAST_SECONDS]

    def test_64_steps_of_128_tokens_stay_under_a_megabyte(self, tmp_path):
        words = [f" {'abcdefghij'[i % 10 :] or 'a'}" for i in range(128)]
        track = recording(words, seconds=1.3, prompt=0)
        short = Track("64 steps", track.snapshots[::2])
        write_gif(tmp_path / "a.gif", [short])
        assert (tmp_path / "a.gif").stat().st_size < 1_000_000
        with self.open(tmp_path / "a.gif") as image:
            assert image.n_frames == 66
            assert sum(self.durations(image)) == pytest.approx(
                1000 * (SHORTEST + 0.5 + LAST_SECONDS), abs=20
            )

    def test_several_tracks_make_a_wider_picture_then_a_higher_one(self, tmp_path):
        sizes = []
        for count in (1, 2, 3, 4, 7):
            write_gif(tmp_path / "a.gif", [recording()] * count, columns=30)
            with self.open(tmp_path / "a.gif") as image:
                sizes.append(image.size)
        assert sizes[2][0] - sizes[1][0] == sizes[1][0] - sizes[0][0] > 30 * 12
        assert len({width for width, _ in sizes[2:]}) == 1
        heights = [height for _, height in sizes]
        assert heights[0] == heights[1] == heights[2]
        assert heights[4] - heights[3] == heights[3] - heights[2] > 0

    def test_the_place_of_a_word_changes_only_when_it_is_written(self, tmp_path):
        write_gif(tmp_path / "a.gif", [recording()])
        with self.open(tmp_path / "a.gif") as image:
            frames = []
            for index in (4, 6):
                image.seek(index)
                frames.append(image.convert("RGB"))
        from PIL import ImageChops

        footer = frames[0].height - 110
        changed = ImageChops.difference(*(f.crop((0, 0, f.width, footer)) for f in frames))
        left, _, right, _ = changed.getbbox()
        first = arrange(WORDS, 64)[5]
        assert left >= 36 + 26 + 12 * first.column
        assert right < frames[0].width - 36

    def test_weird_pieces_are_drawn(self, tmp_path):
        write_gif(tmp_path / "a.gif", [recording(WEIRD, label="\ud800\n")], title="[x]\n\x00")
        with self.open(tmp_path / "a.gif") as image:
            assert image.n_frames > 5

    def test_tokens_without_text_are_drawn(self, tmp_path):
        write_gif(tmp_path / "a.gif", [recording(CHARACTERS)])
        with self.open(tmp_path / "a.gif") as image:
            assert image.n_frames > 5

    def test_a_text_too_long_for_a_gif(self, tmp_path):
        with pytest.raises(UserError, match="--html"):
            write_gif(tmp_path / "a.gif", [recording(["\n"] * 200)])
        assert not list(tmp_path.iterdir())

    def test_missing_libraries_name_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.delitem(sys.modules, "unmask.render.gif_page", raising=False)
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(UserError, match=r"needs PIL.*pip install 'unmask\[viz\]'"):
            write_gif(tmp_path / "a.gif", [recording()])
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(UserError, match=r"pip install 'unmask\[viz\]'"):
            loss_curve([{"step": 1, "loss": 1.0}], tmp_path / "a.png", "title")


class Page(HTMLParser):
    """Collects what a browser would load, and the scripts."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts, self.titles, self._tag = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        self.loads += [v for k, v in attributes if k in ("src", "href", "action")]

    def handle_data(self, data):
        if self._tag == "script" and data.strip():
            self.scripts.append(data)
        if self._tag in ("h1", "title") and data.strip():
            self.titles.append(data)

    def handle_endtag(self, tag):
        self._tag = ""


class TestHtml:
    def write(self, path: Path, tracks, title="A title"):
        write_html(path, tracks, title)
        text = path.read_text(encoding="utf-8")
        return text, Page(text)

    def test_the_page_loads_nothing(self, tmp_path):
        text, page = self.write(tmp_path / "a.html", [recording()])
        assert page.loads == ["data:,"]
        assert not re.search(r"https?:|//[a-z]|@import|url\(", text)

    def test_data_and_title_cannot_leave_their_place(self, tmp_path):
        label, title = "</script><img src=x>", "<img src=y> & $data \ud800"
        text, page = self.write(tmp_path / "a.html", [recording(WEIRD, label=label)], title)
        assert len(page.scripts) == 2
        assert text.count("</script>") == 2
        assert "<img" not in text
        data = json.loads(page.scripts[0])
        assert data["tracks"][0]["label"] == label
        assert page.titles == ["<img src=y> & $data ?"] * 2

    def test_the_changes_add_up_to_the_recording(self, tmp_path):
        original = [recording(), recording(WEIRD, seconds=3)]
        _, page = self.write(tmp_path / "a.html", original)
        data = json.loads(page.scripts[0])
        assert data["moments"][0] == [0, 0, 0]
        assert data["moments"][-1] == [4000, 8, 8]
        for track, stored in zip(original, data["tracks"], strict=True):
            tokens = {}
            for snapshot, changes in zip(track.snapshots, stored["snapshots"], strict=True):
                tokens |= {index: token for index, *token in changes["changes"]}
                columns = zip(snapshot.pieces, snapshot.status, snapshot.confidence, strict=True)
                assert list(tokens.values()) == [list(column) for column in columns]
                assert changes["seconds"] == snapshot.seconds

    def test_500_frames_are_small(self, tmp_path):
        words = [f" word{i}" for i in range(502)]
        text, page = self.write(tmp_path / "a.html", [recording(words, seconds=60)])
        assert len(json.loads(page.scripts[0])["moments"]) == 501
        assert len(text) < 150_000


RECORDS = [
    *({"step": 10 * i, "loss": 10 / math.sqrt(i), "seconds": i} for i in range(1, 60)),
    {"step": 300, "eval_nats_per_token": 3.0, "eval_bits_per_char": 1.1},
    {"step": 600, "eval_nats_per_token": 2.5, "eval_bits_per_char": 0.9},
]


class TestPlots:
    @pytest.mark.parametrize(
        "records",
        [
            RECORDS,
            RECORDS[:-2],
            RECORDS[-2:],
            RECORDS[:1],
            [{"step": 0, "loss": 0}, {"step": 1, "loss": math.nan}, {"loss": 1}, {"step": 3}],
        ],
        ids=["all", "training", "validation", "one", "gaps"],
    )
    def test_a_png_of_some_size(self, tmp_path, records):
        loss_curve(records, tmp_path / "a.png", "A $title_ with <signs>")
        content = (tmp_path / "a.png").read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        assert len(content) > 10_000

    def test_a_title_of_exponents_is_no_formula(self, tmp_path):
        exponents([1, 2], [0.5, 2.0], tmp_path / "a.png", r"$\no-such-thing$")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n")

    def test_global_settings_are_left_alone(self, tmp_path):
        import matplotlib

        # A plain dict() would look up the backend, which imports pyplot to choose one.
        before = matplotlib.rcParams.copy()
        loss_curve(RECORDS, tmp_path / "a.png", "title")
        assert matplotlib.rcParams.copy() == before

    @pytest.mark.parametrize(
        "records", [[], [{"step": 1}], [{"step": 1, "loss": math.nan}], [{"loss": 1.0}]]
    )
    def test_nothing_to_draw(self, tmp_path, records):
        with pytest.raises(UserError, match="no loss to draw"):
            loss_curve(records, tmp_path / "a.png", "title")

    def test_smoothing_keeps_a_straight_line(self):
        line = [3.0 * i for i in range(20)]
        assert smoothed(line, 7) == pytest.approx(line)
        assert smoothed([1.0, 4.0, 1.0], 3) == [1.0, 2.0, 1.0]
