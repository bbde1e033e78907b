"""A file for the scores of many units, beside the JSON file of their decision."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from headcount.door.atomic import replaced
from headcount.door.files import LARGE, parse_json, read_bytes, read_text
from headcount.door.shape import Count, Matching, Misfit, fit
from headcount.errors import DecisionError

MOST_IN_TEXT = 4096
"""Up to so many units, the JSON holds the scores: about 100 kB of text, still fit to be read and
compared line by line. Nearly all models have fewer heads; most have more neurons."""
SUFFIX = ".scores"
"""End of the file's name. The file is in the safetensors format but must not be named so: programs
that load weights take every ``*.safetensors`` file of a folder as a part of the model."""
_NAME = "scores"


class ScoresFile(TypedDict):
    """The entry of a decision's JSON for the file of its scores."""

    file: Annotated[str, Matching(r"[^/\\]+\.[0-9a-f]{16}\.scores", "the name of a file of scores")]
    sha256: Annotated[str, Matching(r"[0-9a-f]{64}", "a SHA-256")]
    num: Count


def write_scores(scores: Iterable[float], decision: Path) -> ScoresFile:
    """Write scores beside the file of a decision, under a name with their digest.

    The digest gives a new name to new scores. So an older decision in the same place keeps its own
    file until its JSON is replaced.

    Args:
        scores: one for each unit.
        decision: the JSON file, which is written afterwards.

    Returns:
        The entry for the JSON.

    Raises:
        OSError: the file cannot be written.
    """
    vector = torch.tensor([float(score) for score in scores], dtype=torch.float64)
    content = save({_NAME: vector})
    digest = hashlib.sha256(content).hexdigest()
    name = f"{decision.name[-100:]}.{digest[:16]}{SUFFIX}"
    with replaced(decision.with_name(name)) as draft:
        draft.write_bytes(content)
    return {"file": name, "sha256": digest, "num": len(vector)}


def scores_of(decision: Path) -> ScoresFile | None:
    """The entry for the scores in a decision's JSON; None without an entry or a decision."""
    try:
        body = parse_json(read_text(decision, limit=LARGE), dict[str, Any])
        return fit(body.get("scores"), ScoresFile, plain=True)
    except (OSError, Misfit):
        return None


def read_scores(told: ScoresFile, lengths: Sequence[int], folder: Path | None) -> list[list[float]]:
    """Read the scores of each site.

    Args:
        told: the entry of the JSON.
        lengths: number of units of each site.
        folder: folder of the file; None if unknown.

    Raises:
        DecisionError: the file is missing, damaged, or belongs to another decision.
    """
    name = told["file"]
    if folder is None:
        raise DecisionError(
            f"Decision.from_json: the scores are not in this text but in the file {name!r}. Give "
            "the path of the decision to Decision.load."
        )
    if sum(lengths) != told["num"]:  # checked before memory of that size is used
        raise DecisionError(f"its sites have {sum(lengths)} units and {told['num']} scores.")
    content = _content(told, folder)
    try:
        vector = load(content).get(_NAME)
    except SafetensorError as error:
        raise DecisionError(f"its scores: {name!r} is no file of scores ({error}).") from None
    if vector is None or vector.dtype != torch.float64 or vector.shape != (told["num"],):
        raise DecisionError(f"its scores: {name!r} has no {told['num']} numbers of 64 bits.")
    if not bool(vector.isfinite().all()):
        raise DecisionError(f"its scores: {name!r} has numbers that are not finite.")
    return [part.tolist() for part in vector.split(list(lengths))]


def _content(told: ScoresFile, folder: Path) -> bytes:
    """Read the bytes of the file and compare their digest."""
    call = f"its scores are in {told['file']!r}, which"
    keep = "The two files belong together: copy both from where the decision was saved."
    try:
        content = read_bytes(folder / told["file"], limit=LARGE // 2)
    except FileNotFoundError:
        raise DecisionError(f"{call} is not there. {keep}") from None
    except Misfit as problem:
        raise DecisionError(f"{call} cannot be read: {problem}. {keep}") from None
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        raise DecisionError(f"{call} is damaged or belongs to another decision. {keep}")
    return content


def drop_scores(told: ScoresFile, folder: Path) -> None:
    """Delete the file of a replaced decision, unless it has been changed since."""
    path = folder / told["file"]
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"]:
        path.unlink()
