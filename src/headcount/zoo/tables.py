"""What is known about model types, as JSON and as Markdown."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from headcount.zoo.tiny import model_types

State = Literal["ok", "fails", "none", "unchecked"]

CHECKS: dict[str, str] = {
    "built": "a tiny model is built from its configuration",
    "forward": "its forward pass gives finite numbers",
    "units": "units are found",
    "heads": "masked = cut, uneven heads",
    "heads_empty": "masked = cut, uneven heads, one attention without any",
    "groups": "masked = cut, uneven key-value groups",
    "groups_empty": "masked = cut, uneven key-value groups, one attention without any",
    "rows": "masked = cut, feed-forward rows, with and without an empty network",
    "modules": "masked = cut, whole attention or feed-forward modules",
    "layers": "masked = cut, whole layers",
    "mixture": "masked = cut, all kinds at once, four ways, empty sites included",
    "generate": "masked and cut generate the same tokens, greedily",
    "beams": "masked and cut generate the same tokens with four beams",
    "reload": "saved and reloaded bit for bit, uneven heads",
    "reload_mixture": "saved and reloaded bit for bit, all kinds at once",
    "onnx": "the cut model exported to ONNX agrees with PyTorch",
}
"""All checks, in the order in which they run, and what each says."""

COLUMNS = tuple(CHECKS)[3:]
"""The checks that have a column in the table."""

EXACT = ("heads", "heads_empty", "groups", "groups_empty", "generate", "beams", "reload",
         "reload_mixture")  # fmt: skip
"""The checks that make a type exact."""

NOT_A_FAILURE = ("ok", "none")

DENSE = "the dense model does not"
"""How the reason begins where the model itself does not do what is checked."""

TITLE = "# Which models can be pruned"
"""The first line of the page."""

NO_ONNX = "--no-onnx"
"""The flag of a command that exports nothing."""

SHOWN = 36
"""Characters of a reason in a cell of the table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came out of one check."""

    state: State
    """``ok``; ``fails``; ``none``: there is nothing to check; ``unchecked``: it did not run."""
    reason: str = ""
    """Why; of a reload that is ok the rung: ``stock`` or ``import``."""
    seconds: float = 0.0
    """How long it took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known about one model type.

    Example:
        >>> record = Record(model_type="bert", checks={"built": Outcome(state="ok")})
        >>> Record.of(record.to_dict()) == record
        True
    """

    model_type: str
    """The type."""
    model_class: str = ""
    """Class of the tiny model."""
    dtype: str = ""
    """In which precision a masked model was compared with a cut one."""
    attention: tuple[str, ...] = ()
    """Classes of its modules that are attention, by their names or because heads were found."""
    units: Mapping[str, int] = field(default_factory=dict)
    """Number of units of each kind."""
    checks: Mapping[str, Outcome] = field(default_factory=dict)
    """Check -> what came out."""
    running: str = ""
    """The check that is running; empty at the end."""

    def state(self, check: str) -> State:
        """The state of a check; ``unchecked`` if it did not run."""
        return self.checks[check].state if check in self.checks else "unchecked"

    def reason(self, check: str) -> str:
        """The reason of a check's outcome."""
        return self.checks[check].reason if check in self.checks else ""

    @property
    def verdict(self) -> str:
        """The record in a few words: ``exact``, or what stands in the way.

        Example:
            >>> Record(model_type="bert", checks={"built": Outcome(state="fails")}).verdict
            'not built'
        """
        if self.state("built") != "ok":
            return "not built"
        if self.state("forward") != "ok":
            return "does not run"
        if self.state("units") != "ok":
            return "not found" if self.attention else "no attention"
        return "exact" if self.passes(EXACT) else "not exact"

    def passes(self, checks: Iterable[str]) -> bool:
        """Whether each of some checks is ok, or has nothing to check."""
        return all(self.state(check) in NOT_A_FAILURE for check in checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "attention": list(self.attention)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Record":
        """Read what ``to_dict`` made."""
        checks = {name: Outcome(**entry) for name, entry in values["checks"].items()}
        return cls(**{**values, "attention": tuple(values["attention"]), "checks": checks})


Records = Mapping[str, Record]


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """Where a table comes from."""

    versions: Mapping[str, str]
    """Version of each package."""
    date: str
    """Day on which it was made."""
    command: str
    """What makes it again."""
    must: tuple[str, ...]
    """The types that have to be exact."""


def summary(records: Records, about: About) -> dict[str, int]:
    """Count what was found.

    Returns:
        What is counted -> how many types.

    Example:
        >>> about = About(versions={}, date="", command="", must=("bert",))
        >>> summary({"bert": Record(model_type="bert")}, about)["surveyed"]
        1
    """
    verdicts = Counter(record.verdict for record in records.values())
    must = [records[name] for name in about.must if name in records]
    exact = [record for record in records.values() if record.verdict == "exact"]
    return {
        "known to transformers": len(model_types()),
        "surveyed": len(records),
        "built": len(records) - verdicts["not built"],
        "with attention": sum(bool(record.attention) for record in records.values()),
        "with heads or groups found": verdicts["exact"] + verdicts["not exact"],
        "exact": verdicts["exact"],
        "exact, and every other kind of unit too": sum(
            record.passes(COLUMNS[:-1]) for record in exact
        ),
        "exported to ONNX": sum(record.state("onnx") == "ok" for record in records.values()),
        "of those that must be exact, surveyed": len(must),
        "of those that must be exact, exact": sum(record.verdict == "exact" for record in must),
    }


def as_json(records: Records, about: About) -> str:
    """The records, their verdicts and counts, as text."""
    types = {
        name: {**record.to_dict(), "verdict": record.verdict} for name, record in records.items()
    }
    body = {**asdict(about), "summary": summary(records, about), "types": types}
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def as_markdown(records: Records, about: About) -> str:
    """The records as a page."""
    sections = (_head, _counts, _meanings, _all_types, _failures, _again)
    return "\n".join(line for section in sections for line in section(records, about)) + "\n"


def _head(records: Records, about: About) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return [
        TITLE,
        "",
        f"Every model type of transformers, built tiny with random weights and checked: "
        f"{versions}; {about.date}. The numbers of every check are in `coverage.json`.",
        "",
    ]


def _counts(records: Records, about: About) -> list[str]:
    rows = [f"| {name} | {count} |" for name, count in summary(records, about).items()]
    missing = [
        f"`{name}` ({records[name].verdict})"
        for name in about.must
        if name in records and records[name].verdict != "exact"
    ]
    text = f"Not exact, though they must be: {', '.join(missing)}." if missing else ""
    return ["| model types | |", "|---|--:|", *rows, "", *([text, ""] if text else [])]


def _meanings(records: Records, about: About) -> list[str]:
    meanings = [f"- **{name}**: {CHECKS[name]}" for name in COLUMNS]
    return [
        "A type is *exact* if units were found and all checks of heads, groups, generation and "
        "reload are ok. The columns:",
        "",
        *meanings,
        "",
        "Masked and cut are compared in float64, at most 1e-10 apart; \\* marks types that run in "
        "float32 only (1e-5), † a check in which no output changes. A dash: there are no such "
        "units, or the model does not generate. A question mark: not checked.",
        "",
    ]


def _all_types(records: Records, about: About) -> list[str]:
    shown = [record for record in records.values() if record.attention]
    if not shown:
        return []
    names = ("type", "class", "units", "verdict", *COLUMNS)
    rows = [_row(record) for record in sorted(shown, key=lambda record: record.model_type)]
    head = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return ["## All types with attention", "", *head, *rows, ""]


def _row(record: Record) -> str:
    units = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in record.units.items())
    cells = [_cell(record, check) for check in COLUMNS]
    if not record.units:
        cells = ["" for _ in COLUMNS]
    first = (f"`{record.model_type}`", record.model_class, units or "none", record.verdict)
    return f"| {' | '.join((*first, *cells))} |"


def _cell(record: Record, check: str) -> str:
    state, reason = record.state(check), record.reason(check)
    if state == "ok" and check.startswith("reload"):
        return f"ok ({reason})"
    if state == "ok":
        single = record.dtype == "float32" and CHECKS[check].startswith("masked =")
        return "ok" + "\\*" * single + "†" * bool(reason)
    if state == "fails":
        text = re.sub(r"^\w+Error: ", "", reason)
        return _plain(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
    return "-" if state == "none" else "?"


def _failures(records: Records, about: About) -> list[str]:
    """Every failure, grouped by its reason."""
    found = [record for record in records.values() if record.units]
    refused = [
        (record, check)
        for record in found
        for check in ("generate", "beams")
        if record.state(check) == "none" and record.reason(check).startswith(DENSE)
    ]
    groups = [
        *_grouped("Not built", _stuck(records, "not built", "built")),
        *_grouped("Built, but not run", _stuck(records, "does not run", "forward")),
        *_grouped("Attention that no table describes", _stuck(records, "not found", "units")),
        *_grouped("Checks that fail", _failing(found, COLUMNS[:-1])),
        *_grouped("ONNX", _failing(found, ("onnx",))),
        *_grouped("Generation that cannot be checked", refused),
    ]
    return ["## What fails and why", "", *(groups or ["Nothing.", ""])]


def _stuck(records: Records, verdict: str, check: str) -> list[tuple[Record, str]]:
    return [(record, check) for record in records.values() if record.verdict == verdict]


def _failing(records: list[Record], checks: tuple[str, ...]) -> list[tuple[Record, str]]:
    return [
        (record, check) for record in records for check in checks if record.state(check) == "fails"
    ]


def _grouped(title: str, failures: list[tuple[Record, str]]) -> list[str]:
    """A list of reasons, the most frequent first, and the types and columns of each."""
    if not failures:
        return []
    texts: dict[str, str] = {}
    groups: dict[str, dict[str, list[str]]] = {}
    for record, check in failures:
        reason = record.reason(check)
        texts.setdefault(_kind(reason), _essence(reason))
        groups.setdefault(_kind(reason), {}).setdefault(record.model_type, []).append(check)
    ordered = sorted(groups, key=lambda key: (-len(groups[key]), key))
    listed = [f"- {_plain(texts[key])}: {_named(groups[key])}" for key in ordered]
    count = len({record.model_type for record, _ in failures})
    return [f"### {title} ({count})", "", *listed, ""]


def _named(types: Mapping[str, list[str]]) -> str:
    columns = {name: [check for check in types[name] if check in COLUMNS] for name in sorted(types)}
    return ", ".join(
        f"`{name}`" + f" ({', '.join(checks)})" * bool(checks) for name, checks in columns.items()
    )


def _essence(reason: str) -> str:
    """What differs from message to message: the classes that were found and no row explains.

    Example:
        >>> _essence("units(A): no table describes how its attention is built. Found B (c). Looked")
        'B (c)'
    """
    found = re.search(r"attention is built\. Found (.*?)\. Looked", reason)
    return found.group(1) if found else re.sub(r"^units\(\w+\): ", "", reason)


def _kind(reason: str) -> str:
    """Equal for reasons that differ in numbers and places only."""
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "N", re.sub(r" \(\w+\.py:\d+\)", "", _essence(reason)))


def _plain(text: str) -> str:
    """Text that Markdown leaves alone."""
    return re.sub(r"([|<>*_`\[\]])", r"\\\1", text)


def _again(records: Records, about: About) -> list[str]:
    """What to call; a call that exports nothing goes on from one that exported some types."""
    exported = [name for name, record in records.items() if record.state("onnx") in ("ok", "fails")]
    title, calls = ["## Make this page again", ""], [about.command]
    if exported and NO_ONNX in about.command:
        first = re.sub(rf" (--types \S+|{NO_ONNX})", "", about.command)
        calls = [f"{first} --types {','.join(exported)}", about.command]
        title += [
            f"The {len(exported)} types that were exported to ONNX were checked first; the second "
            "command goes on from there with all that are asked, and keeps what is done.",
            "",
        ]
    return [*title, "```bash", *calls, "```"]
