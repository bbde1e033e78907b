"""A pruning method of your own: keep the heads that attend least to the first token.

    python examples/own_method.py

Many heads rest: they look at the first token and add little. The method reads attention maps, so it
needs data but no labels, and nothing is trained. Model and data are made here.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import transformers

import headcount as hc


class Seen(hc.State):
    """The sum of what was seen, and how many examples: buffers, so that checkpoints hold them."""

    def __init__(self, quota):
        super().__init__(quota)
        self.register_buffer("resting", torch.zeros(len(quota.units)))
        self.register_buffer("count", torch.zeros(()))


@dataclass(frozen=True, kw_only=True)
class LeastResting(hc.Method[Seen]):
    """Score of a head: minus the mean attention that it pays to the first token."""

    phase: ClassVar[str] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"attention_maps"})

    skip: int = 1
    """Queries at the beginning that do not count: the first can see nothing else in some models."""

    @property
    def name(self):
        return "least-resting"

    def init(self, quota, generator):
        return Seen(quota)

    def gates(self, state, step, generator):
        return torch.ones(len(state.units))  # all heads are on while data are looked at

    def observe(self, state, evidence):
        maps = evidence.attention_maps[:, self.skip :, 0]  # [B, Q, N]
        state.resting += maps.mean(1).sum(0)
        state.count += len(maps)

    def scores(self, state):
        return -state.resting / state.count.clamp(min=1)


def main() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
    )
    model = transformers.BertModel(config).eval()
    batches = [{"input_ids": torch.randint(5, 40, (8, 12))} for _ in range(4)]
    decision = hc.decide(model, LeastResting(), hc.Budget(heads=5, min_per_layer=1), batches)
    small = hc.cut(model, decision)
    assert hc.units(small).num("head") == decision.num_kept == 5
    print(f"kept per layer: {decision.kept_per_layer}")
    print(f"the method's settings are in the decision: {decision.provenance['method']}")


if __name__ == "__main__":
    main()
