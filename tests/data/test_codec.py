"""A modality that is not text goes wherever the ``Codec`` protocol is asked for."""

import torch

from unmask.data.records import RecordCodec
from unmask.pipelines.recorder import LeftToRightRecorder

MASK, PAD, START, END = 4, 5, 6, 7


class Levels:
    """Sequences of four grey levels."""

    mask_token_id, pad_token_id, start, end = MASK, PAD, [START], END
    symbols = {MASK: "mask", PAD: "pad", START: "start", END: "end"}  # noqa: RUF012

    def encode(self, datum):
        return list(datum)

    def encode_all(self, data):
        return [self.encode(datum) for datum in data]

    def decode(self, ids):
        return tuple(i for i in ids if i not in self.symbols)

    def units(self, datum):
        return {"pixels": len(datum)}

    def pieces(self, ids):
        return ["" if i in self.symbols else " ░▒█"[i] for i in ids]

    def piece(self, token):
        return self.pieces([token])[0]


def test_records_of_another_modality_are_laid_out():
    codec, data = Levels(), [(0, 3, 1), (2,), ()]
    found = RecordCodec(codec, 8).lay_out(data)
    assert found.ids.tolist() == [[START, 0, 3, 1, END], [START, 2, END, PAD, PAD]]
    assert torch.equal(found.valid, found.ids != PAD)
    assert found.tally.counts == {"total": 3, "empty": 1, "too_long": 0}
    assert [codec.decode(row) for row in found.ids.tolist()] == data[:2]


def test_a_row_of_another_modality_is_drawn():
    recorder = LeftToRightRecorder(Levels(), given=2, total=5)
    recorder(0.0, [START, 0, 3, 1])
    (picture,) = recorder.track().snapshots
    assert picture.pieces == (" ", "█", "░", "")
    assert picture.status == ("given", "kept", "revealed", "masked")
