"""Tasks with a known answer: models of which some heads, and no others, carry the label.

A classifier of two layers with six heads each, whose weights are set by hand. Every example is a
row of words; its label is told by three bits, which all its words share. The first token has no
word: what it knows at the end of the label, heads have brought there. A bit's head reads one bit
of the words and writes it into a place of its own, where one unit of the pooler reads it.

The other heads are noise. Their weights are as large as those of the bits' heads, but random:
little of what they write is where the pooler reads a bit.

*Essential*: one head for each bit. *Duplicated*: two exact copies for each bit, anywhere in the
model. One copy drives its unit of the pooler to the flat end of its tanh already, so the second one
adds next to nothing; without both, the bit is lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

import headcount as hc
from headcount.gates.attach import Gates
from headcount.methods.method import Method

NUM_LAYERS, NUM_HEADS, WIDTH, NUM_BITS = 2, 6, 8, 3
NUM_UNITS, NUM_LABELS = NUM_LAYERS * NUM_HEADS, 2**NUM_BITS
SYNONYMS, FIRST_WORD, NUM_WORDS = 4, 5, 5
HIDDEN = NUM_HEADS * WIDTH
WRITTEN, FREE = 2 * NUM_BITS, 4 * NUM_BITS
"""Hidden dimensions: the words' bits, two for each; what heads make of them, likewise; the rest."""
NOISE = 0.1
"""Share of a noise head's weights where the pooler reads bits, and of all else that is random."""
GAIN = {1: 1.0, 2: 3.0}
"""How strongly the pooler reads a bit, by the number of copies."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A task, and its answer."""

    model: BertForSequenceClassification
    """Without dropout, its weights frozen."""
    carriers: tuple[tuple[int, ...], ...]
    """For each bit the heads that carry it: one, or two copies."""
    ids: Tensor
    """Words of the examples, [B, T]."""
    labels: Tensor
    """Their labels, [B]."""

    def batches(self, size: int = 32) -> list[dict[str, Tensor]]:
        """All examples once."""
        pairs = zip(self.ids.split(size), self.labels.split(size), strict=True)
        return [{"input_ids": ids, "labels": labels} for ids, labels in pairs]

    def draws(self, steps: int, seed: int, size: int = 32) -> Iterator[dict[str, Tensor]]:
        """Batches for a training loop."""
        generator = Generator().manual_seed(seed)
        for _ in range(steps):
            rows = torch.randint(len(self.ids), (size,), generator=generator)
            yield {"input_ids": self.ids[rows], "labels": self.labels[rows]}

    def found(self, kept: Sequence[int]) -> int:
        """Of how many bits at least one head is kept."""
        return sum(any(unit in kept for unit in units) for units in self.carriers)


def planted(
    seed: int, *, copies: int = 1, layers: Sequence[int] = range(NUM_LAYERS), examples: int = 256
) -> Planted:
    """A model in which ``copies`` heads carry each of the label's bits.

    Args:
        seed: of the places of these heads, the noise and the examples.
        copies: one or two.
        layers: where these heads are; each layer has one at least.
        examples: how many.
    """
    generator = Generator().manual_seed(seed)
    carriers = _places(copies, layers, generator)
    bit_of = {unit: bit for bit, units in enumerate(carriers) for unit in units}
    model = _empty_model()
    with torch.no_grad():
        _write_words(model, generator)
        for unit in range(NUM_UNITS):
            head = _carrier(bit_of[unit]) if unit in bit_of else _noise(generator)
            _write_head(model, unit, *head)
        _write_readers(model, generator, gain=GAIN[copies])
    labels = torch.randint(NUM_LABELS, (examples,), generator=generator)
    which = torch.randint(SYNONYMS, (examples, NUM_WORDS), generator=generator)
    words = FIRST_WORD + SYNONYMS * labels[:, None] + which
    ids = torch.cat([torch.ones_like(words[:, :1]), words], 1)
    return Planted(model=model, carriers=carriers, ids=ids, labels=labels)


def choose(task: Planted, method: Method, *, steps: int, seed: int) -> list[int]:
    """The heads that a method keeps, as many as there are bits, with the weights as they are.

    A method that learns gets ``steps`` steps, which train nothing but what is its own.
    """
    budget = hc.Budget(heads=NUM_BITS)
    if not method.learns:
        decision = hc.decide(task.model, method, budget, task.batches(), seed=seed)
        return _kept(decision, task)
    with hc.attach(task.model, method, budget, num_steps=steps, seed=seed) as session:
        learnt = {"params": list(session.parameters()), **method.optimizer_group}
        optimizer = torch.optim.Adam([learnt])
        task.model.train()
        for batch in task.draws(steps, seed):
            loss = task.model(**batch).loss + session.penalty()
            if loss.requires_grad:  # gates that are settled have nothing more to learn
                loss.backward()
                session.clip_grad()
                optimizer.step()
            session.step()
        task.model.eval()
        return _kept(session.decision(), task)


def values(task: Planted, keeps: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of the model with some of its heads, for many keeps at once.

    Args:
        task: the task; all of its examples count.
        keeps: bool, [M, N].

    Returns:
        Two numbers for each keep, [M] each.
    """
    gates = Gates(task.model, hc.units(task.model, "head"))
    gates.value = keeps.float().repeat_interleave(len(task.ids), 0)
    with torch.no_grad():
        logits = task.model(task.ids.repeat(len(keeps), 1)).logits
    gates.remove()
    labels = task.labels.repeat(len(keeps))
    losses = cross_entropy(logits, labels, reduction="none").view(len(keeps), -1).mean(1)
    hits = (logits.argmax(-1) == labels).double().view(len(keeps), -1).mean(1)
    return losses, hits


def _kept(decision: hc.Decision, task: Planted) -> list[int]:
    return decision.keep(hc.units(task.model, "head")).nonzero().flatten().tolist()


def _places(
    copies: int, layers: Sequence[int], generator: Generator
) -> tuple[tuple[int, ...], ...]:
    """Heads of these layers by lot, until each layer has one."""
    heads = torch.arange(NUM_UNITS).view(NUM_LAYERS, NUM_HEADS)[list(layers)].flatten()
    while True:
        drawn = heads[torch.randperm(len(heads), generator=generator)[: NUM_BITS * copies]]
        if len(set((drawn // NUM_HEADS).tolist())) == len(layers):
            return tuple(tuple(sorted(units)) for units in drawn.view(NUM_BITS, copies).tolist())


def _empty_model() -> BertForSequenceClassification:
    """All weights zero but those of the layer norms: heads look at all tokens alike."""
    config = BertConfig(
        vocab_size=FIRST_WORD + SYNONYMS * NUM_LABELS,
        hidden_size=HIDDEN,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        intermediate_size=8,
        max_position_embeddings=NUM_WORDS + 1,
        num_labels=NUM_LABELS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForSequenceClassification(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "LayerNorm" not in name:
            parameter.zero_()
    return model


def _write_words(model: BertForSequenceClassification, generator: Generator) -> None:
    """Words have the bits of their label, each as (v, -v), which no mean changes, and noise."""
    table = model.bert.embeddings.word_embeddings.weight
    table[:, FREE:].normal_(generator=generator)
    for label in range(NUM_LABELS):
        words = slice(FIRST_WORD + SYNONYMS * label, FIRST_WORD + SYNONYMS * (label + 1))
        for bit in range(NUM_BITS):
            table[words, 2 * bit], table[words, 2 * bit + 1] = _sign(label, bit), -_sign(label, bit)


def _sign(label: int, bit: int) -> float:
    return 1.0 if label >> bit & 1 else -1.0


def _write_head(
    model: BertForSequenceClassification, unit: int, value: Tensor, output: Tensor
) -> None:
    attention = model.bert.encoder.layer[unit // NUM_HEADS].attention
    first = unit % NUM_HEADS * WIDTH
    attention.self.value.weight[first : first + WIDTH] = value
    attention.output.dense.weight[:, first : first + WIDTH] = output


def _carrier(bit: int) -> tuple[Tensor, Tensor]:
    """Reads a bit into the head's first dimension, and writes it to the bit's own place."""
    value, output = torch.zeros(WIDTH, HIDDEN), torch.zeros(HIDDEN, WIDTH)
    value[0, 2 * bit], value[0, 2 * bit + 1] = 0.5, -0.5
    output[WRITTEN + 2 * bit, 0], output[WRITTEN + 2 * bit + 1, 0] = 1.0, -1.0
    return value, output


def _noise(generator: Generator) -> tuple[Tensor, Tensor]:
    """Reads anything but the bits, and writes it anywhere, with the norms of a carrier."""
    value = torch.randn(WIDTH, HIDDEN, generator=generator)
    output = torch.randn(HIDDEN, WIDTH, generator=generator)
    value[:, :WRITTEN], output[:WRITTEN] = 0, 0
    output[WRITTEN:FREE] *= NOISE
    like_value, like_output = (weight.norm() for weight in _carrier(0))
    return value * (like_value / value.norm()), output * (like_output / output.norm())


def _write_readers(
    model: BertForSequenceClassification, generator: Generator, *, gain: float
) -> None:
    """The pooler reads each bit with one unit and noise with the others; the classifier both."""
    pooler, classifier = model.bert.pooler.dense.weight, model.classifier.weight
    pooler[NUM_BITS:, FREE:].normal_(generator=generator).mul_(NOISE)
    classifier[:, NUM_BITS:].normal_(generator=generator).mul_(NOISE)
    for bit in range(NUM_BITS):
        place = WRITTEN + 2 * bit
        pooler[bit, place], pooler[bit, place + 1] = gain, -gain
        classifier[:, bit] = torch.tensor([_sign(label, bit) for label in range(NUM_LABELS)])
