"""Seventeen short runs with fixed seeds, as hashes: equal as long as a change moves no number.

Methods x tiny random models x budgets, in seconds and without a download. Each line has the hash of
the keep, the scores, the losses, and the weights of the cut model. They hold on one machine with
one version of everything; so print them before a change and after it, and compare:

    python benchmarks/fixed_runs.py > before.txt
    python benchmarks/fixed_runs.py | diff before.txt -
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable
from typing import Any

import datasets
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments

import headcount as hc

TINY = {"vocab_size": 40, "pad_token_id": 0, "num_labels": 3, "max_position_embeddings": 48}
Run = tuple[nn.Module, hc.Decision, list[float]]
"""The cut model, what was decided, and the losses of the training, if there was one."""


def randomised(name: str, **sizes: Any) -> PreTrainedModel:
    """A classifier whose weights are random, alike at every call."""
    config = getattr(transformers, f"{name}Config")(**TINY, **sizes)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return model.eval()


def bert() -> PreTrainedModel:
    """Three layers of four heads."""
    sizes = {"hidden_size": 24, "intermediate_size": 32}
    return randomised("Bert", num_hidden_layers=3, num_attention_heads=4, **sizes)


def llama() -> PreTrainedModel:
    """Three layers of eight heads that share four key-value heads."""
    sizes = {"hidden_size": 32, "intermediate_size": 24, "num_key_value_heads": 4}
    return randomised("Llama", num_hidden_layers=3, num_attention_heads=8, **sizes)


def bart() -> PreTrainedModel:
    """Two layers each of an encoder and a decoder."""
    sizes = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 20))
    }
    return randomised("Bart", d_model=24, eos_token_id=2, **sizes)


def mixtral() -> PreTrainedModel:
    """Two layers of three experts."""
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_local_experts": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return randomised("Mixtral", num_hidden_layers=2, **heads, **sizes)


def example(number: int) -> dict[str, Any]:
    """Eight tokens, of which the second is the label."""
    ids = torch.randint(5, 40, (8,), generator=torch.Generator().manual_seed(number))
    ids[1], ids[-1] = 5 + number % 3, 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": number % 3}


def batches(size: int = 8) -> list[dict[str, Tensor]]:
    """Thirty-two examples."""
    rows = [example(number) for number in range(32)]
    return [transformers.default_data_collator(rows[i : i + size]) for i in range(0, 32, size)]


def train(model: PreTrainedModel, method: Any, budget: hc.Budget, **more: Any) -> Run:
    """Ten steps of a ``PruningTrainer``."""
    rows = datasets.Dataset.from_list(
        [{k: v.tolist() if isinstance(v, Tensor) else v for k, v in example(i).items()}
         for i in range(32)]
    )  # fmt: skip
    if "distillation" in more:
        rows = hc.taught(rows, bert(), transformers.default_data_collator)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=10,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        torch.manual_seed(0)
        trainer = hc.PruningTrainer(
            model=model, method=method, budget=budget, args=arguments, train_dataset=rows, **more
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    decision = trainer.session.decision()
    trainer.session.close()
    return hc.cut(model, decision), decision, losses


def decide(model: PreTrainedModel, method: Any, budget: hc.Budget, size: int = 0) -> Run:
    """A decision without training."""
    decision = hc.decide(model, method, budget, **({"batches": batches(size)} if size else {}))
    return hc.cut(model, decision), decision, []


def after(model: PreTrainedModel, budget: hc.Budget) -> Run:
    """Post-training pruning."""
    return *hc.prune_post_training(model, hc.Fisher(), budget, batches()), []


RELAXED = hc.DSP(estimator=hc.RelaxedTopK(), training="pipelined")
STRAIGHT = hc.DSP(estimator=hc.StraightThrough(), shrinking=None)
L0 = hc.HardConcrete(pressure=hc.L0Penalty())
SEVERAL = ("head", "neuron", "sublayer", "layer")
KNOWN = hc.Distillation()

RUNS: dict[str, Callable[[], Run]] = {
    "dsp, heads": lambda: train(bert(), hc.DSP(), hc.Budget(heads=5)),
    "relaxed, pipelined, cross": lambda: train(bart(), RELAXED, hc.Budget(heads=4, place="cross")),
    "dsp, kv heads": lambda: train(llama(), hc.DSP(), hc.Budget(kv_heads=7, neurons=0.5)),
    "straight, layers": lambda: train(llama(), STRAIGHT, hc.Budget(heads=4, scope="layer")),
    "hard concrete, places": lambda: train(
        bert(), hc.HardConcrete(), hc.Budget(sublayers={"self": 2, "ffn": 1})
    ),
    "hard concrete, params": lambda: train(bert(), L0, hc.Budget(params=0.8)),
    "layer drop": lambda: train(bert(), hc.LayerDrop(), hc.Budget(layers=2)),
    "dsp, macs": lambda: train(
        llama(), hc.DSP(), hc.Budget(macs=0.5, kinds=("kv_head", "neuron"), length=16)
    ),
    "dsp, distilled": lambda: train(
        bert(), hc.DSP(), hc.Budget(neurons=40, min_per_layer=5), distillation=KNOWN
    ),
    "gradient": lambda: decide(bart(), hc.GradientImportance(), hc.Budget(heads=11, neurons=31), 8),
    "gradient, experts": lambda: decide(
        mixtral(), hc.GradientImportance(), hc.Budget(neurons=30), 1
    ),
    "fisher, counts": lambda: after(bert(), hc.Budget(heads=6, neurons=50)),
    "fisher, macs": lambda: after(llama(), hc.Budget(macs=0.5)),
    "magnitude, experts": lambda: decide(mixtral(), hc.Magnitude(), hc.Budget(heads=6, neurons=30)),
    "magnitude, params": lambda: decide(
        bart(), hc.Magnitude(), hc.Budget(params=0.7, kinds=SEVERAL)
    ),
    "random, kv heads": lambda: decide(
        llama(), hc.Random(seed=3), hc.Budget(kv_heads=6, neurons=20)
    ),
    "random, sublayers": lambda: decide(bart(), hc.Random(seed=3), hc.Budget(sublayers=6)),
}


def digest(*values: object) -> str:
    """A short hash of plain values or bytes."""
    found = hashlib.sha256()
    for value in values:
        found.update(value if isinstance(value, bytes) else repr(value).encode())
    return found.hexdigest()[:16]


def main() -> None:
    """Print a line for each run."""
    logging.disable(logging.WARNING)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name, run in RUNS.items():
        torch.manual_seed(0)
        small, decision, losses = run()
        tensors = [(n, x.contiguous().numpy().tobytes()) for n, x in small.state_dict().items()]
        hashes = {
            "keep": digest([(*site.key, site.keep) for site in decision.sites]),
            "scores": digest([site.scores for site in decision.sites]),
            "losses": digest(losses),
            "weights": digest(sorted(tensors)),
        }
        kept = f"{decision.num_kept} of {decision.num_units}"
        print(f"{name}: {kept}", *(f"{what} {found}" for what, found in hashes.items()), flush=True)


if __name__ == "__main__":
    main()
