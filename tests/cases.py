"""The tiny models and the methods that shared tests run over."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

import headcount as hc
from headcount.units.cost import Cost
from headcount.units.site import Site

TINY = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
}
TINY_DISTIL = {
    "vocab_size": 40,
    "dim": 24,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 32,
    "max_position_embeddings": 48,
}


@dataclass(frozen=True)
class ModelCase:
    """A classifier of one architecture, three layers of four heads."""

    name: str
    make: Callable[[], PreTrainedModel]

    def __str__(self) -> str:
        return self.name


def classifier(prefix: str, **extra) -> ModelCase:
    def make() -> PreTrainedModel:
        config_class = getattr(transformers, f"{prefix}Config")
        model_class = getattr(transformers, f"{prefix}ForSequenceClassification")
        settings = TINY_DISTIL if prefix == "DistilBert" else TINY
        return model_class(config_class(**{**settings, "num_labels": 3, **extra})).eval()

    return ModelCase(prefix, make)


def with_cross_attention(decoder: str = "BertLMHeadModel") -> PreTrainedModel:
    """An encoder-decoder of two small models: self- and cross-attention."""
    encoder = transformers.BertModel(transformers.BertConfig(**TINY))
    decoder_class = getattr(transformers, decoder)
    settings = {**TINY, "is_decoder": True, "add_cross_attention": True}
    decoder = decoder_class(decoder_class.config_class(**settings))
    return transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()


def llama(num_layers: int = 3) -> PreTrainedModel:
    """Layers of eight query heads that share four key-value heads."""
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=24,
        max_position_embeddings=48,
        pad_token_id=0,
    )
    return transformers.LlamaForCausalLM(config).eval()


def clip() -> PreTrainedModel:
    """Two towers of two layers of four heads, each with a configuration of its own."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
    shape |= {"num_hidden_layers": 2}
    text = {**shape, "vocab_size": 40, "max_position_embeddings": 16}
    vision = {**shape, "image_size": 8, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return transformers.CLIPModel(config).eval()


CLASSIFIERS = (
    classifier("Bert"),
    classifier("Camembert"),
    classifier("Data2VecText"),
    classifier("DistilBert"),
    classifier("Electra"),
    classifier("Ernie"),
    classifier("LayoutLM"),
    classifier("MegatronBert"),
    classifier("RoCBert"),
    classifier("Roberta"),
    classifier("RobertaPreLayerNorm"),
    classifier("XLMRoberta"),
    classifier("XLMRobertaXL"),
    classifier("Xmod", default_language="en_XX"),
    classifier("JinaEmbeddingsV3"),
)
"""Every row of the BERT family's table that has a classifier."""

METHODS = (
    hc.DSP(),
    hc.DSP(training="pipelined"),
    hc.DSP(shrinking=None),
    hc.DSP(shrinking=hc.Sampling()),
    hc.DSP(estimator=hc.StraightThrough()),
    hc.DSP(estimator=hc.RelaxedTopK()),
    hc.DSP(estimator=hc.RelaxedTopK(), training="pipelined"),
    hc.HardConcrete(),
    hc.HardConcrete(pressure=hc.L0Penalty()),
    hc.Magnitude(),
    hc.Random(),
)
"""Every method that can be attached to a training loop, with the settings that change its way."""

LOOKING = (
    hc.GradientImportance(),
    hc.GradientImportance(average="batch", normalise="none"),
    hc.GradientImportance(share=1.0),
    hc.Fisher(),
    hc.Fisher(average="example"),
)
"""Every method that looks at data before it scores, likewise."""


def bert() -> PreTrainedModel:
    return CLASSIFIERS[0].make()


def batch(size: int = 3, length: int = 7) -> dict[str, Tensor]:
    """Token ids with padding at the end of the last example."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 40, (size, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def keep_decision(model: PreTrainedModel, keep: Tensor) -> hc.Decision:
    """A decision about the heads with a given keep."""
    heads = hc.units(model, "head")
    return hc.Decision.of(heads, keep, keep.double(), {"method": {"name": "given"}})


WORDS = (
    *("a", "some", "every", "no", "not", "dog", "cat", "animal"),
    *("red", "small", "runs", "sleeps", "moves", "the", "is", "of"),
)


def word_tokenizer() -> transformers.BertTokenizer:
    """One token a word."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate([*special, *WORDS])})


def write_model(folder) -> str:
    """A tiny BERT with a tokenizer, saved the way a user has it."""
    word_tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**TINY)).save_pretrained(folder)
    return str(folder)


def write_pairs(path, num_rows: int, seed: int = 0) -> str:
    """Pairs whose label is told by the hypothesis's first word, as a tsv file."""
    generator = torch.Generator().manual_seed(seed)
    labels = ("entailment", "neutral", "contradiction")
    lines = ["premise\thypothesis\tlabel"]
    for _ in range(num_rows):
        words = [WORDS[i] for i in torch.randint(5, len(WORDS), (7,), generator=generator)]
        label = int(torch.randint(3, (1,), generator=generator))
        hypothesis = " ".join([("some", "not", "no")[label], *words[4:]])
        lines.append(f"{' '.join(words[:4])}\t{hypothesis}\t{labels[label]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def toy_units(*sizes: int) -> hc.UnitTable:
    """So many heads in each of some layers, of no model."""
    sites = tuple(
        Site(
            module=f"{layer}.attention",
            kind="head",
            layer=layer,
            stack="encoder",
            branch="self",
            num_units=size,
            width=1,
            gate=f"{layer}.attention",
            parts=(),
            config_key="",
            cost=Cost(params=1, macs_per_token=1),
        )
        for layer, size in enumerate(sizes)
    )
    return hc.UnitTable(sites=sites)
