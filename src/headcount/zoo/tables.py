"""The records of model types as JSON and as Markdown."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headcount.reports.markdown import table
from headcount.zoo.records import CHECKS, COLUMNS, DENSE, Record
from headcount.zoo.tiny import model_types
from headcount.zoo.variants import type_of

TITLE = "# Which models can be pruned"
"""The first line of the page."""

NO_ONNX = "--no-onnx"
"""Flag of the command line: export no model."""

SHOWN = 36
"""Most characters of a reason in a cell of the table."""

Records = Mapping[str, Record]


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """How a table was made."""

    versions: Mapping[str, str]
    """Package -> version."""
    date: str
    """Day on which the table was made."""
    command: str
    """The command that makes it again."""
    must: tuple[str, ...]
    """The types that must be exact."""


def summary(records: Records, about: About) -> dict[str, int]:
    """Count types and variants by what the checks found.

    Returns:
        What is counted -> number of types, or of variants.

    Example:
        >>> about = About(versions={}, date="", command="", must=("bert",))
        >>> summary({"bert": Record(model_type="bert")}, about)["surveyed"]
        1
    """
    types, variants = _parted(records)
    verdicts = Counter(record.verdict for record in types)
    others = Counter(record.verdict for record in variants)
    must = [records[name] for name in about.must if name in records]
    macs = Counter(record.state("macs") for record in types)
    return {
        "known to transformers": len(model_types()),
        "surveyed": len(types),
        "built": len(types) - verdicts["not built"],
        "with attention": sum(bool(record.attention) for record in types),
        **{f"of those {verdict}": verdicts[verdict] for verdict in VERDICTS},
        "exported to ONNX": sum(record.state("onnx") == "ok" for record in types),
        "MACs of units as counted": macs["ok"],
        "MACs of units refused": macs["refused"],
        "MACs of units wrong": macs["fails"],
        "of those that must be exact, surveyed": len(must),
        "of those that must be exact, exact": sum(record.verdict == "exact" for record in must),
        "variants": len(variants),
        **{f"variants {verdict}": others[verdict] for verdict in VERDICTS},
        "variants that transformers does not build or run": others["not built"]
        + others["does not run"],
    }


VERDICTS = ("exact", "refused", "not found", "not exact")
"""The verdicts on a type or variant that has attention, is built and runs."""


def _parted(records: Records) -> tuple[list[Record], list[Record]]:
    """The records of types, and of variants that differ from their type's default."""
    types = [record for name, record in records.items() if type_of(name) == name]
    variants = [record for name, record in records.items() if type_of(name) != name]
    return types, [record for record in variants if record.verdict != "the default"]


def as_json(records: Records, about: About) -> str:
    """Counts, records and verdicts as JSON, with one line for each type and variant.

    A check is written as its state, followed by the reason if there is one.
    """
    # One line for each: indented throughout, a change of one type would be spread over many lines.
    body = {**asdict(about), "summary": summary(records, about)}
    head = json.dumps(body, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = [f"  {_dumped(name)}: {_dumped(_entry(record))}" for name, record in records.items()]
    return f'{head},\n "types": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _entry(record: Record) -> dict[str, Any]:
    checks = {
        name: outcome.state + f": {outcome.reason}" * bool(outcome.reason)
        for name, outcome in record.checks.items()
    }
    seconds = round(sum(outcome.seconds for outcome in record.checks.values()), 1)
    known = {key: value for key, value in record.to_dict().items() if value}
    return {"verdict": record.verdict, **known, "checks": checks, "seconds": seconds}


def as_markdown(records: Records, about: About) -> str:
    """The records as a Markdown page."""
    sections = (_head, _counts, _meanings, _all_types, _failures, _again)
    return "\n".join(line for section in sections for line in section(records, about)) + "\n"


def _head(records: Records, about: About) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return [
        TITLE,
        "",
        f"Every model type of transformers, built tiny with random weights and checked: "
        f"{versions}; {about.date}. The numbers of every check are in the JSON file beside this "
        "page.",
        "",
    ]


def _counts(records: Records, about: About) -> list[str]:
    rows = [(name, str(count)) for name, count in summary(records, about).items()]
    missing = [
        f"`{name}` ({records[name].verdict})"
        for name in about.must
        if name in records and records[name].verdict != "exact"
    ]
    text = f"Not exact, though they must be: {', '.join(missing)}." if missing else ""
    counts = table(("model types", ""), rows, "-r")
    return [counts, "", *([text, ""] if text else [])]


def _meanings(records: Records, about: About) -> list[str]:
    meanings = [f"- **{name}**: {CHECKS[name]}" for name in COLUMNS]
    return [
        "A type is *exact* if units were found and every check but those of MACs and ONNX is ok; "
        "*refused* if some of it is refused by an error of headcount's own, and the rest is ok; "
        "*not found* if no row of a table describes its attention, which is such an error, too. "
        "A variant is a type with switches that published configurations set: positions, norms, "
        "biases, shared and tied weights, key-value heads. The columns:",
        "",
        *meanings,
        "",
        "Masked and cut are compared in float64, at most 1e-10 apart; \\* marks types that run in "
        "float32 only (1e-5 of a tensor's largest number). What differs by less than 1e-4 is "
        "compared again with all that the model itself takes in float32 in float64, too (1e-10). "
        "† marks a check in which no output changes. *Refused*: by an error of headcount's own. A "
        "dash: there are no such units, the model does not generate, or the dense model fails the "
        "check, too (below). A question mark: not checked.",
        "",
    ]


def _all_types(records: Records, about: About) -> list[str]:
    types, variants = _parted(records)
    shown = [record for record in types if record.attention]
    if not shown:
        return []
    verdicts: dict[str, Counter[str]] = {}
    for record in variants:
        verdicts.setdefault(type_of(record.model_type), Counter())[record.verdict] += 1
    names = ("type", "class", "units", "verdict", "variants", *COLUMNS)
    rows = [
        _row(record, verdicts.get(record.model_type, Counter()))
        for record in sorted(shown, key=lambda record: record.model_type)
    ]
    return ["## All types with attention", "", table(names, rows, "-" * len(names)), ""]


def _row(record: Record, variants: Counter[str]) -> tuple[str, ...]:
    units = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in record.units.items())
    cells = [_cell(record, check) for check in COLUMNS]
    if not record.units:
        cells = ["" for _ in COLUMNS]
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(variants.items()))
    first = (f"`{record.model_type}`", record.model_class, units or "none", record.verdict, told)
    return (*first, *cells)


def _cell(record: Record, check: str) -> str:
    state, reason = record.state(check), record.reason(check)
    if state == "ok" and check.startswith(("reload", "equal")):
        return f"ok ({reason})"
    if state == "ok":
        single = record.dtype == "float32" and CHECKS[check].startswith("masked =")
        return "ok" + "\\*" * single + "†" * bool(reason)
    if state == "fails":
        text = re.sub(r"^\w+Error: ", "", reason)
        return _plain(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
    return {"none": "-", "refused": "refused"}.get(state, "?")


def _failures(records: Records, about: About) -> list[str]:
    """All failures, grouped by reason."""
    types, variants = _parted(records)
    both = [*types, *variants]
    found = [record for record in both if record.units]
    dense = [
        (record, check)
        for record in found
        for check in COLUMNS
        if record.state(check) == "none" and record.reason(check).startswith(DENSE)
    ]
    groups = [
        *_grouped("Attention that no table describes", _stuck(both, "not found", "units")),
        *_grouped("Checks that fail", _in_state(found, COLUMNS[:-1], "fails")),
        *_grouped("Refused", _in_state(both, ("units", *COLUMNS), "refused")),
        *_grouped("ONNX", _in_state(found, ("onnx",), "fails")),
        *_grouped("Checks that the dense model fails", dense),
        *_grouped("Built, but not run", _stuck(both, "does not run", "forward")),
        *_grouped("Not built", _stuck(both, "not built", "built")),
    ]
    return ["## What fails and why", "", *(groups or ["Nothing.", ""])]


def _stuck(records: Iterable[Record], verdict: str, check: str) -> list[tuple[Record, str]]:
    return [(record, check) for record in records if record.verdict == verdict]


def _in_state(
    records: Iterable[Record], checks: tuple[str, ...], state: str
) -> list[tuple[Record, str]]:
    return [
        (record, check) for record in records for check in checks if record.state(check) == state
    ]


def _grouped(title: str, failures: list[tuple[Record, str]]) -> list[str]:
    """A list of reasons, the most frequent first, with the types and checks of each."""
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
    """The part of a reason that differs between types: the classes that fit no row of a table.

    Example:
        >>> _essence("units(A): no table describes how its attention is built. Found B (c). Looked")
        'B (c)'
    """
    found = re.search(r"attention is built\. Found (.*?)\. Looked", reason)
    return found.group(1) if found else re.sub(r"^units\(\w+\): ", "", reason)


def _kind(reason: str) -> str:
    """A reason without numbers and places in the code, by which reasons are grouped."""
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "N", re.sub(r" \(\w+\.py:\d+\)", "", _essence(reason)))


def _plain(text: str) -> str:
    """Text with Markdown's signs escaped, except those that end a cell: the table does that."""
    return re.sub(r"([<>*_`\[\]])", r"\\\1", text)


def _again(records: Records, about: About) -> list[str]:
    """The commands that make the page again.

    If only some types were exported, these need a command of their own first. The command without
    export goes on from there.
    """
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
