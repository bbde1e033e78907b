"""Pretrained models, cut in every kind of unit.

Slow: each is some hundred megabytes, made once from packages of the Python registry.
"""

import gc
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

import headcount as hc
from real_models import Plain, real_model

pytestmark = pytest.mark.slow

KINDS = ("head", "kv_head", "neuron", "sublayer", "layer")
SECONDS = 6
"""How much Whisper hears."""

CLIPS = Path("/usr/share/pocketsphinx/test/data/librivox")
"""Where Debian's package pocketsphinx-testdata has clips of a read book."""


@dataclass(frozen=True)
class Case:
    """A model: the class that loads it, and how many units of each kind it has."""

    cls: str
    units: dict[str, int]
    kept: dict[str, int] = field(default_factory=dict)

    def keep(self, kind: str) -> int:
        """How many are to stay."""
        return self.kept.get(kind, self.units[kind] // 2)


def counts(head: int, neuron: int, sublayer: int, layer: int, kv_head: int = 0) -> dict[str, int]:
    return dict(zip(KINDS, (head, kv_head, neuron, sublayer, layer), strict=True))


CASES = {
    "smollm2": Case(
        "AutoModelForCausalLM", counts(30 * 9, 30 * 1536, 30 * 2, 30, 30 * 3), {"layer": 22}
    ),
    "whisper-tiny-en": Case(
        "WhisperForConditionalGeneration", counts(12 * 6, 8 * 1536, 4 * 2 + 4 * 3, 8), {"layer": 6}
    ),
    "dinov2-small": Case("AutoModel", counts(12 * 6, 12 * 1536, 12 * 2, 12)),
    "me5-small": Case("AutoModel", counts(12 * 12, 12 * 1536, 12 * 2, 12)),
    "rxnfp": Case("AutoModelForMaskedLM", counts(12 * 4, 12 * 512, 12 * 2, 12)),
    "antiberty": Case("AutoModelForMaskedLM", counts(8 * 8, 8 * 2048, 8 * 2, 8)),
}


@pytest.fixture(scope="module")
def plain():
    process = Plain()
    yield process
    process.close()


@pytest.fixture
def folder():
    """A folder that is gone at once: the models are large."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


_last: dict[str, transformers.PreTrainedModel] = {}


def dense(name: str) -> transformers.PreTrainedModel:
    """The model in double precision; one is remembered."""
    if name not in _last:
        _last.clear()
        gc.collect()
        cls = getattr(transformers, CASES[name].cls)
        model = cls.from_pretrained(real_model(name), attn_implementation="eager")
        if name == "whisper-tiny-en":
            _listen_shorter(model)
        _last[name] = model.eval().double()
    return _last[name]


def _listen_shorter(model: transformers.PreTrainedModel) -> None:
    """Six seconds instead of thirty, and once: a test takes seconds too.

    Whisper goes on from where a token of time says, which a badly cut model writes again and again.
    """
    generation = model.generation_config
    times = range(generation.no_timestamps_token_id + 1, model.config.vocab_size)
    generation.suppress_tokens = [*generation.suppress_tokens, *times]
    encoder = model.get_encoder()
    positions = encoder.embed_positions.weight[: SECONDS * 50]
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(positions)
    encoder.max_source_positions = model.config.max_source_positions = SECONDS * 50


def sound() -> np.ndarray:
    """Speech if there is some on this machine, else chirps; a second and more at 16 kHz."""
    clip = next(iter(sorted(CLIPS.glob("*.wav"))), None)
    if clip is not None:
        with wave.open(str(clip)) as file:
            frames = file.readframes(file.getnframes())
            return np.frombuffer(frames, np.int16).astype(np.float32) / 32768
    time = np.arange(32000) / 16000
    tones = [np.sin(2 * np.pi * (200 + 80 * k * time) * time * k) / k for k in range(1, 6)]
    return (0.1 * sum(tones) * (np.sin(2 * np.pi * 3 * time) > 0)).astype(np.float32)


def features(name: str) -> dict[str, Tensor]:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(real_model(name))
    found = extractor(sound(), sampling_rate=16000, return_tensors="pt", return_attention_mask=True)
    frames = slice(0, SECONDS * 100)
    return {
        "input_features": found.input_features[..., frames],
        "attention_mask": found.attention_mask[..., frames],
    }


def inputs_of(name: str) -> dict[str, Tensor]:
    """One short example."""
    config = transformers.AutoConfig.from_pretrained(real_model(name))
    generator = torch.Generator().manual_seed(1)
    if name == "dinov2-small":
        return {"pixel_values": torch.randn(1, 3, 112, 112, generator=generator)}
    length = (1, 12)
    ids = torch.randint(5, min(config.vocab_size, 30000), length, generator=generator)
    if name == "whisper-tiny-en":
        heard = features(name)["input_features"]
        return {"input_features": heard, "decoder_input_ids": ids}
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask}


def cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: x.to(dtype) if x.is_floating_point() else x for key, x in inputs.items()}


def answer(model, inputs: dict[str, Tensor]) -> Tensor:
    """Logits, or the states of the last layer."""
    with torch.no_grad():
        return model(**cast(inputs, model.dtype))[0]


def written(name: str, model, inputs: dict[str, Tensor]) -> Tensor | None:
    """What a model writes, greedily; None if it does not write."""
    if name == "smollm2":
        text = torch.tensor([[1, 504, 3575, 282, 4649, 314]])
        more = {"attention_mask": torch.ones_like(text), "max_new_tokens": 20, "do_sample": False}
        return model.generate(text, **more)
    if name == "whisper-tiny-en":
        return model.generate(**cast(features(name), model.dtype), max_new_tokens=20)
    return None


def vector(found: Tensor) -> Tensor:
    """One of the sentence or the image: the mean over positions."""
    return torch.nn.functional.normalize(found.mean(1), dim=-1)


def decided(name: str, kind: str) -> tuple[transformers.PreTrainedModel, hc.Decision]:
    """The dense model, and a decision by chance that keeps about half of one kind of unit."""
    model, case = dense(name), CASES[name]
    assert hc.units(model).num(kind) == case.units[kind]
    budget = hc.Budget(**{f"{kind}s": case.keep(kind)})
    return model, hc.decide(model, hc.Random(seed=3), budget)


def in_single(small):
    """As it is saved and used: float32, and the attention that transformers takes by default."""
    small.set_attn_implementation("sdpa")
    return small.float()


EVERY = [(name, kind) for name in CASES for kind in KINDS if CASES[name].units[kind]]


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_masked_is_cut_is_reloaded(name, kind, folder):
    model, decision = decided(name, kind)
    inputs = inputs_of(name)
    with hc.masked(model, decision):
        wanted, text = answer(model, inputs), written(name, model, inputs)
    small = hc.cut(model, decision)
    assert hc.units(small).num(kind) == CASES[name].keep(kind)
    found = answer(small, inputs)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(vector(found), vector(wanted), atol=1e-10, rtol=0)
    assert text is None or torch.equal(written(name, small, inputs), text)

    small = in_single(small)
    hc.save(small, folder / "small")
    again = type(small).from_pretrained(folder / "small").eval()
    state = small.state_dict()
    assert list(again.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert torch.equal(answer(again, inputs), answer(small, inputs))
    text = written(name, small, inputs)
    assert text is None or torch.equal(written(name, again, inputs), text)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_without_headcount_a_folder_is_refused_or_right(name, kind, folder, plain):
    model, decision = decided(name, kind)
    small, inputs = in_single(hc.cut(model, decision)), inputs_of(name)
    saved = hc.save(small, folder / "small")
    torch.save(inputs, folder / "inputs.pt")
    paths = {"inputs": folder / "inputs.pt", "answer": folder / "answer.pt"}
    error = plain.error(cls=type(small).__name__, folder=folder / "small", **paths)
    if saved.rung == "stock" or not error:
        assert not error
        assert torch.equal(torch.load(folder / "answer.pt"), answer(small, inputs))
    else:
        assert "headcount" in error


WORDS = {
    "cross heads": {"heads": {"cross": 12}},
    "heads": {"heads": 40},
    "sublayers": {"sublayers": {"cross": 2}},
}


@pytest.mark.parametrize("budget", WORDS.values(), ids=WORDS)
def test_words_have_the_same_seconds(budget, folder):
    """The first seconds of a clip, dated by the heads that were trained for it."""
    name = "whisper-tiny-en"
    model, heard = dense(name), features(name)

    def dated(model) -> dict[str, Tensor]:
        model.set_attn_implementation("eager")
        found = model.generate(
            **cast(heard, model.dtype),
            return_token_timestamps=True,
            return_dict_in_generate=True,
            max_new_tokens=16,
        )
        return {key: found[key] for key in ("sequences", "token_timestamps")}

    assert len(model.generation_config.alignment_heads) > 2
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(**budget))
    with hc.masked(model, decision):
        wanted = dated(model)
        assert len(model.generation_config.alignment_heads) > 0
    small = hc.cut(model, decision)
    found = dated(small)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    hc.save(small, folder / "small")
    found = dated(type(small).from_pretrained(folder / "small").eval())
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    hc.save(small, folder / "padded", padded=True)
    found = dated(type(small).from_pretrained(folder / "padded").eval())
    assert torch.equal(found["token_timestamps"], wanted["token_timestamps"])
