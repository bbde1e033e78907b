"""PruningTrainer from end to end: train, decide, cut, save, reload.

    python examples/trainer.py

A small BERT with random weights, a tokenizer and pairs of sentences, all made here; nothing is
downloaded. So short a training teaches little: what counts here is that the parts fit.
"""

import re
from tempfile import TemporaryDirectory

import torch
import transformers

import headcount as hc
from headcount.tasks.grammar import generate
from headcount.tasks.nli import NLI


def make_tokenizer(texts: list[str]) -> transformers.PreTrainedTokenizerBase:
    """A tokenizer that knows the words of the texts."""
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate([*special, *words])})


def main() -> None:
    torch.manual_seed(0)
    task = NLI()
    train, test = generate(num_train=320, num_test=96, seed=0)
    tokenizer = make_tokenizer([*train["premise"], *train["hypothesis"]])
    train_set = task.encode(train, tokenizer, max_length=32, split="train")
    labels = task.labels(train_set)
    test_set = task.encode(test, tokenizer, max_length=32, split="test", labels=labels)

    shape = {"num_hidden_layers": 3, "num_attention_heads": 6, "hidden_size": 48}
    config = transformers.BertConfig(
        **shape, vocab_size=len(tokenizer), id2label=dict(enumerate(labels))
    )
    with TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            folder,
            num_train_epochs=3,
            per_device_train_batch_size=16,
            learning_rate=1e-3,
            logging_steps=20,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = hc.PruningTrainer(
            model=transformers.BertForSequenceClassification(config),
            method=hc.DSP(),
            budget=hc.Budget(heads=6),  # of 18
            args=args,
            train_dataset=train_set,
            eval_dataset=test_set,
            data_collator=task.collator(tokenizer),
            compute_metrics=task.metrics,
        )
        trainer.train()
        gated_loss = trainer.evaluate()["eval_loss"]  # hard gates, no noise
        small = trainer.prune()
        assert hc.units(small).num("head") == trainer.decision().num_kept == 6

        small.save_pretrained(f"{folder}/small")
        tokenizer.save_pretrained(f"{folder}/small")
        again = transformers.AutoModelForSequenceClassification.from_pretrained(f"{folder}/small")

    batch = task.collator(tokenizer)([test_set[i] for i in range(len(test_set))])
    small = small.to(again.device)
    assert torch.equal(again(**batch).logits, small(**batch).logits)
    assert abs(again(**batch).loss.item() - gated_loss) < 1e-4
    print("kept per layer:", trainer.decision().kept_per_layer)


if __name__ == "__main__":
    main()
