"""Run a model under a decision, without cutting it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GenerationConfig

from headcount.architectures.alignment import realigned
from headcount.architectures.discover import units as find_units
from headcount.door.arguments import checks_arguments
from headcount.gates.attach import Gates, gate_dtype
from headcount.units.decision import Decision


@checks_arguments
@contextmanager
def masked(
    model: nn.Module, decision: Decision, scales: Float[Tensor, " n"] | None = None
) -> Iterator[nn.Module]:
    """Multiply the removed units by zero inside a block; computes what the cut model computes.

    Args:
        model: the model the decision is about. It is as before when the block ends.
        decision: which units stay.
        scales: a factor for each unit that the decision is about; those of removed units are not
            used. None: ones. With scales, the block computes what the cut model computes after
            ``fold``.

    Yields:
        The same model.

    Raises:
        DecisionError: the decision is about another model.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=3))
        >>> with hc.masked(model, decision):
        ...     output = model(torch.tensor([[1, 2, 3]]))
    """
    every = find_units(model)
    units = decision.check(every)
    keep = decision.keep(units)
    value = keep if scales is None else keep * scales.to(keep.device)
    kept = {site.key: torch.tensor(site.kept, dtype=torch.long) for site in decision.sites}
    # Whisper must not date words by masked heads either; heads keep their numbers here.
    generation = realigned(model, every.sites, kept, renumber=False)
    gates = Gates(model, units)
    device = next(model.parameters()).device
    gates.value = value.to(device=device, dtype=gate_dtype(model))
    try:
        with _generating(model, generation):
            yield model
    finally:
        gates.remove()


@contextmanager
def _generating(model: nn.Module, configs: dict[str, GenerationConfig]) -> Iterator[None]:
    """Set generation configurations inside the block: module name -> configuration."""
    modules = {name: model.get_submodule(name) for name in configs}
    before = {name: module.generation_config for name, module in modules.items()}
    for name, module in modules.items():
        setattr(module, "generation_config", configs[name])
    try:
        yield
    finally:
        for name, module in modules.items():
            setattr(module, "generation_config", before[name])
