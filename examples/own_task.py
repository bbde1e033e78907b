"""Prune on a task of your own: a class says how data are read and how a model is measured.

    python examples/own_task.py

The task is to tell friendly film reviews from others. Reviews and model are made here.
"""

import random
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
import transformers
from datasets import ClassLabel

import headcount as hc

WORDS = {"bad": ["dull", "cold", "silly"], "good": ["fine", "warm", "clever"]}


class Reviews(hc.Task):
    """One text, and labels by name."""

    name, columns, primary_metric = "reviews", ("text", "label"), "accuracy"

    def encode(self, table, processor, *, max_length, split, labels=None):
        names = sorted(set(table["label"])) if labels is None else list(labels)
        encoded = table.map(
            lambda row: processor(row["text"], truncation=True, max_length=max_length),
            remove_columns=table.column_names,
        )
        numbers = [names.index(label) for label in table["label"]]
        return encoded.add_column("labels", numbers).cast_column("labels", ClassLabel(names=names))

    def labels(self, dataset):
        return tuple(dataset.features["labels"].names)

    def load_model(self, name_or_path, labels):
        kind, names = transformers.AutoModelForSequenceClassification, dict(enumerate(labels))
        return kind.from_pretrained(name_or_path, num_labels=len(labels), id2label=names)

    def correct(self, eval_prediction):
        return eval_prediction.predictions.argmax(-1) == eval_prediction.label_ids

    def metrics(self, eval_prediction):
        return {"accuracy": float(np.mean(self.correct(eval_prediction)))}


def write_reviews(path: Path, number: int) -> Path:
    rng = random.Random(number)
    rows = [f"the film is {rng.choice(WORDS[x])}\t{x}" for x in rng.choices([*WORDS], k=number)]
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    return path


def write_model(folder: Path) -> Path:
    words = ["[PAD]", "[UNK]", "the", "film", "is", *WORDS["bad"], *WORDS["good"]]
    vocabulary = {word: number for number, word in enumerate(words)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=len(words), intermediate_size=64, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = write_reviews(folder / "a.tsv", 400), write_reviews(folder / "b.tsv", 100)
        recipe = hc.Recipe(epochs=4, batch_size=16, learning_rate=2e-3, max_length=16)
        pruned = hc.prune(write_model(folder / "model"), train=[train], eval=[test], task=Reviews(),
                          budget=hc.Budget(heads=3), options=hc.Options(recipe=recipe))  # fmt: skip
    print(f"3 of 8 heads: accuracy {pruned.report.rows[-1].quality:.2f}")
    assert pruned.report.rows[-1].quality > 0.95
