"""Exported networks: the logits and texts of torch, and one sentence for what does not fit."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, BertForMaskedLM

from checks import generator
from unmask import Unmasker
from unmask.cli import main
from unmask.errors import UserError
from unmask.models import checkpoint
from unmask.models.loading import load_model
from unmask.models.runtimes import openvino, openvino_export
from unmask.models.time_conditioning import attach

runtime = pytest.mark.skipif(not find_spec("openvino"), reason="the extra openvino is missing")
# Bert's position ids are learned, ModernBERT's rotary with local windows, RoBERTa's counted from
# the padding id, DistilBERT has no segments, Electra a projected embedding, Albert shared layers.
ENCODERS = ["bert", "roberta", "modernbert", "distilbert", "electra", "albert"]
SHAPES = [(1, 1), (1, 33), (4, 60), (9, 17)]


@pytest.fixture(scope="session")
def exports(zoo: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return the folder of an encoder's export, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("exports")

    def made(name: str, weights: str = "float32") -> Path:
        out = folder / f"{name}-{weights}"
        if not out.exists():
            model = None if name == "bundled" else str(zoo / name)
            Unmasker.from_pretrained(model, backend="torch").export(out, weights=weights)
        return out

    return made


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]):
    """Run a command line that must fail; return its one sentence."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1), (code, out, err)
        return err

    return run


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the runtime fails, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "openvino", None)


def opened(folder: Path) -> tuple[Unmasker, Unmasker]:
    """The same folder computed by torch and by the exported network."""
    return tuple(Unmasker.from_pretrained(str(folder), "cpu", b) for b in ("torch", "openvino"))


def questions(rows: int, length: int):
    """Yield ids, positions asked about and padding, for rows of that many and that long."""
    ids = torch.randint(5, 100, (rows, length), generator=generator(rows))
    lengths = torch.randint(1, length + 1, (rows, 1), generator=generator(length))
    valid = torch.arange(length) < lengths.clamp_(min=1).index_fill_(0, torch.tensor([0]), length)
    some = torch.rand(rows, length, generator=generator(2)) < 0.4
    first = torch.zeros_like(valid)
    first[:, 0] = True
    yield ids, None, None
    yield ids, some, None
    yield ids, some & valid, valid
    yield ids, valid, valid
    yield ids, first, valid
    yield ids, torch.zeros_like(valid), valid


@runtime
@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_logits_are_those_of_torch(exports, name):
    torch_writer, writer = opened(exports(name))
    data = torch_writer.denoiser.data_ids
    assert torch.equal(writer.denoiser.data_ids, data)
    for shape in SHAPES:
        for ids, at, valid in questions(*shape):
            want, got = (
                w.denoiser(ids, torch.ones(len(ids)), at=at, valid=valid)
                for w in (torch_writer, writer)
            )
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            assert torch.equal(got.isinf(), want.isinf())
            assert torch.allclose(got[..., data], want[..., data], rtol=1e-4, atol=1e-4)


@runtime
@torch.no_grad()
@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "distilbert"])
def test_eight_bits_come_close(exports, name):
    torch_writer, writer = opened(exports(name, "int8"))
    data = torch_writer.denoiser.data_ids
    for ids, at, valid in questions(4, 40):
        if at is not None and not at.any():
            continue
        want, got = (
            w.denoiser(ids, torch.ones(len(ids)), at=at, valid=valid)[..., data]
            for w in (torch_writer, writer)
        )
        assert 0 < (got - want).norm() / want.norm() < 0.05


@runtime
@torch.no_grad()
@pytest.mark.parametrize(("weights", "most"), [("float32", 1e-5), ("int8", 5e-3)])
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_a_row_does_not_depend_on_what_is_beside_it(exports, name, weights, most):
    writer = Unmasker.from_pretrained(str(exports(name, weights)), "cpu", "openvino")
    data = writer.denoiser.data_ids
    ids = torch.randint(5, 100, (5, 40), generator=generator(0))
    lengths = [40, 31, 17, 8, 1]
    valid = torch.arange(40) < torch.tensor(lengths)[:, None]
    together = writer.denoiser(ids, torch.ones(5), valid=valid)
    for row, length in enumerate(lengths):
        alone = writer.denoiser(ids[row : row + 1, :length], torch.ones(1))[0][:, data]
        assert (together[row, :length][:, data] - alone).norm() / alone.norm() < most


@runtime
def test_texts_are_those_of_torch(exports):
    torch_writer, writer = opened(exports("bundled"))
    samplers = [
        {"sampler": "ancestral", "steps": 12},
        {"sampler": "refine"},
        {"sampler": "maskgit", "steps": 8},
        {"sampler": "threshold", "threshold": 0.3},
    ]
    same = 0
    for number, sampler in enumerate(samplers):
        asked = {"length": 16, "num_samples": 3, "seed": number, **sampler}
        texts = [w.generate("The history of", **asked).texts for w in (torch_writer, writer)]
        same += sum(a == b for a, b in zip(*texts, strict=True))
    # A draw that falls within rounding of the border between two tokens may go either way.
    assert same >= 11
    template = "The [MASK:1-3] of the town was [MASK] ."
    assert torch_writer.infill(template, seed=1).texts == writer.infill(template, seed=1).texts


@runtime
def test_scores_are_those_of_torch(exports):
    text = "The river runs through the town and into the sea . It was the largest of them all ."
    want, got = (w.score(text, draws=4) for w in opened(exports("bundled")))
    assert got.nats == pytest.approx(want.nats, rel=1e-5)


@runtime
def test_the_copy_is_an_ordinary_folder(exports, zoo):
    folder = exports("roberta")
    mine, original = (AutoModelForMaskedLM.from_pretrained(f) for f in (folder, zoo / "roberta"))
    for key, value in original.state_dict().items():
        assert torch.equal(mine.state_dict()[key], value), key
    entry = json.loads((folder / "exported.json").read_text("utf-8"))
    assert (entry["backend"], entry["weights"]) == ("openvino", "float32")
    assert entry["versions"]["torch"] == torch.__version__
    size = {
        w: (exports("roberta", w) / "exported.bin").stat().st_size for w in openvino_export.WEIGHTS
    }
    assert size["int8"] < size["float32"] / 2


@runtime
def test_a_model_is_as_before_once_it_was_exported(zoo):
    model = load_model(str(zoo / "modernbert"), "masked")
    ids = torch.randint(5, 100, (2, 9), generator=generator(0))
    with torch.no_grad():
        before = model(input_ids=ids).logits
        openvino_export.convert(model, "int8")
        assert torch.equal(model(input_ids=ids).logits, before)
    assert model.config._attn_implementation == "sdpa"


@runtime
def test_auto_takes_what_is_there(exports, zoo, monkeypatch):
    folder = str(exports("bert"))
    assert Unmasker.from_pretrained(folder, "cpu").backend == "openvino"
    assert Unmasker.from_pretrained(str(zoo / "bert"), "cpu").backend == "torch-packed"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert Unmasker.from_pretrained(folder, "cpu").backend == "torch-packed"


@runtime
def test_it_is_said_when_an_export_rounds(exports, capsys):
    line = ["generate", "The cat", "--length", "4", "--json", "--model"]
    for weights, backend in (("float32", "openvino"), ("int8", "openvino int8")):
        assert main([*line, str(exports("bert", weights))]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["settings"]["backend"] == backend
        assert ("computed in int8" in err) == (weights == "int8")
    # Who asks for it by name knows.
    assert main([*line, str(exports("bert", "int8")), "--backend", "openvino"]) == 0
    assert capsys.readouterr().err == ""


@runtime
def test_the_command_line(zoo, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", "--model", str(zoo / "bert"), "--out", str(out)]) == 0
    assert "exported in float32" in capsys.readouterr().err
    line = ["generate", "The cat", "--model", str(out), "--length", "6", "--json"]
    results = {}
    for backend in ("auto", "openvino", "torch"):
        assert main([*line, "--backend", backend]) == 0
        results[backend] = json.loads(capsys.readouterr().out)
    assert results["auto"]["text"] == results["openvino"]["text"]
    assert results["auto"]["settings"]["backend"] == "openvino"
    assert "backend" not in results["torch"]["settings"]
    assert main(["info", str(out)]) == 0
    assert "openvino" in capsys.readouterr().out
    # Training or saving another model there takes the copy of this one away.
    Unmasker.from_pretrained(str(zoo / "bert")).save_pretrained(out, overwrite=True)
    assert not [name for name in checkpoint.EXPORTED if (out / name).exists()]


def break_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).add_(1)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


DAMAGES = {
    "other weights": (break_weights, "of other weights"),
    "cut graph": (cut("exported.xml"), "exported.xml is missing or damaged"),
    "cut constants": (cut("exported.bin"), "exported.bin is missing or damaged"),
    "no constants": (lambda f: (f / "exported.bin").unlink(), "missing or damaged"),
    "cut entry": (cut("exported.json"), "exported.json is damaged"),
    "list": (lambda f: (f / "exported.json").write_text("[1]"), "exported.json is damaged"),
    "newer": (lambda f: (f / "exported.json").write_text('{"format": 2}'), "format 2, newer"),
}


@runtime
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_copy_is_refused_and_torch_still_opens_the_model(
    exports, refused, tmp_path, capfd, name
):
    folder = tmp_path / "model"
    shutil.copytree(exports("bert"), folder)
    damage, says = DAMAGES[name]
    damage(folder)
    line = ["generate", "The cat", "--model", folder, "--length", 4]
    for backend in ("auto", "openvino"):
        assert says in refused(*line, "--backend", backend)
    assert main([str(word) for word in [*line, "--backend", "torch"]]) == 0
    assert capfd.readouterr().out.startswith("the cat")


@runtime
def test_a_graph_that_openvino_cannot_read(exports, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exports("bert"), folder)
    (folder / "exported.xml").write_text("<net>")
    entry = openvino.Entry.read(folder)
    files = entry.files | {"exported.xml": openvino.digest(folder / "exported.xml")}
    replace(entry, files=files).write(folder)
    with pytest.raises(UserError, match="cannot open"):
        Unmasker.from_pretrained(str(folder), "cpu")


@runtime
def test_nothing_is_reported_over_the_network(exports):
    script = (
        "import sys\n"
        "from unmask import Unmasker\n"
        "writer = Unmasker.from_pretrained(sys.argv[1])\n"
        "assert writer.backend == 'openvino'\n"
        "import openvino.tools.ovc.telemetry_utils as reporter\n"
        "print(reporter.tm.__name__, sys.modules['openvino_telemetry'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(exports("bert"))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]


class Counting(BertForMaskedLM):
    """Answers differently every time: following it once does not say what it will do."""

    calls = 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        answer = super().forward(*args, **kwargs)
        answer.logits = answer.logits * self.calls
        return answer


class Choosing(BertForMaskedLM):
    """Decides by the ids what to compute."""

    def forward(self, input_ids, **kwargs):
        if input_ids.sum() > 1000:
            input_ids = input_ids.flip(1)
        return super().forward(input_ids, **kwargs)


@runtime
@pytest.mark.parametrize("kind", [Counting, Choosing])
def test_a_model_that_cannot_be_followed_is_refused(zoo, kind):
    model = kind.from_pretrained(zoo / "bert").eval()
    with pytest.raises(UserError, match=f"{kind.__name__} cannot be exported"):
        openvino_export.convert(model, "float32")


@runtime
def test_a_model_that_is_told_the_time_or_reads_pairs_is_refused(zoo, tmp_path):
    model = load_model(str(zoo / "bert"), "masked")
    attach(model, "prefix")
    with pytest.raises(UserError, match="conditioned on the time"):
        openvino_export.convert(model, "float32")
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    writer.card = replace(writer.card, pairs={"before": "", "between": " "})
    with pytest.raises(UserError, match="pairs"):
        writer.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@runtime
@pytest.mark.parametrize("short", [1, 60_000])
def test_a_full_disk_leaves_nothing(zoo, tmp_path, short):
    from test_disk import full_disk

    graph = openvino_export.convert(load_model(str(zoo / "bert"), "masked"), "float32")
    openvino_export.write(graph, "float32", tmp_path)
    size = max((tmp_path / name).stat().st_size for name in checkpoint.EXPORTED)
    stage = checkpoint.staged(tmp_path / "out")
    with full_disk(size - short), pytest.raises(UserError, match="is untouched"), stage as folder:
        openvino_export.write(graph, "float32", folder)
    assert not (tmp_path / "out").exists()


def test_without_the_runtime_exporting_names_the_command(refused, zoo, tmp_path, without_openvino):
    out = tmp_path / "out"
    line = ("export", "--model", zoo / "bert", "--out", out)
    assert "pip install 'unmask[openvino]'" in refused(*line)
    assert "pip install 'unmask[openvino]'" in refused(
        "generate", "A", "--model", zoo / "bert", "--backend", "openvino"
    )
    assert not out.exists()


MISTAKES = [
    ("generate A --model {bert} --backend openvin", "did you mean 'openvino'?"),
    ("infill [MASK] --model {bert} --backend pytorch", "did you mean 'torch'?"),
    ("evaluate --model {bert} --data {text} --backend tensorrt", "choose one of"),
    ("score A --model {gpt2} --backend openvno", "did you mean 'openvino'?"),
    ("score A --model {gpt2} --backend torch-int8", "autoregressive"),
    ("generate A --model {bert} --backend torch-int8 --device cuda", "leave --device out"),
    ("export --model {bert}", "--out"),
    ("export --model {bert} --out {tmp}/out --weights int4", "did you mean 'int8'?"),
    ("export --model {bert} --out {bert}", "is not empty"),
    ("export --model {bert} --out {text}", "is a file"),
    ("export --model {tmp}/none --out {tmp}/out", "no model folder"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence(refused, zoo, text_file, tmp_path, line, says):
    if "{tmp}/none" in line and not find_spec("openvino"):
        pytest.skip("the missing extra is named first")
    names = {"bert": zoo / "bert", "gpt2": zoo / "gpt2", "text": text_file, "tmp": tmp_path}
    assert says in refused(*(word.format(**names) for word in line.split()))
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_exported_network(refused, zoo):
    if not find_spec("openvino"):
        pytest.skip("the missing extra is named first")
    said = refused("generate", "A", "--model", zoo / "bert", "--backend", "openvino")
    assert "unmask export" in said
