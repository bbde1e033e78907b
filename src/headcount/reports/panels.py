"""Group the sites of a decision as readers know them: by kind, and by part of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from headcount.units.decision import Decision, SiteDecision
from headcount.units.kinds import KIND


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One group of sites, with a site for each layer."""

    heading: str
    """Name of the group; empty if it is the only one."""
    kind: str
    """Kind of the units."""
    labels: tuple[str, ...]
    """The layer of each site."""
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
    """Group the sites of a decision by kind, stack and module name without the numbers in it.

    Sublayers are grouped by their part of the layer, such as ``self`` or ``ffn``.

    Args:
        decision: any decision.

    Returns:
        The panels, in the order in which their first sites appear.

    Example:
        >>> sites = tuple(
        ...     SiteDecision(module=f"decoder.layers.{layer}.{name}", kind="head", layer=layer,
        ...                  stack="decoder", keep=(True,), scores=(0.0,))
        ...     for layer in range(2) for name in ("self_attn", "encoder_attn")
        ... )
        >>> [(panel.heading, panel.labels) for panel in panels(Decision(sites=sites))]
        [('decoder self_attn', ('0', '1')), ('decoder encoder_attn', ('0', '1'))]
    """
    several = len(decision.kinds) > 1
    found: list[Panel] = []
    for kind in decision.kinds:
        groups: dict[tuple[str, tuple[str, ...]], list[SiteDecision]] = {}
        for site in decision.sites:
            if site.kind == kind:
                groups.setdefault((site.stack, _words(site)), []).append(site)
        for (stack, words), sites in groups.items():
            place = "" if len(groups) == 1 else _heading(stack, words, list(groups))
            noun = KIND[kind].nouns if several else ""
            heading = ", ".join(part for part in (noun, place) if part)
            panel = Panel(heading=heading, kind=kind, labels=_labels(sites), sites=tuple(sites))
            found.append(panel)
    return tuple(found)


def _words(site: SiteDecision) -> tuple[str, ...]:
    """What the sites of one panel have in common."""
    if site.kind == "sublayer":
        return (site.branch,)
    # decoder.layers.0.self_attn and decoder.layers.1.self_attn have the same words.
    return tuple(part for part in site.module.split(".") if not part.isdecimal())


def _heading(
    stack: str, words: tuple[str, ...], groups: Sequence[tuple[str, tuple[str, ...]]]
) -> str:
    """The stack, and the part of the module's name that differs within the stack.

    ``layers.self_attn.x`` and ``layers.encoder_attn.x`` give ``decoder self_attn`` and so on.
    """
    names = [name for its_stack, name in groups if its_stack == stack]
    if len(names) == 1:
        return stack
    start = _num_common(names)
    end = _num_common([name[start:][::-1] for name in names])
    return f"{stack} {'.'.join(words[start : len(words) - end])}".rstrip()


def _num_common(names: Sequence[tuple[str, ...]]) -> int:
    """The number of words that all names share at their beginning."""
    shortest = min(len(name) for name in names)
    different = (i for i in range(shortest) if len({name[i] for name in names}) > 1)
    return next(different, shortest)


def _labels(sites: Sequence[SiteDecision]) -> tuple[str, ...]:
    """The layer of each site; if layers repeat, all numbers of the module's name (``2.1``)."""
    layers = tuple(str(site.layer) for site in sites)
    if len(set(layers)) == len(layers):
        return layers
    numbers = ([part for part in site.module.split(".") if part.isdecimal()] for site in sites)
    return tuple(".".join(parts) for parts in numbers)
