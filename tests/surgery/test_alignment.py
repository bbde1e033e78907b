"""Word timestamps: the generation configuration names cross-attention heads by their numbers."""

import copy

import pytest
import torch
import transformers

import headcount as hc
from headcount.checkpoints.padded import padded
from headcount.zoo.decisions import decision_of, nested

LAYERS, HEADS = 3, 4
ALIGNING = [[0, 1], [1, 3], [2, 0], [2, 2]]


def whisper(aligning=ALIGNING) -> transformers.WhisperForConditionalGeneration:
    config = transformers.WhisperConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=1,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=8,
        max_source_positions=50,
        max_target_positions=30,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        begin_suppress_tokens=None,
        attn_implementation="eager",
    )
    model = transformers.WhisperForConditionalGeneration(config).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    generation = model.generation_config
    generation.alignment_heads = copy.deepcopy(aligning)
    generation.median_filter_width = 1
    return model


def timestamps(model) -> torch.Tensor:
    """Tokens and their seconds, [2, T]."""
    sound = torch.randn(1, 8, 100, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    found = model.generate(
        sound,
        return_token_timestamps=True,
        return_dict_in_generate=True,
        max_new_tokens=8,
        attention_mask=torch.ones(1, 100, dtype=torch.long),
    )
    return torch.stack([found["sequences"][0].double(), found["token_timestamps"][0].double()])


def without(model, gone: dict[str, set[int]]) -> hc.Decision:
    """Keep everything but some units: end of the module's name, a slash and the kind -> numbers."""
    units = hc.units(model)
    keeps = {}
    for site in units.sites:
        numbers = next(
            (n for name, n in gone.items() if f"{site.module}/{site.kind}".endswith(name)), set()
        )
        keeps[site.key] = torch.tensor([unit not in numbers for unit in range(site.num_units)])
    return nested(units, keeps)


def aligning(model) -> list | None:
    return getattr(model.generation_config, "alignment_heads", None)


def loaded(folder):
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    model.set_attn_implementation("eager")
    return model


CUTS = {
    "first cross heads": {"encoder_attn/head": {0}},
    "aligning heads": {"1.encoder_attn/head": {0, 3}, "2.encoder_attn/head": {1, 2}},
    "self heads": {"self_attn/head": {0, 2}},
    "no cross head in a layer": {"2.encoder_attn/head": set(range(HEADS))},
    "a cross-attention": {"1.encoder_attn/module": {0}},
    "a layer": {"decoder.layers.1/layer": {0}, "2.encoder_attn/head": {1}},
    "the first layer": {"decoder.layers.0/layer": {0}},
}


@pytest.mark.parametrize("gone", CUTS.values(), ids=CUTS)
def test_a_cut_model_dates_its_tokens_as_the_masked_one_does(gone, tmp_path):
    model = whisper()
    decision = without(model, gone)
    with hc.masked(model, decision):
        wanted = timestamps(model)
    small = hc.cut(model, decision)
    assert aligning(model) == ALIGNING
    assert torch.equal(timestamps(small), wanted)
    hc.save(small, tmp_path / "small")
    assert torch.equal(timestamps(loaded(tmp_path / "small")), wanted)


def test_padded_heads_have_the_numbers_of_the_dense_model(tmp_path):
    model = whisper()
    small = hc.cut(model, without(model, CUTS["aligning heads"]))
    assert aligning(small) == [[0, 1], [2, 0]]
    assert aligning(padded(small)) == [[0, 1], [2, 0]]
    small = hc.cut(model, without(model, CUTS["first cross heads"]))
    assert aligning(small) == [[0, 0], [1, 2], [2, 1]]
    hc.save(small, tmp_path / "padded", padded=True)
    assert aligning(loaded(tmp_path / "padded")) == [[0, 1], [1, 3], [2, 2]]
    assert torch.equal(timestamps(loaded(tmp_path / "padded")), timestamps(small))
    hc.save(small, tmp_path / "small")
    again = loaded(tmp_path / "small")  # nobody knows any more which of the dense heads these were
    hc.save(again, tmp_path / "padded", padded=True)
    assert torch.equal(timestamps(loaded(tmp_path / "padded")), timestamps(small))


def test_a_cut_of_a_cut(tmp_path):
    model = whisper()
    first = hc.cut(model, without(model, {"encoder_attn/head": {0}}))
    decision = without(first, {"encoder_attn/head": {1}})
    with hc.masked(first, decision):
        wanted = timestamps(first)
    small = hc.cut(first, decision)
    assert aligning(small) == [[0, 0], [1, 1]]
    assert torch.equal(timestamps(small), wanted)
    hc.save(small, tmp_path / "padded", padded=True)
    assert torch.equal(timestamps(loaded(tmp_path / "padded")), wanted)


def test_cutting_in_place_leaves_a_generation_configuration_that_another_model_shares():
    model, teacher = whisper(), whisper()
    teacher.generation_config = model.generation_config
    hc.cut(model, without(model, CUTS["first cross heads"]), in_place=True)
    assert aligning(model) == [[0, 0], [1, 2], [2, 1]]
    assert aligning(teacher) == ALIGNING


def test_without_any_alignment_head_there_are_no_word_timestamps(tmp_path):
    model = whisper([[0, 1], [1, 1]])
    decision = without(model, {"encoder_attn/head": {1}})
    hc.save(hc.cut(model, decision), tmp_path / "small")
    with hc.masked(model, decision), pytest.raises(ValueError, match="no `alignment_heads`"):
        timestamps(model)
    assert aligning(model) == [[0, 1], [1, 1]]
    for small in (hc.cut(model, decision), loaded(tmp_path / "small")):
        with pytest.raises(ValueError, match="no `alignment_heads`"):
            timestamps(small)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(0, 1), (2, 3)], [[0, 0], [2, 2]]),
        ([[-1, 3], [-2, -4]], [[2, 2]]),
        ([[0, 7], [5, 1], [0, 2]], [[0, 7], [5, 1], [0, 1]]),  # no heads of this model
        ([], []),
    ],
)
def test_whatever_names_the_heads(before, after):
    model = whisper(before)
    small = hc.cut(model, without(model, {"encoder_attn/head": {0}}))
    assert (aligning(small) or []) == after
    assert aligning(model) == before


@pytest.mark.parametrize("kind", ["sublayer", "layer"])
def test_a_decision_about_modules_or_layers_alone(kind):
    model = whisper()
    units = hc.units(model, kind)
    gone = {"sublayer": "layers.1.encoder_attn", "layer": "decoder.layers.1"}[kind]
    keeps = [torch.tensor([not site.module.endswith(gone)]) for site in units.sites]
    decision = decision_of(units, keeps)
    with hc.masked(model, decision):
        assert aligning(model) == [[0, 1], [2, 0], [2, 2]]
    layer = {"sublayer": 2, "layer": 1}[kind]  # without a layer, it is a stock model of two
    assert aligning(hc.cut(model, decision)) == [[0, 1], [layer, 0], [layer, 2]]


def test_a_model_around_whisper():
    class Around(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = whisper()

    model = Around()
    decision = without(model, CUTS["first cross heads"])
    assert aligning(hc.cut(model, decision).inner) == [[0, 0], [1, 2], [2, 1]]
    with hc.masked(model, decision):
        assert aligning(model.inner) == ALIGNING[:2] + ALIGNING[3:]
    assert aligning(model.inner) == ALIGNING


@pytest.mark.slow
def test_code_beside_the_weights_dates_tokens_too(tmp_path):
    model = whisper()
    small = hc.cut(model, without(model, CUTS["a layer"]))
    hc.save(small, tmp_path / "small", standalone=True)
    again = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(
        tmp_path / "small", trust_remote_code=True, attn_implementation="eager"
    ).eval()
    assert torch.equal(timestamps(again), timestamps(small))
