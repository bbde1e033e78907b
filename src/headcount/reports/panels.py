"""The sites of a decision in groups that people tell apart: encoder, decoder, cross-attention."""

from collections.abc import Sequence
from dataclasses import dataclass

from headcount.units.decision import Decision, SiteDecision


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """The sites of one sort, one for each layer."""

    heading: str
    """What distinguishes the panel from the others; empty if it is the only one."""
    labels: tuple[str, ...]
    """Layer of each site."""
    sites: tuple[SiteDecision, ...]
    """The sites, in the order of the decision."""

    @property
    def num_units(self) -> int:
        """Units decided upon."""
        return sum(len(site.keep) for site in self.sites)

    @property
    def num_kept(self) -> int:
        """Units that stay."""
        return sum(sum(site.keep) for site in self.sites)


def panels(decision: Decision) -> tuple[Panel, ...]:
    """A decision's sites, those alike together.

    Sites are alike if their stacks and their module names agree, numbers in the names apart.

    Args:
        decision: any decision.

    Returns:
        The panels in order of first appearance.

    Example:
        >>> sites = tuple(
        ...     SiteDecision(module=f"decoder.layers.{layer}.{name}", kind="head", layer=layer,
        ...                  stack="decoder", keep=(True,), scores=(0.0,))
        ...     for layer in range(2) for name in ("self_attn", "encoder_attn")
        ... )
        >>> [(panel.heading, panel.labels) for panel in panels(Decision(sites=sites))]
        [('decoder self_attn', ('0', '1')), ('decoder encoder_attn', ('0', '1'))]
    """
    groups: dict[tuple[str, tuple[str, ...]], list[SiteDecision]] = {}
    for site in decision.sites:
        words = tuple(part for part in site.module.split(".") if not part.isdecimal())
        groups.setdefault((site.stack, words), []).append(site)
    return tuple(
        Panel(
            heading="" if len(groups) == 1 else _heading(stack, words, list(groups)),
            labels=_labels(sites),
            sites=tuple(sites),
        )
        for (stack, words), sites in groups.items()
    )


def _heading(
    stack: str, words: tuple[str, ...], groups: Sequence[tuple[str, tuple[str, ...]]]
) -> str:
    """The stack, and the middle of the module's name where the stack's other modules differ."""
    names = [name for its_stack, name in groups if its_stack == stack]
    if len(names) == 1:
        return stack
    start = _num_common(names)
    end = _num_common([name[start:][::-1] for name in names])
    return f"{stack} {'.'.join(words[start : len(words) - end])}".rstrip()


def _num_common(names: Sequence[tuple[str, ...]]) -> int:
    """How many words all names have in common at the start."""
    shortest = min(len(name) for name in names)
    different = (i for i in range(shortest) if len({name[i] for name in names}) > 1)
    return next(different, shortest)


def _labels(sites: Sequence[SiteDecision]) -> tuple[str, ...]:
    """The layers; all numbers of the module's name where the layer alone is ambiguous."""
    layers = tuple(str(site.layer) for site in sites)
    if len(set(layers)) == len(layers):
        return layers
    numbers = ([part for part in site.module.split(".") if part.isdecimal()] for site in sites)
    return tuple(".".join(parts) for parts in numbers)
