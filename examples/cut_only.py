"""Choose without training, cut, save and reload: the parts one by one.

    python examples/cut_only.py

A small BERT with random weights stands for a model of yours; nothing is downloaded.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers

import headcount as hc


def main() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=96,
    )
    model = transformers.BertModel(config).eval()
    inputs = {"input_ids": torch.randint(100, (4, 12))}

    # What could go, and what each head costs.
    table = hc.units(model, "head")
    assert table.num("head") == 18
    print(f"{table.num('head')} heads of {table.sites[0].cost.params} parameters each")

    # A third of the heads, at least one in each layer; the largest weights win.
    budget = hc.Budget(heads=1 / 3, min_per_layer=1)
    decision = hc.decide(model, hc.Magnitude(), budget)
    assert decision.num_kept == 6
    assert min(decision.kept_per_layer) >= 1
    print("kept per layer:", decision.kept_per_layer)

    # The masked model and the cut one compute the same; only the cut one is smaller.
    with hc.masked(model, decision):
        masked = model(**inputs).last_hidden_state
    small = hc.cut(model, decision)
    torch.testing.assert_close(small(**inputs).last_hidden_state, masked)
    assert hc.units(small).num("head") == 6
    assert hc.units(model).num("head") == 18  # cut works on a copy

    # Saved and loaded through transformers' own calls: the same bits, and the decision beside them.
    with TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        again = transformers.AutoModel.from_pretrained(folder)
        written = sorted(path.name for path in Path(folder).iterdir())
        assert hc.Decision.load(Path(folder) / "decision.json") == decision
    assert torch.equal(again(**inputs).last_hidden_state, small(**inputs).last_hidden_state)
    print("saved:", ", ".join(written))


if __name__ == "__main__":
    main()
