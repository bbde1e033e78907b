"""Prune in a training loop of your own: attach, train, decide, cut.

    python examples/own_loop.py

A small BERT with random weights learns which of three words an input begins with. Everything is
made here; nothing is downloaded.
"""

import torch
import transformers
from torch import Tensor

import headcount as hc

NUM_STEPS, BATCH_SIZE, NUM_KEEP = 150, 32, 4


def batch(generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens; the second one, after the one for [CLS], tells the label."""
    ids = torch.randint(5, 40, (BATCH_SIZE, 10), generator=generator)
    labels = torch.randint(3, (BATCH_SIZE,), generator=generator)
    ids[:, 0], ids[:, 1] = 2, 5 + labels
    return {"input_ids": ids, "labels": labels}


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        num_labels=3,
    )
    model = transformers.BertForSequenceClassification(config)
    method, budget = hc.DSP(), hc.Budget(heads=NUM_KEEP)

    with hc.attach(model, method, budget, num_steps=NUM_STEPS) as session:
        optimizer = torch.optim.AdamW(
            [
                {"params": model.parameters(), "lr": 2e-3},
                # The method's logits: a learning rate of their own, and no weight decay.
                {"params": session.parameters(), **method.optimizer_group, "weight_decay": 0.0},
            ]
        )
        model.train()  # draws new gates at each forward pass
        for step in range(NUM_STEPS):
            loss = model(**batch(generator)).loss + session.penalty()
            loss.backward()
            session.clip_grad()  # the logits' gradient, apart from that of the weights
            optimizer.step()
            optimizer.zero_grad()
            session.step()  # moves the temperature on
            if step % 50 == 0:
                print(f"step {step}: loss {loss.item():.3f}", session.metrics())
        model.eval()  # hard gates, no noise
        test = batch(generator)
        gated = model(**test)
        decision = session.decision()

    small = hc.cut(model, decision).eval()
    logits = small(**test).logits
    assert hc.units(small).num("head") == decision.num_kept == NUM_KEEP
    torch.testing.assert_close(logits, gated.logits)
    accuracy = (logits.argmax(-1) == test["labels"]).float().mean().item()
    assert accuracy > 0.9
    print(f"kept per layer: {decision.kept_per_layer}; accuracy of the cut model {accuracy:.2f}")


if __name__ == "__main__":
    main()
