"""The examples of docs/trainers.md run as they stand, on tiny models."""

import functools
import re
from pathlib import Path

import datasets
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, PartialState

import headcount as hc
from cases import TINY, bert
from trainers import Rows

PAGE = Path(__file__).parents[2] / "docs" / "trainers.md"
BLOCKS = dict(re.findall(r"#+ ([^\n]+)\n(?:(?!\n#).)*?```python\n(.*?)```", PAGE.read_text(), re.S))
WORDS = ["a", "short", "sentence", "of", "some", "words", "that", "say", "nothing"]


def run(title, **names):
    exec(compile(BLOCKS[title], str(PAGE), "exec"), names)
    return names


def pairs(*columns):
    texts = [" ".join(WORDS[i % 4 : i % 4 + 2 + i % 5]) for i in range(16)]
    turned = [texts[i:] + texts[:i] for i in range(len(columns))]
    return datasets.Dataset.from_dict(dict(zip(columns, turned, strict=True)))


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = ["<pad>", "<unk>", "<eos>", *WORDS]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )


def arguments(folder):
    return transformers.TrainingArguments(
        str(folder), max_steps=2, report_to=[], disable_tqdm=True, dataloader_pin_memory=False
    )


def test_the_trainer(tmp_path):
    found = run(
        "Trainers", model=bert(), args=arguments(tmp_path / "run"), rows=Rows(),
        folder=tmp_path / "smaller",
    )  # fmt: skip
    saved = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "smaller")
    assert hc.units(saved).num("head") == hc.units(found["smaller"]).num("head") == 5


def test_seq2seq(tmp_path):
    config = transformers.T5Config(
        vocab_size=40, d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    rows = [{"input_ids": torch.arange(3, 9), "labels": torch.arange(4, 8)}] * 8
    found = run("Seq2SeqTrainer", model=model, rows=rows, folder=str(tmp_path))
    units = hc.units(found["smaller"], "head")
    assert [len(units.at(place)) for place in ("encoder", "decoder")] == [5, 9]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the other library
def test_sentence_transformers(tmp_path):
    st = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    transformers.BertModel(transformers.BertConfig(**TINY)).save_pretrained(tmp_path / "inner")
    tokenizer().save_pretrained(tmp_path / "inner")
    inner = modules.Transformer(str(tmp_path / "inner"))
    model = st.SentenceTransformer(modules=[inner, modules.Pooling(24)])
    given = pairs("anchor", "positive")
    found = run("SentenceTransformerTrainer", model=model, pairs=given, folder=str(tmp_path / "r"))
    assert hc.units(found["smaller"]).num("head") == 5
    gated = found["trainer"].model.eval().encode(["a short sentence"])
    assert abs(gated - found["vectors"]).max() < 1e-5
    assert found["smaller"].training is False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [hc.DSP(), hc.HardConcrete()], ids=lambda m: m.name)
def test_sft(tmp_path, monkeypatch, method):
    trl = pytest.importorskip("trl")
    here = {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True}
    monkeypatch.setattr(trl, "SFTConfig", functools.partial(trl.SFTConfig, **here))
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=24, pad_token_id=0,
    )  # fmt: skip
    monkeypatch.setattr(hc, "DSP", lambda: method)
    found = run(
        "SFTTrainer", model=transformers.LlamaForCausalLM(config), texts=pairs("text"),
        tokenizer=tokenizer(), folder=str(tmp_path),
    )  # fmt: skip
    assert hc.units(found["smaller"]).num("head") == 5


def test_a_loop_with_accelerate():
    loader = torch.utils.data.DataLoader(Rows(), batch_size=4)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        found = run("A loop of your own", model=bert(), loader=loader)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()
    assert found["decision"].provenance["steps"] == 4
    assert hc.units(found["smaller"]).num("head") == 5
    row = {name: torch.as_tensor(value)[None] for name, value in Rows()[0].items()}
    assert found["smaller"](**row).logits.dtype == torch.float32
