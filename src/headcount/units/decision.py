"""Decisions: which units stay and which are removed. Methods make them; surgery applies them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

import torch
from torch import Tensor

from headcount.door.arguments import check_fields, check_value
from headcount.door.atomic import write_text
from headcount.door.files import LARGE, checked, parse_format, read_text
from headcount.door.shape import Count, Finite, Matching, Misfit, Said
from headcount.errors import DecisionError, check_argument
from headcount.units.kinds import KINDS, new_name, renamed_budget
from headcount.units.scores import (
    MOST_IN_TEXT,
    ScoresFile,
    drop_scores,
    read_scores,
    scores_of,
    write_scores,
)
from headcount.units.table import UnitTable

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

FORMAT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteDecision:
    """The decision for one site."""

    module: str
    """Qualified name of the module that has the units."""
    kind: str
    """Kind of the units."""
    layer: int
    """Index of the layer in its stack."""
    stack: str
    """``encoder`` or ``decoder``."""
    keep: tuple[bool, ...]
    """True where the unit stays."""
    scores: tuple[float, ...]
    """Importance of each unit, higher = keep."""
    branch: str = "self"
    """``self`` or ``cross`` (attention), ``ffn``, or ``layer``."""
    tower: str = ""
    """Submodel of a composite model, such as ``text_model``; otherwise empty."""

    def __post_init__(self) -> None:
        check_fields(self, but=("keep", "scores"))
        for name, of in (("keep", bool), ("scores", float | int)):
            values = getattr(self, name)
            check_value("SiteDecision", name, values, tuple[Any, ...])
            for value in [one for one in values if not isinstance(one, of)][:1]:
                check_value("SiteDecision", name, value, of)
        if len(self.keep) != len(self.scores):
            raise DecisionError(
                f"SiteDecision(module={self.module!r}, kind={self.kind!r}): {len(self.keep)} units "
                f"and {len(self.scores)} scores. Give one score for each unit."
            )

    @property
    def key(self) -> tuple[str, str]:
        """The site's key: module and kind."""
        return self.module, self.kind

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices of the units that stay."""
        return tuple(i for i, kept in enumerate(self.keep) if kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Which units stay, with their scores and how they were chosen.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=6))
        >>> decision.num_kept, sum(decision.kept_per_layer)
        (6, 6)
        >>> hc.Decision.from_json(decision.to_json()) == decision
        True
    """

    sites: tuple[SiteDecision, ...]
    """One entry for each site of the model, in the order of the unit table."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Method, budget, seed, steps: plain values that JSON can hold."""

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(
        cls,
        units: UnitTable,
        keep: "Bool[Tensor, ' n']",
        scores: "Float[Tensor, ' n']",
        provenance: Mapping[str, Any],
    ) -> "Decision":
        """Make a decision from vectors over a unit table.

        Raises:
            DecisionError: a score is not finite, or a vector is not as long as the table.
            ArgumentError: ``keep`` or ``scores`` is not a tensor.
        """
        _check_vectors(units, keep, scores)
        kept, score = keep.tolist(), scores.detach().double().cpu().tolist()
        sites = tuple(
            SiteDecision(
                module=site.module,
                kind=site.kind,
                layer=site.layer,
                stack=site.stack,
                keep=tuple(kept[span]),
                scores=tuple(score[span]),
                branch=site.branch,
                tower=site.tower,
            )
            for site, span in zip(units.sites, units.slices, strict=True)
        )
        return cls(sites=sites, provenance=dict(provenance))

    @property
    def num_units(self) -> int:
        """The number of units that the decision is about."""
        return sum(len(site.keep) for site in self.sites)

    @property
    def num_kept(self) -> int:
        """The number of units that stay."""
        return sum(sum(site.keep) for site in self.sites)

    @property
    def kept_per_layer(self) -> tuple[int, ...]:
        """The number of units that stay in each layer, in the order of the sites."""
        counts: dict[tuple[str, str, int], int] = {}
        for site in self.sites:
            place = (site.tower, site.stack, site.layer)
            counts[place] = counts.get(place, 0) + sum(site.keep)
        return tuple(counts.values())

    def num(self, kind: str) -> int:
        """The number of units of one kind that stay, among those that the decision is about.

        Raises:
            DecisionError: there is no such kind.
        """
        if kind not in KINDS:
            raise DecisionError(f"Decision.num({kind!r}): give one of {', '.join(KINDS)}.")
        return sum(sum(site.keep) for site in self.sites if site.kind == kind)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of unit that the decision is about."""
        return tuple(dict.fromkeys(site.kind for site in self.sites))

    def check(self, units: UnitTable) -> UnitTable:
        """Check that the decision fits a model; return its sites of the table, in its order.

        Raises:
            DecisionError: the decision is about another model.
        """
        theirs = {site.key: site for site in units.sites}
        for site in self.sites:
            found = theirs.get(site.key)
            if found is None or found.num_units != len(site.keep):
                has = "no such site" if found is None else f"{found.num_units} units there"
                raise DecisionError(
                    f"Decision: the decision is about another model: it has {len(site.keep)} units "
                    f"of kind {site.kind!r} in {site.module!r}, the model has {has}. Decide again "
                    "on this model."
                )
        return UnitTable(sites=tuple(theirs[site.key] for site in self.sites))

    def keep(self, units: UnitTable) -> "Bool[Tensor, ' n']":
        """The keep as a vector over ``units``; sites outside the decision keep all units.

        Raises:
            DecisionError: the decision is about another model.
        """
        self.check(units)
        mine = {site.key: site.keep for site in self.sites}
        parts = [mine.get(site.key, (True,) * site.num_units) for site in units.sites]
        return torch.tensor([kept for part in parts for kept in part], dtype=torch.bool)

    def to_json(self) -> str:
        """The decision as text, scores included; kept units are listed by index."""
        return self._text(None)

    def _text(self, scores: ScoresFile | None) -> str:
        """The decision as text; with ``scores`` given, that entry replaces the scores."""
        sites = [
            {
                "module": site.module,
                "kind": site.kind,
                "stack": site.stack,
                "layer": site.layer,
                "branch": site.branch,
                "tower": site.tower,
                "num_units": len(site.keep),
                "kept": [i for i, kept in enumerate(site.keep) if kept],
                **({} if scores else {"scores": list(site.scores)}),
            }
            for site in self.sites
        ]
        head = {"format": FORMAT, "num_units": self.num_units, "num_kept": self.num_kept}
        beside = {"scores": scores} if scores else {}
        body = {**head, "provenance": dict(self.provenance), **beside, "sites": sites}
        return json.dumps(body, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Decision":
        """Read the text that ``to_json`` wrote.

        Raises:
            DecisionError: the text is not a decision of this format.
        """
        return cls._read(text, None)

    @classmethod
    def _read(cls, text: str, folder: Path | None) -> "Decision":
        """Read a text whose scores may be in a file of ``folder``."""
        body: _Body = parse_format(
            text,
            _Body,
            version=FORMAT,
            call="Decision.from_json",
            what="a decision",
            error=DecisionError,
            older={2: _renamed, 3: _renamed},
        )
        told = body.get("scores")
        lengths = [entry["num_units"] for entry in body["sites"]]
        scores = None if told is None else read_scores(told, lengths, folder)
        # The counts in the text repeat the sites: a difference shows an edited or damaged file.
        give = "Give what Decision.to_json wrote."
        with checked("Decision.from_json: not a decision", give=give, error=DecisionError):
            sites = tuple(
                _site(entry, f"sites[{i}]", None if scores is None else scores[i])
                for i, entry in enumerate(body["sites"])
            )
            twice = [key for key, num in Counter(site.key for site in sites).items() if num > 1]
            if twice:
                raise Misfit(Said(f"{twice[0]} twice"), "each site once", place="sites")
            decision = cls(sites=sites, provenance=body["provenance"])
            for name in ("num_units", "num_kept"):
                if body[name] != getattr(decision, name):
                    wanted = f"the {getattr(decision, name)} of the sites together"
                    raise Misfit(body[name], wanted, place=name)
        return decision

    def save(self, path: str | Path) -> None:
        """Write the decision to a file, whole or not at all.

        The scores of more than 4,096 units go into a second file beside it, named like the first
        with ``.scores`` at the end. The first file names the second. Keep the two together.

        Raises:
            DecisionError: a score is not finite.
            OSError: a file cannot be written.
        """
        path = Path(path)
        refuse_not_finite(
            "Decision.save",
            (site.key for site in self.sites),
            (torch.tensor(site.scores, dtype=torch.float64) for site in self.sites),
        )
        # New scores, then the JSON, then the old scores go: killed anywhere, one pair is whole.
        before = scores_of(path)
        beside = self.num_units > MOST_IN_TEXT and (path.is_file() or not path.exists())
        everything = (score for site in self.sites for score in site.scores)
        told = write_scores(everything, path) if beside else None
        write_text(path, self._text(told) + "\n")
        if before is not None and before != told:
            drop_scores(before, path.parent)

    @classmethod
    def load(cls, path: str | Path) -> "Decision":
        """Read a decision from a file.

        Raises:
            DecisionError: the file is missing or not a decision; or the file of its scores is
                missing, damaged, or belongs to another decision.
        """
        check_value("Decision.load", "path", path, str | Path)
        give = "Give a file that Decision.save wrote."
        with checked(f"Decision.load({str(path)!r})", give=give, error=DecisionError):
            return cls._read(read_text(path, limit=LARGE), Path(path).parent)


def _check_vectors(units: UnitTable, keep: Tensor, scores: Tensor) -> None:
    for name, vector in (("keep", keep), ("scores", scores)):
        check_argument("Decision.of", name, vector, Tensor, "a vector over the units")
        if vector.shape != (len(units),):
            raise DecisionError(
                f"Decision.of({name}={list(vector.shape)}): the table has {len(units)} units. Give "
                "one value for each."
            )
    if keep.dtype != torch.bool:
        raise DecisionError(f"Decision.of(keep={keep.dtype}): give bools, True where a unit stays.")
    refuse_not_finite(
        "Decision.of",
        (site.key for site in units.sites),
        (scores[span].detach().cpu() for span in units.slices),
    )


def refuse_not_finite(call: str, keys: Iterable[tuple[str, str]], scores: Iterable[Tensor]) -> None:
    """Refuse scores that are not finite: a choice by them would mean nothing.

    Args:
        call: name of the call, for the message.
        keys: (module, kind) of each site.
        scores: the scores of each site.

    Raises:
        DecisionError: a score is not finite.
    """
    for (module, kind), values in zip(keys, scores, strict=True):
        wrong = (~values.isfinite()).nonzero().flatten().tolist()
        if wrong:
            raise DecisionError(
                f"{call}: the scores of units {wrong[:8]} of kind {kind!r} in {module!r} are not "
                "finite. Look for a loss or a gradient that is not finite, such as that of a batch "
                "whose labels are all -100."
            )


class _Entry(TypedDict):
    """A site in the JSON."""

    module: str
    kind: Annotated[str, Matching("|".join(KINDS), "a kind of unit")]
    layer: Count
    stack: str
    branch: str
    tower: str
    num_units: Count
    kept: list[Count]
    scores: NotRequired[list[Finite]]


class _Body(TypedDict):
    """A decision in the JSON."""

    num_units: Count
    num_kept: Count
    provenance: dict[str, Any]
    scores: NotRequired[ScoresFile]
    sites: list[_Entry]


def _renamed(body: dict[str, Any]) -> dict[str, Any]:
    """Give kinds, branches and budgets in a decision of format 2 or 3 their present names."""
    sites, provenance = body.get("sites"), body.get("provenance")
    for entry in sites if isinstance(sites, list) else ():
        if isinstance(entry, dict) and {"kind", "where"} <= entry.keys():
            entry["kind"], entry["branch"] = new_name(entry["kind"]), entry.pop("where")
    if isinstance(provenance, dict) and "budget" in provenance:
        provenance["budget"] = renamed_budget(provenance["budget"])
    return body


def _site(entry: _Entry, place: str, beside: list[float] | None) -> SiteDecision:
    total, kept = entry["num_units"], entry["kept"]
    if ("scores" in entry) == (beside is not None):
        where = "its scores in a file alone" if beside is not None else "the key 'scores'"
        raise Misfit(Said(f"the keys {sorted(entry)}"), f"a mapping with {where}", place=place)
    scores = beside if beside is not None else entry.get("scores", [])
    # Checked before a tuple of that size is made: a broken file may claim any number of units.
    if total != len(scores):
        raise Misfit(total, f"the {len(scores)} of its scores", place=f"{place}.num_units")
    if not all(a < b for a, b in pairwise(kept)) or kept[-1:] >= [total]:
        wanted = f"a list of rising numbers below {total}"
        raise Misfit(kept, wanted, place=f"{place}.kept")
    stays = set(kept)
    return SiteDecision(
        module=entry["module"],
        kind=entry["kind"],
        layer=entry["layer"],
        stack=entry["stack"],
        branch=entry["branch"],
        tower=entry["tower"],
        keep=tuple(i in stays for i in range(total)),
        scores=tuple(float(score) for score in scores),
    )
