"""``headcount coverage``: check which model types can be pruned exactly."""

import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headcount.arena.output import read_json
from headcount.checkpoints.disk import alone, check_place, expanded, on_disk
from headcount.checkpoints.written import in_words
from headcount.cli.show import clean_errors
from headcount.door.atomic import write_text
from headcount.errors import CheckpointError
from headcount.zoo.records import Record
from headcount.zoo.survey import MUST, Survey, versions
from headcount.zoo.tables import NO_ONNX, TITLE, About, as_json, as_markdown, summary
from headcount.zoo.tiny import CannotBuild, auto_class_name, model_types, tiny_config
from headcount.zoo.variants import split_names, switches_of, type_of
from headcount.zoo.variants import variants as variants_of

LIMIT_S = 300.0
"""Seconds that a type may take by default; most take less than ten."""

console = Console()


def coverage_command(
    types: Annotated[
        str,
        typer.Option(
            help="Model types, such as bert,gpt2, or variants, such as falcon\\[alibi=True]. "
            "Default: all types."
        ),
    ] = "",
    output: Annotated[
        Path, typer.Option(help="Name of the two files to write: coverage.json and coverage.md.")
    ] = Path("coverage"),
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for the results of single types. Default: OUTPUT.work."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Types checked at the same time.")] = 2,
    limit: Annotated[
        float, typer.Option(help="Seconds after which the check of a type is stopped.")
    ] = LIMIT_S,
    variants: Annotated[
        bool,
        typer.Option(
            help="Also check each type with the switches that published configurations set, or "
            "only its default configuration."
        ),
    ] = True,
    onnx: Annotated[
        bool, typer.Option(help="Also export the cut models to ONNX, which is slow, or do not.")
    ] = True,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Check all types again, or only the missing ones."),
    ] = False,
    compress: Annotated[
        bool, typer.Option("--compress", help="Write OUTPUT.json.gz instead of OUTPUT.json.")
    ] = False,
) -> None:
    """Check which model types of the installed transformers can be pruned exactly.

    Each type is built tiny with random weights, without any download. The cut model must compute
    the same as the dense model with the removed units masked, for every kind of unit. It must also
    generate the same tokens, and reload with the same bits. Without headcount its folder must load
    correctly, or the error must say that headcount is missing.

    Each type is checked with its default configuration, and in variants. Writes OUTPUT.md, a page,
    and OUTPUT.json, which has every check of every type.

    The exit code is 1 if one of the 40 types that must be exact is not.

    [bold]Example[/]

      headcount coverage --types bert,llama,t5 --no-onnx --output three
    """
    with clean_errors(console):
        wanted = _with_variants(_known(types)) if variants else _known(types)
        output = expanded(output)
        done = output.with_name(output.name + ".work") if work is None else expanded(work)
        check_place("--work", done, replaced=False)
        record = ".json.gz" if compress else ".json"
        _check_output(output, record)
        _check_work(done, wanted)
        survey = Survey(work=done, jobs=jobs, limit_s=limit, onnx=onnx, fresh=fresh)
        with on_disk("--work", done), _alone(done):
            records = _with_progress(survey, wanted)
        about = About(
            versions=versions(),
            date=date.today().isoformat(),
            command=_command(types, limit=limit, onnx=onnx, variants=variants),
            must=MUST,
        )
        _check_output(output, record)
        with on_disk("--output", output):
            _write(output, {record: as_json(records, about), ".md": as_markdown(records, about)})
        for name, count in summary(records, about).items():
            console.print(f"{count:5} {name}", highlight=False)
        console.print(
            f"Written to {output}.md and {output}{record}.", markup=False, highlight=False
        )
    wrong = [name for name in MUST if name in records and records[name].verdict != "exact"]
    if wrong:
        console.print(f"[bold red]Not exact:[/] {', '.join(wrong)}")
        raise typer.Exit(1)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    with alone(work / "lock", f"--work: another call of coverage is at work on {str(work)!r}"):
        yield


def _write(output: Path, texts: dict[str, str]) -> None:
    """Write both files; each is renamed into place when it is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        write_text(output.with_name(output.name + suffix), text)


def _check_output(output: Path, record: str) -> None:
    """Refuse to replace a file that coverage did not write, or to write where that is impossible.

    Raises:
        CheckpointError: it is one of these; the message says which.
    """
    for suffix, ours in ((record, _is_record), (".md", _is_page)):
        file = output.with_name(output.name + suffix)
        check_place("--output", file)
        if os.path.lexists(file) and not ours(file):
            raise CheckpointError(
                f"--output {str(output)!r}: {file.name} is there, and coverage did not write it. "
                "Give another name, or move it away."
            )


def _check_work(work: Path, types: tuple[str, ...]) -> None:
    """Refuse a working folder in which files of coverage would replace files of others.

    Raises:
        CheckpointError: there are such files; the message names them.
    """
    files = [file for name in types if os.path.lexists(file := work / f"{name}.json")]
    others = [file.name for file in files if "key" not in _names(file)]
    if others:
        raise CheckpointError(
            f"--work {str(work)!r} has files that coverage did not write: {in_words(others)}. Give "
            "another folder, or move them away."
        )


def _is_record(file: Path) -> bool:
    return _names(file) >= {"must", "versions", "types"}


def _names(file: Path) -> set[str]:
    """The top-level keys of a JSON file; empty if it is not a JSON object."""
    found = read_json(file) if file.is_file() else None
    return set(found) if isinstance(found, dict) else set()


def _is_page(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as lines:
        return lines.readline(200).rstrip() == TITLE.encode()


def _known(types: str) -> tuple[str, ...]:
    named = tuple(name for name in split_names(types) if name)
    unknown = [name for name in named if type_of(name) not in model_types()]
    if unknown:
        raise typer.BadParameter(
            f"--types: transformers knows no {', '.join(unknown)}. Give model types such as bert."
        )
    for name in named:
        try:
            switches_of(name)
        except ValueError as error:
            raise typer.BadParameter(f"--types: {error}.") from error
    return named or model_types()


def _with_variants(types: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for kind in types for name in (kind, *_variants(kind))))


def _variants(name: str) -> tuple[str, ...]:
    """The variants of a type; empty for a variant, or for a type that is only part of others."""
    if type_of(name) != name:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            auto_class_name(name)
            return variants_of(tiny_config(name))
        except CannotBuild:
            return ()


def _with_progress(survey: Survey, types: tuple[str, ...]) -> dict[str, Record]:
    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("types", total=len(types))
        return survey.run(
            types,
            lambda record: progress.update(
                task, advance=1, description=f"{record.model_type}: {record.verdict}"[:32]
            ),
        )


def _command(types: str, *, limit: float, onnx: bool, variants: bool) -> str:
    """The command without its folders, for the page."""
    words = ["headcount", "coverage"]
    words += ["--types", types] if types else []
    words += [] if limit == LIMIT_S else ["--limit", f"{limit:g}"]
    words += [] if variants else ["--no-variants"]
    words += [] if onnx else [NO_ONNX]
    return shlex.join(words)
