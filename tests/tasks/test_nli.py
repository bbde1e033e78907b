"""The task NLI: labels, tokenising, collator, model head, accuracy."""

import logging

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    EvalPrediction,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from headcount.errors import DataError
from headcount.tasks import TASKS
from headcount.tasks.nli import NLI, THREE_WAY, TWO_WAY

TASK = TASKS["nli"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "every", "dog", "is", "wet"]


def make_tokenizer(**special):
    """One token a word, pairs as in BERT."""
    vocab = {word: number for number, word in enumerate(WORDS)}
    core = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **{
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "pad_token": "[PAD]",
            "model_max_length": 64,
            **special,
        },
    )


def table(*labels):
    rows = {"premise": ["every dog is wet"] * len(labels), "hypothesis": ["dog is"] * len(labels)}
    return Dataset.from_dict({**rows, "label": list(labels)})


def encode(*labels, names=None, max_length=32):
    return TASK.encode(
        table(*labels), make_tokenizer(), max_length=max_length, split="train", labels=names
    )


def message_of(*labels, names=None):
    with pytest.raises(DataError) as caught:
        encode(*labels, names=names)
    return str(caught.value)


def test_tokens():
    encoded = encode("neutral", "entailment")
    assert encoded[0] == {
        "input_ids": [2, 4, 5, 6, 7, 3, 5, 6, 3],
        "token_type_ids": [0] * 6 + [1] * 3,
        "attention_mask": [1] * 9,
        "labels": 1,
    }


def test_the_longer_sentence_is_cut_first():
    assert encode("neutral", "entailment", max_length=7)[0]["input_ids"] == [2, 4, 5, 3, 5, 6, 3]


def test_tokenizer_without_token_types():
    tokenizer = make_tokenizer(model_input_names=["input_ids", "attention_mask"])
    encoded = TASK.encode(table("neutral", "entailment"), tokenizer, max_length=9, split="train")
    assert sorted(encoded.column_names) == ["attention_mask", "input_ids", "labels"]


@given(st.lists(st.sampled_from(THREE_WAY), min_size=1), st.permutations(THREE_WAY))
def test_labels_number_the_names(labels, names):
    encoded = encode(*labels, names=names)
    assert TASK.labels(encoded) == tuple(names)
    assert [names[number] for number in encoded["labels"]] == labels


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("contradiction", "neutral", "entailment"), THREE_WAY),
        (("2", "0", "1"), THREE_WAY),
        (("contradiction", "entailment", "0"), ("entailment", "contradiction")),
        (("not_entailment", "entailment"), TWO_WAY),
    ],
)
def test_label_set_is_that_of_the_training_data_in_canonical_order(labels, names):
    assert TASK.labels(encode(*labels)) == names


def test_rows_without_gold_label_are_left_out_and_told(caplog):
    with caplog.at_level(logging.WARNING, "headcount"):
        encoded = encode("-", "neutral", "-1", "entailment")
    assert encoded["labels"] == [1, 0]
    assert caplog.messages == ["train: left out 2 of 4 rows: no gold label"]


def test_unknown_labels():
    assert message_of("maybe", "neutral", "3", "maybe") == (
        "NLI(split='train'): 2 unknown labels: 'maybe' (2 rows), '3' (1 rows). Allowed are "
        "entailment, neutral, contradiction (or 0, 1, 2), or entailment, not_entailment; '-' or "
        "-1 for none."
    )


def test_no_gold_label_at_all():
    assert message_of("-", "-") == (
        "NLI(split='train'): none of the 2 rows has a gold label. Give labelled rows."
    )


@pytest.mark.parametrize(
    ("labels", "listed"),
    [
        (("neutral", "neutral"), "['neutral']"),
        (("neutral", "not_entailment"), "['neutral', 'not_entailment']"),
    ],
)
def test_labels_that_are_no_set(labels, listed):
    assert message_of(*labels) == (
        f"NLI(split='train'): the labels are {listed}. Give two or more of ('entailment', "
        "'neutral', 'contradiction'), or both of ('entailment', 'not_entailment')."
    )


def test_labels_that_training_does_not_have():
    assert message_of("neutral", "neutral", "entailment", names=TWO_WAY) == (
        "NLI(split='train'): the training data do not have the labels 'neutral' (2 rows); they "
        "have ('entailment', 'not_entailment'). Give training data with them, or leave these rows "
        "out."
    )


def test_labels_of_other_data():
    with pytest.raises(DataError) as caught:
        TASK.labels(table("neutral"))
    assert str(caught.value) == (
        "labels(['premise', 'hypothesis', 'label']): there is no column 'labels' with label names. "
        "Give a data set made by dataset() or encode()."
    )


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (4, "special tokens leave no room for text. Give 5 or more."),
        (65, "the model reads at most 64 tokens. Give 5 to 64."),
    ],
)
def test_lengths_that_cannot_be(max_length, expected):
    with pytest.raises(DataError) as caught:
        TASK.dataset(["missing.tsv"], make_tokenizer(), max_length=max_length, split="train")
    assert str(caught.value) == f"dataset(max_length={max_length}): {expected}"


def test_load_reads_both_splits_with_the_labels_of_training(tmp_path):
    for name, labels in (("train", "0012"), ("dev", "2")):
        rows = [f"every dog\tdog\t{label}" for label in labels]
        text = "\n".join(["premise\thypothesis\tlabel", *rows])
        (tmp_path / f"{name}.tsv").write_text(text)
    labels, train, dev = TASK.load(
        [tmp_path / "train.tsv"],
        [tmp_path / "dev.tsv"],
        processor=make_tokenizer(),
        max_length=16,
    )
    assert labels == THREE_WAY
    assert (train["labels"], dev["labels"]) == ([0, 0, 1, 2], [2])
    assert dev.features["labels"] == ClassLabel(names=list(THREE_WAY))


def test_collator_pads_to_the_longest_row():
    rows = [{"input_ids": [2, 3], "labels": 1}, {"input_ids": [2, 5, 3], "labels": 0}]
    batch = TASK.collator(make_tokenizer())(rows)
    assert batch["input_ids"].tolist() == [[2, 3, 0], [2, 5, 3]]
    assert batch["labels"].tolist() == [1, 0]


def test_collator_needs_a_padding_token():
    tokenizer = make_tokenizer(pad_token=None)
    with pytest.raises(DataError) as caught:
        TASK.collator(tokenizer)
    assert str(caught.value) == (
        f"collator({type(tokenizer).__name__}): the tokenizer has no padding token. Set one, for "
        "instance tokenizer.pad_token = tokenizer.eos_token."
    )


def config(**extra):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    return BertConfig(vocab_size=len(WORDS), intermediate_size=8, **sizes, **extra)


def save(folder, model):
    model.save_pretrained(folder)
    return folder


def test_model_gets_a_head_with_names(tmp_path):
    model = TASK.load_model(save(tmp_path, BertModel(config())), THREE_WAY)
    assert isinstance(model, BertForSequenceClassification)
    assert model.num_labels == 3
    assert model.config.id2label == dict(enumerate(THREE_WAY))
    assert model.config.label2id == {"entailment": 0, "neutral": 1, "contradiction": 2}


def test_classifier_of_the_same_labels_keeps_its_weights(tmp_path, caplog):
    classifier = BertForSequenceClassification(config(id2label=dict(enumerate(THREE_WAY))))
    with caplog.at_level(logging.WARNING, "headcount"):
        model = TASK.load_model(save(tmp_path, classifier), THREE_WAY)
    assert torch.equal(model.classifier.weight, classifier.classifier.weight)
    assert caplog.messages == []


def test_classifier_of_another_number_of_labels(tmp_path):
    save(tmp_path, BertForSequenceClassification(config(id2label=dict(enumerate(THREE_WAY)))))
    with pytest.raises(DataError) as caught:
        TASK.load_model(tmp_path, TWO_WAY)
    assert str(caught.value) == (
        f"load_model({str(tmp_path)!r}, ('entailment', 'not_entailment')): the model classifies "
        "into ('entailment', 'neutral', 'contradiction'). Give data with 3 labels, or a model "
        "without classifier."
    )


def test_classifier_with_another_order_is_told(tmp_path, caplog):
    names = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    save(tmp_path, BertForSequenceClassification(config(id2label=names)))
    with caplog.at_level(logging.WARNING, "headcount"):
        TASK.load_model(tmp_path, THREE_WAY)
    assert caplog.messages == [
        f"{tmp_path}: its classifier has the label order ('CONTRADICTION', 'NEUTRAL', "
        "'ENTAILMENT'), the data have ('entailment', 'neutral', 'contradiction'): train it, or "
        "give dataset(labels=) its order"
    ]


@pytest.mark.parametrize("wrap", [lambda logits: logits, lambda logits: (logits, "hidden states")])
def test_accuracy(wrap):
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 0.5]])
    prediction = EvalPrediction(predictions=wrap(logits), label_ids=np.array([0, 1, 1]))
    assert TASK.metrics(prediction)["accuracy"] == pytest.approx(2 / 3)
    assert TASK.primary_metric == "accuracy"


def test_the_trainer_takes_it_all(tmp_path):
    tokenizer, encoded = make_tokenizer(), encode(*THREE_WAY)
    model = TASK.load_model(save(tmp_path / "bert", BertModel(config())), TASK.labels(encoded))
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=encoded,
        eval_dataset=encoded,
        data_collator=TASK.collator(tokenizer),
        compute_metrics=TASK.metrics,
    )
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_accuracy"] <= 1


def test_a_task_is_a_value():
    assert NLI() == TASK
    assert TASKS[TASK.name] == TASK
    with pytest.raises((AttributeError, TypeError)):
        TASK.name = "other"


def test_packaged_tokenizer_and_generated_corpus(minilm, tmp_path):
    from transformers import AutoTokenizer

    from headcount.tasks.grammar import write_corpus

    train, test = write_corpus(tmp_path, 30, 12, seed=0)
    labels, encoded, _ = TASK.load(
        [train], [test], processor=AutoTokenizer.from_pretrained(minilm), max_length=64
    )
    assert labels == THREE_WAY
    assert max(map(len, encoded["input_ids"])) <= 30
