import copy
import json

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

import headcount as hc
from cases import TINY, batch, bert, keep_decision, with_cross_attention
from headcount.checkpoints import export as exporting
from headcount.checkpoints import formats
from headcount.checkpoints.export import export
from headcount.checkpoints.written import LIST_FILE
from headcount.zoo.tiny import tiny_model

KEEP = torch.arange(12) % 8 >= 4  # the first and the last layer have no heads
UNEVEN = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0]).bool()
PADDED = [(1, 3, None), (4, 9, "left"), (4, 9, "right")]


def loud(model):
    """Larger weights, so that outputs have sizes at which a difference would show."""
    for parameter in model.parameters():
        if parameter.requires_grad:  # tables of sines are not saved
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def cut_bert(keep=KEEP):
    model = loud(bert())
    return hc.cut(model, keep_decision(model, keep))


def cut_pair_model():
    model = loud(with_cross_attention())
    return hc.cut(model, hc.decide(model, hc.Random(seed=3), hc.Budget(heads=14)))


def question_answerer():
    return loud(transformers.BertForQuestionAnswering(transformers.BertConfig(**TINY)))


def marian():
    sides = ("encoder", "decoder")
    sizes = {f"{side}_layers": 2 for side in sides} | {f"{side}_ffn_dim": 32 for side in sides}
    sizes |= {f"{side}_attention_heads": 4 for side in sides}
    tokens = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1}
    config = transformers.MarianConfig(
        vocab_size=40, d_model=24, forced_eos_token_id=1, **tokens, **sizes
    )
    return loud(transformers.MarianMTModel(config))


def llama():
    sizes = {**TINY, "num_key_value_heads": 2}
    return loud(transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)))


MODELS = {
    "encoder with empty layers": cut_bert,
    "encoder with uneven layers": lambda: cut_bert(UNEVEN),
    "two outputs": question_answerer,
    "encoder and decoder": marian,
    "encoder and decoder, cut": cut_pair_model,
    "decoder": llama,
}


@pytest.fixture
def fake(monkeypatch):
    """A format whose runtime is PyTorch, off by a given number."""

    def install(model, off=0.0):
        def run(arrays):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            return [model(**tensors).logits.numpy() + np.float32(off)]

        monkeypatch.setitem(exporting.PACKAGES, "fake", ("torch",))
        monkeypatch.setitem(exporting.FILES, "fake", "model.fake")
        monkeypatch.setitem(exporting.WRITERS, "fake", lambda *arguments: arguments[2].touch())
        monkeypatch.setitem(exporting.READERS, "fake", lambda _: run)

    return install


def padded(model, size, length, side):
    ports = formats.ports_of(model)
    generator = torch.Generator().manual_seed(7)
    return ports.random(size, length, generator, side or "")


@pytest.mark.slow
@pytest.mark.compat
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_onnx_runtime_gives_the_same_numbers_at_any_size(tmp_path, make):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make()
    model.save_pretrained(tmp_path / "model")
    result = export(tmp_path / "model", tmp_path / "out", batch=2, length=8)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.onnx",
        "export.json",
        LIST_FILE,
    }
    assert result.model.num_bytes == (tmp_path / "out" / "model.onnx").stat().st_size
    assert result.model.max_difference <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert tuple(port.name for port in session.get_inputs()) == result.inputs
    for shape in PADDED:
        inputs = padded(model, *shape)
        with torch.inference_mode():
            expected = model(**inputs)
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        found = session.run(list(result.outputs), arrays)
        real = inputs["attention_mask"].bool().numpy()
        for name, array in zip(result.outputs, found, strict=True):
            rows = real if array.shape[:2] == real.shape and array.ndim == 3 else slice(None)
            np.testing.assert_allclose(array[rows], expected[name].numpy()[rows], atol=1e-4)


@pytest.mark.slow
@pytest.mark.compat
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_openvino_gives_the_same_numbers_at_any_size(tmp_path, make):
    openvino = pytest.importorskip("openvino")
    model = make()
    model.save_pretrained(tmp_path / "model")
    result = export(tmp_path / "model", tmp_path / "out", to="openvino", batch=2, length=8)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"model.xml", "model.bin", "export.json", LIST_FILE}
    compiled = openvino.Core().compile_model(
        tmp_path / "out" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    inputs = padded(model, *PADDED[2])
    with torch.inference_mode():
        expected = model(**inputs)[result.outputs[0]]
    found = compiled({name: tensor.numpy() for name, tensor in inputs.items()})
    np.testing.assert_allclose(found[result.outputs[0]], expected.numpy(), atol=1e-4)


@pytest.mark.slow
def test_the_dense_model_is_exported_and_timed_beside(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    bert().save_pretrained(tmp_path / "dense")
    cut_bert().save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    result = export(tmp_path / "model", out, dense=tmp_path / "dense", batch=2, length=8)
    assert result.model.num_bytes < result.dense.num_bytes
    assert result.dense.max_difference <= 1e-4
    assert result.speedup.lower_quartile <= result.speedup.median <= result.speedup.upper_quartile
    text = (out / "export.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["speedup"]["median"] == result.speedup.median


@pytest.mark.compat
def test_what_is_measured_is_reported_and_an_older_export_gives_way(tmp_path, fake):
    model = cut_bert()
    model.save_pretrained(tmp_path / "model")
    fake(model, off=1e-5)
    for length in (8, 12):
        result = export(tmp_path / "model", tmp_path / "out", to="fake", length=length)
        assert 0.9e-5 < result.model.max_difference < 2e-5
        saved = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
        assert saved["settings"]["length"] == length
    assert result.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert result.outputs == ("logits",)
    assert (result.dense, result.speedup) == (None, None)


@pytest.mark.compat
@pytest.mark.parametrize("off", [1e-3, float("nan")])
def test_an_export_that_differs_is_refused_and_leaves_nothing(tmp_path, fake, off):
    model = cut_bert()
    model.save_pretrained(tmp_path / "model")
    fake(model, off)
    with pytest.raises(hc.CheckpointError, match=r"differs from PyTorch by .* on 1 x 1 tokens"):
        export(tmp_path / "model", tmp_path / "out", to="fake", length=8)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_export_that_fails_is_said_to_and_leaves_nothing(tmp_path, fake, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such operator\nand much more")

    model = cut_bert()
    model.save_pretrained(tmp_path / "model")
    fake(model)
    monkeypatch.setitem(exporting.WRITERS, "fake", fail)
    with pytest.raises(hc.CheckpointError, match=r"cannot be exported.*: no such operator$"):
        export(tmp_path / "model", tmp_path / "out", to="fake", length=8)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(hc.CheckpointError, match=r"'tflite'.*Give 'onnx' or 'openvino'"):
        export(tmp_path, tmp_path / "out", to="tflite")


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_missing_package_is_named_with_the_extra(tmp_path, monkeypatch, to):
    monkeypatch.setitem(exporting.PACKAGES, to, ("no_such_package",))
    with pytest.raises(hc.CheckpointError, match=rf"no_such_package.*headcount\[{to}\]"):
        export(tmp_path, tmp_path / "out", to=to)


def test_a_folder_without_a_model_is_refused(tmp_path, fake):
    fake(None)
    with pytest.raises(hc.CheckpointError, match="there is no model"):
        export(tmp_path, tmp_path / "out", to="fake")


def test_another_folder_is_not_overwritten(tmp_path, fake):
    fake(None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(hc.CheckpointError, match=r"has no export\.json"):
        export(tmp_path / "model", tmp_path / "out", to="fake")
    assert (tmp_path / "out" / "notes.txt").exists()


@pytest.mark.parametrize("size", [{"length": 49}, {"length": 0}, {"batch": 0, "length": 8}])
def test_sizes_the_model_cannot_read_are_refused(tmp_path, fake, size):
    fake(None)
    bert().save_pretrained(tmp_path / "model")
    with pytest.raises(hc.CheckpointError, match="1 to 48 tokens"):
        export(tmp_path / "model", tmp_path / "out", to="fake", **size)


def test_a_model_that_counts_positions_from_two_reads_fewer(tmp_path, fake):
    fake(None)
    config = transformers.RobertaConfig(**TINY | {"pad_token_id": 1})
    transformers.RobertaForSequenceClassification(config).save_pretrained(tmp_path / "model")
    with pytest.raises(hc.CheckpointError, match="1 to 46 tokens"):
        export(tmp_path / "model", tmp_path / "out", to="fake", length=47)


def test_a_dense_model_of_another_type_is_refused(tmp_path, fake):
    fake(None)
    bert().save_pretrained(tmp_path / "model")
    llama().save_pretrained(tmp_path / "dense")
    with pytest.raises(hc.CheckpointError, match="its type is llama, that of the other is bert"):
        export(tmp_path / "model", tmp_path / "out", to="fake", dense=tmp_path / "dense")


SMALL = {"hidden_size": 24, "intermediate_size": 24, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 4, "image_size": 16, "patch_size": 4}


def whisper():
    sides = ("encoder", "decoder")
    sizes = {f"{side}_layers": 1 for side in sides} | {f"{side}_ffn_dim": 24 for side in sides}
    sizes |= {f"{side}_attention_heads": 4 for side in sides}
    tokens = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 5}
    lengths = {"max_source_positions": 8, "max_target_positions": 8, "num_mel_bins": 8}
    config = transformers.WhisperConfig(vocab_size=40, d_model=24, **sizes, **tokens, **lengths)
    return transformers.WhisperForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("make", "reads"),
    [
        (lambda: transformers.ViTModel(transformers.ViTConfig(**SMALL)), "pixel_values"),
        (
            lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SMALL)),
            "pixel_values",
        ),
        (lambda: tiny_model("siglip_vision_model"), "pixel_values"),
        (lambda: tiny_model("wav2vec2"), "input_values"),
        (whisper, "input_features"),
    ],
    ids=["vit", "clip", "siglip", "wav2vec2", "whisper"],
)
def test_a_model_that_reads_no_tokens_is_told_so(tmp_path, fake, make, reads):
    """Not that it reads fewer tokens, which come second."""
    fake(None)
    make().save_pretrained(tmp_path / "model")
    with pytest.raises(hc.CheckpointError, match=rf"reads {reads}\. Give a model that reads token"):
        export(tmp_path / "model", tmp_path / "out", to="fake")


def test_a_model_that_needs_more_than_tokens_is_told_so(tmp_path, fake):
    fake(None)
    tiny_model("clip").save_pretrained(tmp_path / "model")
    with pytest.raises(hc.CheckpointError, match=r"CLIPModel reads more than token ids"):
        export(tmp_path / "model", tmp_path / "out", to="fake", length=4)


def test_a_model_with_half_its_weights_is_told(tmp_path, fake):
    fake(None)
    bert().save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(hc.CheckpointError, match=r"its weights cannot be loaded"):
        export(tmp_path / "model", tmp_path / "out", to="fake")


@pytest.mark.parametrize("output", ["model", "file", "file/out", "."])
def test_places_that_cannot_be_written_are_refused_beforehand(tmp_path, fake, output):
    fake(None)
    bert().save_pretrained(tmp_path / "model")
    (tmp_path / "file").write_text("precious")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(hc.CheckpointError, match=r"output .*(is no folder|no export\.json)"):
        export(tmp_path / "model", tmp_path / output, to="fake")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_folder_that_names_no_class_is_refused(tmp_path, fake):
    fake(None)
    bert().config.save_pretrained(tmp_path / "model")
    with pytest.raises(hc.CheckpointError, match="one class of transformers is needed"):
        export(tmp_path / "model", tmp_path / "out", to="fake")


@pytest.mark.compat
@pytest.mark.parametrize("keep", [KEEP, UNEVEN, torch.zeros(12).bool()])
def test_torch_export_gives_the_same_numbers(keep):
    small = cut_bert(keep)
    program = torch.export.export(small, (), batch())
    torch.testing.assert_close(program.module()(**batch()).logits, small(**batch()).logits)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_torch_compile_gives_the_same_numbers():
    small = cut_bert()
    compiled = torch.compile(small)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch()).logits, small(**batch()).logits)


@pytest.mark.parametrize("keep", [KEEP, UNEVEN])
def test_bfloat16_is_close(tmp_path, keep):
    small = cut_bert(keep)
    copy.deepcopy(small).to(torch.bfloat16).save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    logits = again(**batch()).logits
    assert logits.dtype == torch.bfloat16
    assert distance(logits.float(), small(**batch()).logits) < 0.05


@pytest.mark.filterwarnings(
    "ignore:torch.ao.quantization is deprecated:DeprecationWarning",
    "ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning",
)
@pytest.mark.parametrize("keep", [KEEP, UNEVEN])
def test_dynamic_int8_is_close(keep):
    small = cut_bert(keep)
    linear = {torch.nn.Linear}
    quantized = torch.ao.quantization.quantize_dynamic(small, linear, dtype=torch.qint8)
    kinds = {type(module) for module in quantized.modules()}
    assert torch.nn.Linear not in kinds
    assert torch.ao.nn.quantized.dynamic.Linear in kinds
    assert distance(quantized(**batch()).logits, small(**batch()).logits) < 0.1


def distance(found, expected):
    """Relative to the size of what is expected; NaN is never below anything."""
    return ((found - expected).norm() / expected.norm()).item()
