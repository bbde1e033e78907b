"""Run by torchrun, and once by itself: trains a tiny model, and writes what came of it.

Each case is trained with plain gradient descent for a few steps, so that weights and logits have
moved by the sum of their gradients.
"""

import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import transformers
from datasets import Dataset

import headcount as hc
from cases import TINY

SIZE = 8
"""Examples of a step, over all processes and parts."""


class Norms(hc.State):
    """The running norms of what units add."""

    def __init__(self, quota):
        super().__init__(quota)
        self.register_buffer("mean", torch.zeros(len(quota.units), dtype=torch.float64))


@dataclass(frozen=True)
class Prior(hc.Method):
    """Draws heads towards adding nothing; each process sees the norms of its own examples."""

    evidence: ClassVar[frozenset[str]] = frozenset({"output_norms"})

    @property
    def name(self):
        return "prior"

    def init(self, quota, generator):
        return Norms(quota)

    def observe(self, state, evidence):
        state.mean.lerp_(evidence.output_norms.detach().double(), 0.5)

    def gates(self, state, step, generator):
        return torch.ones(len(state.units))

    def penalty(self, state, step, evidence):
        return evidence.output_norms.sum()

    def scores(self, state):
        return state.mean


CASES = {
    "joint": {"method": hc.DSP(max_grad_norm=1e9)},
    "relaxed": {"method": hc.DSP(estimator=hc.RelaxedTopK(), max_grad_norm=1e9)},
    "pipelined": {"method": hc.DSP(training="pipelined", max_grad_norm=1e9)},
    "hard concrete": {"method": hc.HardConcrete()},
    "penalty": {"method": hc.HardConcrete(pressure=hc.L0Penalty())},
    "teacher": {"method": hc.DSP(max_grad_norm=1e9), "distillation": hc.Distillation()},
    "language model": {"method": hc.DSP(max_grad_norm=1e9)},
    "loss of the step": {"method": hc.DSP(max_grad_norm=1e9), "compute_loss_func": "sum"},
    "loss of the batch": {"method": hc.DSP(max_grad_norm=1e9), "compute_loss_func": "mean"},
    "count of the process": {"method": hc.DSP(max_grad_norm=1e9)},
    "smoothed": {"method": hc.DSP(max_grad_norm=1e9)},
    "evidence": {"method": Prior()},
}
MORE = {
    "smoothed": {"label_smoothing_factor": 0.1},
    "count of the process": {"average_tokens_across_devices": False},
}


def summed(outputs, labels, num_items_in_batch):
    loss = torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
    return loss / num_items_in_batch


def mean(outputs, labels, num_items_in_batch):
    del num_items_in_batch
    return torch.nn.functional.cross_entropy(outputs.logits, labels)


def model_of(name):
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if name == "language model":
        config = transformers.LlamaConfig(
            vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, intermediate_size=24, pad_token_id=0,
        )  # fmt: skip
        return transformers.LlamaForCausalLM(config)
    config = transformers.BertConfig(**{**TINY, "num_labels": 3, "initializer_range": 0.3}, **still)
    return transformers.BertForSequenceClassification(config)


def rows(name):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 40, (2 * SIZE, 6), generator=generator)
    answers = torch.randn(2 * SIZE, 3, generator=generator).tolist()
    made = []
    for i in range(2 * SIZE):
        row = {"input_ids": ids[i].tolist(), "labels": i % 3}
        if name == "language model":  # of different lengths
            num = 2 + i % 4
            row["labels"] = [*ids[i].tolist()[:num], *[-100] * (6 - num)]
        made.append({**row, "teacher_logits": answers[i]} if name == "teacher" else row)
    return Dataset.from_list(made)


def run(name, parts, dtype):
    world = int(os.environ.get("WORLD_SIZE", "1"))
    given = dict(CASES[name])
    if "compute_loss_func" in given:
        given["compute_loss_func"] = {"sum": summed, "mean": mean}[given["compute_loss_func"]]
    args = transformers.TrainingArguments(
        tempfile.mkdtemp(), max_steps=2, per_device_train_batch_size=SIZE // world // parts,
        gradient_accumulation_steps=parts, learning_rate=0.1, optim="sgd", max_grad_norm=0.0,
        lr_scheduler_type="constant", report_to=[], save_strategy="no", disable_tqdm=True,
        use_cpu=True, ddp_backend="gloo" if world > 1 else None, dataloader_pin_memory=False,
        train_sampling_strategy="sequential", **MORE.get(name, {}),
    )  # fmt: skip
    trainer = hc.PruningTrainer(
        model=model_of(name).to(dtype), budget=hc.Budget(heads=5), args=args,
        train_dataset=rows(name), **given,
    )  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    moved = {f"weight {k}": v for k, v in trainer.model.named_parameters()}
    moved |= {f"learnt {k}": v for k, v in trainer.session.states.named_parameters()}
    moved |= {f"seen {k}": v for k, v in trainer.session.states.named_buffers()}
    kept = [list(site.kept) for site in trainer.decision().sites]
    return {"moved": {k: v.detach().clone() for k, v in moved.items()}, "kept": kept}


def main(folder, *wanted):
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = {}
    for name in wanted or CASES:
        for parts in (1, 2):
            found[name, parts] = run(name, parts, torch.float64)
    torch.save(found, Path(folder) / f"{os.environ.get('RANK', 'alone')}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
