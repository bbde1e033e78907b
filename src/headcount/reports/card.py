"""The model card: the README of a saved model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from headcount.reports.markdown import table
from headcount.reports.report import Report
from headcount.reports.table import markdown
from headcount.reports.wording import budget_words, cost_words, kept_words, metric_words
from headcount.units.decision import Decision
from headcount.units.kinds import in_words
from headcount.units.scores import MOST_IN_TEXT

Rung = Literal["stock", "import", "standalone", "padded"]
"""How a saved folder loads. ``stock``: with transformers alone. ``import``: once headcount is
imported. ``standalone``: with the code beside the weights. ``padded``: with transformers alone,
since zeros stand for the removed units."""

FIGURE, OTHER_FIGURE = "heads.png", "kept.png"
"""Name of the picture in a saved folder: of heads or key-value heads only, and of other units."""
_FOLDER = "path/to/this/folder"
_MOST_LISTED = 128


def model_card(
    *,
    name: str,
    decision: Decision | None,
    rung: Rung,
    auto_class: str,
    pipeline_task: str | None,
    report: Report | None,
    figure: str | None,
    encodes_sentences: bool = False,
) -> str:
    """The README.md of a saved folder. All its numbers are from the decision or the report.

    Args:
        name: the model's name, which is the title of the card.
        decision: which units were kept; None if not known.
        rung: how the folder loads.
        auto_class: the transformers class that loads it, such as ``AutoModel``.
        pipeline_task: the task's name on the Hub, such as ``text-classification``; None for none.
        report: the measured numbers; None if nothing was measured.
        figure: name of the picture beside the card; None if there is none.
        encodes_sentences: whether sentence-transformers loads the folder as well.

    Returns:
        Markdown with YAML front matter.

    Example:
        >>> card = model_card(name="tiny", decision=None, rung="import", auto_class="AutoModel",
        ...                   pipeline_task=None, report=None, figure=None)
        >>> card.splitlines()[:3]
        ['---', 'library_name: transformers', 'tags:']
        >>> "pip install headcount" in card
        True
    """
    sections = (
        _front_matter(pipeline_task),
        f"# {name}",
        _what(decision, report),
        _how_to_load(rung, auto_class),
        _in_sentence_transformers(rung) if encodes_sentences else None,
        None if report is None else f"## Numbers\n\n{_numbers(report)}",
        _picture(decision, figure),
        _how_made(decision, report),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def load_instructions(rung: Rung, auto_class: str, folder: str | Path) -> str:
    """The lines of Python that load a saved model.

    Args:
        rung: how the folder loads.
        auto_class: the transformers class that loads it.
        folder: where the model was saved, or its name on the Hub.

    Returns:
        Three or four lines without a newline at the end.

    Example:
        >>> print(load_instructions("import", "AutoModel", "small"))
        import headcount  # builds the uneven layers; pip install headcount
        from transformers import AutoModel
        <BLANKLINE>
        model = AutoModel.from_pretrained("small")
    """
    first = "import headcount  # builds the uneven layers; pip install headcount\n"
    where = json.dumps(str(folder), ensure_ascii=False)
    trust = ", trust_remote_code=True" if rung == "standalone" else ""
    return (
        f"{first if rung == 'import' else ''}from transformers import {auto_class}\n\n"
        f"model = {auto_class}.from_pretrained({where}{trust})"
    )


BEGIN, TAGS = "---\nlibrary_name: transformers\n", "tags:\n- headcount\n- pruned\n---"
"""Beginning and end of the front matter of every card, by which a card is recognised."""


def _front_matter(pipeline_task: str | None) -> str:
    task = f"pipeline_tag: {pipeline_task}\n" if pipeline_task else ""
    return f"{BEGIN}{task}{TAGS}"


def _what(decision: Decision | None, report: Report | None) -> str:
    told = _told(decision, report)
    method, budget = told["method"].get("name"), told["budget"]
    kept = "with units removed" if decision is None else f"that keeps {kept_words(decision)}"
    by = f", chosen by the method `{method}`" if method else ""
    asked = f" for a budget of {budget_words(budget)}" if budget else ""
    return (
        f"A Transformer {kept}{by}{asked}. The others are not masked: their weights are gone from "
        "the file. Made with headcount."
    )


def _how_to_load(rung: Rung, auto_class: str) -> str:
    code = _fenced(load_instructions(rung, auto_class, _FOLDER), "python")
    return f"## How to load it\n\n{_RUNGS[rung]}\n\n{code}"


def _in_sentence_transformers(rung: Rung) -> str:
    first = "import headcount  # first of all\n" if rung == "import" else ""
    trust = ", trust_remote_code=True" if rung == "standalone" else ""
    code = (
        f"{first}from sentence_transformers import SentenceTransformer\n\n"
        f'encoder = SentenceTransformer("{_FOLDER}"{trust})\n'
        'vectors = encoder.encode(["It rains.", "It pours."])'
    )
    return f"With sentence-transformers it makes vectors of sentences:\n\n{_fenced(code, 'python')}"


_RUNGS: dict[Rung, str] = {
    "import": (
        "The layers have different shapes, which transformers does not build by itself. The model "
        "needs `pip install headcount`, and `import headcount` before `from_pretrained`; without "
        "it transformers refuses to load."
    ),
    "stock": (
        "Every layer has the same shape and the configuration says so: a stock checkpoint. Plain "
        "transformers loads it, and so do tools that take the stock architecture; headcount is not "
        "needed."
    ),
    "standalone": (
        "The layers have different shapes, which transformers does not build by itself. The code "
        "that builds them, `modeling_headcount.py`, lies beside the weights: headcount is not "
        "needed, but `trust_remote_code=True` is. Read the file before you trust it."
    ),
    "padded": (
        "Saved in the shape of the model before pruning, with zeros for what was removed: a stock "
        "checkpoint that any tool loads, with the outputs of the pruned model. It is as large and "
        "as slow as before pruning."
    ),
}
"""How a folder loads -> the paragraph of the card about it."""


def _numbers(report: Report) -> str:
    metric = metric_words(report.metric, greater_is_better=report.greater_is_better)
    setting = f"{report.task}, {metric}; seed {report.seed}, {report.num_steps} steps."
    return f"{setting}\n\n{markdown(report)}"


def _picture(decision: Decision | None, file: str | None) -> str | None:
    what = "units" if decision is None else in_words(decision.kinds)
    figure = f"![Which {what} are kept, layer by layer]({file})" if file else ""
    kept = "" if decision is None else _kept(decision)
    body = "\n\n".join(part for part in (figure, kept) if part)
    return f"## What is kept\n\n{body}" if body else None


def _kept(decision: Decision) -> str:
    rows = []
    for site in decision.sites:
        which = " ".join(map(str, site.kept)) or "none"
        shown = which if len(site.keep) <= _MOST_LISTED else "in `decision.json`"
        count = f"{len(site.kept)} of {len(site.keep)}"
        rows.append((f"`{site.module}`", site.kind, count, shown))
    text = table(("module", "kind", "kept", "which"), rows, "llrl")
    return f"{text}\n\nUnits are numbered from 0, as in the model before pruning."


def _how_made(decision: Decision | None, report: Report | None) -> str | None:
    command = report.command if report is not None else None
    facts = "\n".join(f"- {fact}" for fact in _facts(decision, report))
    body = "\n\n".join(part for part in (_fenced(command, "bash"), facts) if part)
    return f"## How it was made\n\n{body}" if body else None


def _facts(decision: Decision | None, report: Report | None) -> Iterator[str]:
    told = _told(decision, report)
    if told["method"]:
        settings = json.dumps({k: v for k, v in told["method"].items() if k != "name"})
        yield f"method: `{told['method'].get('name')}` with `{settings}`"
    if told["budget"]:
        yield f"budget: `{json.dumps(dict(told['budget']))}`"
    if told.get("cost"):
        yield cost_words(told["cost"])
    if "seed" in told:
        yield f"seed: {told['seed']}"
    if told.get("num_steps"):
        yield f"decided after {told['steps']} of {told['num_steps']} steps"
    if report is not None and report.environment:
        known = {key: value for key, value in report.environment.items() if value is not None}
        yield f"environment: {', '.join(f'{key} {value}' for key, value in known.items())}"
    if decision is not None:
        beside = " in a file that it names" if decision.num_units > MOST_IN_TEXT else ""
        yield f"`decision.json` has the score of every unit{beside}"


def _told(decision: Decision | None, report: Report | None) -> dict[str, Any]:
    """Method, budget, seed and steps: from the decision, else from the report."""
    told: dict[str, Any] = {"method": {}, "budget": {}}
    if report is not None:
        told |= {"method": report.method, "budget": report.budget, "seed": report.seed}
    if decision is not None:
        told |= decision.provenance
    return told


def _fenced(text: str | None, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    if not text:
        return ""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
