"""Values in a form for readers: short numbers, budgets and machines in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from headcount.units.decision import Decision
from headcount.units.kinds import ALL, Kind, counted, in_words


def short(number: float, unit: str = "") -> str:
    """A number with four digits and a decimal prefix.

    Args:
        number: 0 or more.
        unit: the unit, for instance ``B`` for bytes.

    Example:
        >>> short(109_482_240), short(437_951_000, "B"), short(512)
        ('109.5 M', '438 MB', '512')
    """
    value, prefixes = float(number), iter(("k", "M", "G", "T", "P"))
    prefix = ""
    while float(f"{value:.4g}") >= 1000:
        value, prefix = value / 1000, next(prefixes)
    return f"{value:.4g} {prefix}{unit}".rstrip()


def duration(seconds: float) -> str:
    """A time with four digits; from two minutes on, in minutes and hours.

    Args:
        seconds: 0 or more.

    Example:
        >>> duration(0.012345), duration(2.5), duration(150), duration(7384)
        ('12.35 ms', '2.5 s', '2 min 30 s', '2 h 3 min')
    """
    if seconds < 120:
        value, unit = next(
            (seconds * scale, unit)
            for scale, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"))
            if seconds * scale >= 1 or unit == "µs"
        )
        return f"{value:.4g} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def per_layer(counts: Sequence[int]) -> str:
    """The units of each layer in words: one number if all layers are equal, else the list.

    Args:
        counts: one number for each layer, [L].

    Example:
        >>> per_layer([12, 12, 12]), per_layer([3, 0, 9])
        ('12 in each of 3 layers', '3 0 9')
    """
    if len(counts) > 1 and len(set(counts)) == 1:
        return f"{counts[0]} in each of {len(counts)} layers"
    return " ".join(str(count) for count in counts)


def kept_words(decision: Decision) -> str:
    """The number of units of each kind that stay, in words.

    Example:
        >>> from headcount.units.decision import SiteDecision
        >>> site = SiteDecision(module="layer.0", kind="head", layer=0, stack="encoder",
        ...                     keep=(True, False), scores=(2.0, 1.0))
        >>> kept_words(Decision(sites=(site,)))
        '1 of 2 heads'
    """
    totals: dict[str, int] = {}
    for site in decision.sites:
        totals[site.kind] = totals.get(site.kind, 0) + len(site.keep)
    parts = (f"{decision.num(kind)} of {counted(total, kind)}" for kind, total in totals.items())
    return ", ".join(parts)


def budget_words(budget: Mapping[str, Any]) -> str:
    """A budget in words.

    Args:
        budget: the fields of a ``Budget``, as in a decision's provenance and in a report.

    Example:
        >>> budget_words({"heads": 12, "scope": "global", "min_per_layer": 1})
        '12 heads, at least 1 in every layer'
        >>> budget_words({"heads": 0.25, "scope": "layer", "min_per_layer": 0})
        '25% of the heads in every layer'
        >>> budget_words({"params": 0.6, "kinds": ["neuron"]}), budget_words({"macs": 1000})
        ('at most 60% of the parameters, neurons may go', 'at most 1000 MACs')
        >>> budget_words({"heads": {"cross": 1, "encoder": 4}, "neurons": 0.5})
        '1 head at cross, 4 heads at encoder, 50% of the neurons'
    """
    parts = [
        _amount(amount, kind, place)
        for kind in ALL
        for place, amount in _places(budget.get(kind.plural))
    ]
    parts += [_ceiling(name, budget) for name in NOUNS if budget.get(name) is not None]
    if not parts:
        return ", ".join(f"{key}={value}" for key, value in budget.items())
    where = " in every layer" if budget.get("scope") == "layer" else ""
    place = budget.get("place") or budget.get("where")  # reports of 0.2.0.dev0 say where
    where += f" at {place}" if place else ""
    floor = budget.get("min_per_layer")
    return ", ".join(parts) + where + (f", at least {floor} in every layer" if floor else "")


NOUNS = {"params": "parameters", "macs": "MACs", "latency": "latency"}


def _ceiling(name: str, budget: Mapping[str, Any]) -> str:
    amount, noun = budget[name], NOUNS[name]
    most = f"{100 * amount:.4g}% of the {noun}" if isinstance(amount, float) else f"{amount} {noun}"
    kinds = in_words(budget.get("kinds") or ())
    return f"at most {most}" + (f", {kinds} may go" if kinds else "")


def cost_words(cost: Mapping[str, Any]) -> str:
    """The cost that was reached under a budget of a cost, in words.

    Args:
        cost: the entry ``cost`` of a decision's provenance.

    Example:
        >>> cost_words({"kind": "macs", "asked": 0.5, "target": 500, "reached": 450, "whole": 1000})
        'MACs: 450 of 1 k (45%), at most 500 asked'
    """
    reached, target, whole = (cost[name] for name in ("reached", "target", "whole"))
    share = f"{100 * reached / whole:.4g}%"
    if cost["kind"] == "latency":
        return (
            f"latency: {duration(reached / 1e9)} of {duration(whole / 1e9)} ({share}) predicted, "
            f"at most {duration(target / 1e9)} asked"
        )
    noun = NOUNS[cost["kind"]]
    return f"{noun}: {short(reached)} of {short(whole)} ({share}), at most {short(target)} asked"


TOLERANCE = 0.02
"""A latency that was measured at most so far above the asked one counts as met: two measurements
of the same models differ as much."""


def latency_words(cost: Mapping[str, Any]) -> str:
    """What latency was asked, predicted and measured, as shares of the dense model's.

    Args:
        cost: ``Report.cost`` under a budget of latency.

    Example:
        >>> cost = {"kind": "latency", "asked": 0.5, "reached": 49, "whole": 100, "measured": 0.561}
        >>> latency_words(cost)
        'Latency asked: at most 50%; predicted 49.0%, measured 56.1%: the budget is MISSED.'
    """
    text = f"Latency asked: at most {100 * cost['asked']:.4g}%; "
    text += f"predicted {cost['reached'] / cost['whole']:.1%}"
    measured = cost.get("measured")
    if measured is None:
        return f"{text}."
    missed = ": the budget is MISSED" if measured > cost["asked"] + TOLERANCE else ""
    return f"{text}, measured {measured:.1%}{missed}."


def _places(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return [] if value is None else [("", value)]


def _amount(amount: float, kind: Kind, place: str) -> str:
    at = f" at {place}" if place else ""
    if isinstance(amount, float):
        return f"{100 * amount:.4g}% of the {kind.nouns}{at}"
    return f"{counted(amount, kind.name)}{at}"


def machine_words(environment: Mapping[str, Any], device: str | None) -> str:
    """The machine that timed the models, in words.

    Args:
        environment: the result of ``measure.environment``.
        device: ``cpu``, ``cuda`` ...; None if it is not known: then processor and GPU are named.

    Example:
        >>> machine_words({"processor": "EPYC", "num_threads": 2, "gpu": None}, "cpu")
        'EPYC (2 threads)'
    """
    processor, gpu = environment.get("processor"), environment.get("gpu")
    threads = environment.get("num_threads")
    if processor and threads:
        processor = f"{processor} ({threads} thread{'s' if threads != 1 else ''})"
    kind = device.partition(":")[0] if device else None
    named = {"cpu": [processor], "cuda": [gpu], None: [processor, gpu]}.get(kind, [device])
    return ", ".join(str(part) for part in named if part)


def metric_words(metric: str, *, greater_is_better: bool) -> str:
    """The name of a measure of quality, which says if less of it is better.

    Example:
        >>> metric_words("wer", greater_is_better=False)
        'wer (lower is better)'
    """
    return metric if greater_is_better else f"{metric} (lower is better)"


def one_class(only: Mapping[str, str | None], metric: str, *, all_known: bool = True) -> list[str]:
    """A warning about models that predict the same label for every example; [] if there are none.

    Args:
        only: name of each model -> that label; None for models that predict several.
        metric: name of the quality measure.
        all_known: whether these are all models that were evaluated.

    Example:
        >>> one_class({"dense": None, "dsp": "neutral"}, "accuracy")
        ['One label for every example: dsp (neutral). Its accuracy is the share of that label.']
        >>> one_class({"dense": None, "dsp": None}, "accuracy")
        []
    """
    found = {name: label for name, label in only.items() if label is not None}
    if not found:
        return []
    named = [f"{name} ({label})" for name, label in found.items()]
    if len(named) > 4:
        named = [*named[:4], f"{len(named) - 4} more"]
    its = "Its" if len(found) == 1 else "Their"
    text = f"One label for every example: {', '.join(named)}. "
    text += f"{its} {metric} is the share of that label."
    if all_known and len(found) == len(only) > 1:
        text += " No model tells examples apart, so nothing is compared: train longer, or with "
        text += "another learning rate."
    return [text]
