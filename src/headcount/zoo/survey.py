"""Check many model types, each in a process of its own, and save each record."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter
from typing import Any, TypedDict

import transformers

from headcount.door.arguments import check_fields
from headcount.door.atomic import write_text
from headcount.door.files import parse_json, read_text
from headcount.door.shape import Misfit, Positive
from headcount.errors import PruningError
from headcount.zoo import checks, folders
from headcount.zoo.checks import Subject, exports, masked_is_cut
from headcount.zoo.counted import counted
from headcount.zoo.folders import Folders, reloads
from headcount.zoo.generation import generates
from headcount.zoo.records import Outcome, Record
from headcount.zoo.stranger import Visit, stranger
from headcount.zoo.variants import type_of

MUST = (
    "bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert",
    "albert", "mpnet", "camembert", "gpt2", "gpt_neox", "opt", "bloom", "llama", "mistral",
    "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "falcon", "t5", "mt5",
    "bart", "mbart", "marian", "pegasus", "m2m_100", "whisper", "vit", "deit", "beit", "dinov2",
    "clip", "siglip", "wav2vec2", "hubert",
)  # fmt: skip
"""The types of which every check must be exact."""

PACKAGES = ("headcount", "transformers", "torch")

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    # Without this, MKL chooses its instructions by where the weights lie in memory. That may differ
    # for weights read from a file, and then the last bit of a result differs, too.
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment variables of the processes. Libraries read them when they are imported."""


def check_type(
    model_type: str,
    *,
    onnx: bool = True,
    address: str = "",
    report: Callable[[Record], None] = lambda record: None,
) -> Record:
    """Run every check on a tiny model of a type. An error becomes the outcome of its check.

    Args:
        model_type: the type, such as ``"bert"``, or a variant of it.
        onnx: also export the cut model, which takes longer than all other checks together.
        address: address of a process without headcount, which loads the saved models; empty for
            none.
        report: called before each check with the record so far.

    Returns:
        The record of all checks.

    Example:
        >>> print(check_type("nonesuch", onnx=False).reason("built"))
        transformers ... knows no type 'nonesuch'
    """
    sheet = _Sheet(model_type, report)
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        subject = _subject(sheet)
        if subject is not None:
            visit = Visit(address) if address else None
            saved = Folders(subject=subject, stack=stack, visit=visit)
            # Variants are many, so some checks run for types alone.
            full = type_of(model_type) == model_type
            for name, check in _plan(subject, saved, onnx).items():
                if full or name not in TYPES_ONLY:
                    sheet.run(name, check)
    sheet.say(running="")
    return sheet.record


TYPES_ONLY = ("beams", "reload", "siblings", "onnx")
"""The checks that run for types, and not for their variants."""


def _plan(subject: Subject, saved: Folders, onnx: bool) -> dict[str, Callable[[], Outcome]]:
    same = {
        name: partial(masked_is_cut, subject, drawn) for name, drawn in checks.DECISIONS.items()
    }
    uneven, mixtures = subject.decisions(checks.UNEVEN), subject.decisions(checks.MIXTURES)
    still = {"cache_implementation": "static", "disable_compile": True}
    return {
        **same,
        "twice": partial(checks.twice, subject),
        "generate": partial(generates, subject, num_beams=1),
        "beams": partial(generates, subject, num_beams=4),
        "static": partial(generates, subject, num_beams=1, **still),
        "reload": partial(reloads, saved, uneven),
        "reload_mixture": partial(reloads, saved, mixtures),
        "equal": lambda: reloads(saved, folders.equal_decisions(subject)),
        "alone": partial(folders.alone, saved),
        "siblings": partial(folders.siblings, saved),
        "pickled": partial(checks.pickled, subject),
        "macs": partial(counted, subject),
        "onnx": partial(exports, subject, wanted=onnx),
    }


def _subject(sheet: "_Sheet") -> Subject | None:
    """Build the model, run it and find its units; None if one of these fails."""
    found: dict[str, Any] = {}
    for name, step in {"built": checks.build, "forward": checks.run, "units": checks.find}.items():
        outcome = sheet.run(name, lambda step=step: step(sheet.record, found))
        sheet.say(**checks.facts(found))
        if outcome.state != "ok":
            return None
    return Subject(**found)


class _Sheet:
    """The record of a type while its checks run."""

    def __init__(self, model_type: str, report: Callable[[Record], None]) -> None:
        self.record, self._report = Record(model_type=model_type), report

    def say(self, **known: Any) -> None:
        self.record = replace(self.record, **known)
        self._report(self.record)

    def run(self, name: str, check: Callable[[], Outcome]) -> Outcome:
        self.say(running=name)
        start = perf_counter()
        try:
            outcome = check()
        except PruningError as error:
            outcome = Outcome(state="refused", reason=self._reason(error))
        except Exception as error:
            outcome = Outcome(state="fails", reason=self._reason(error))
        outcome = replace(outcome, seconds=round(perf_counter() - start, 3))
        self.say(checks={**self.record.checks, name: outcome})
        return outcome

    def _reason(self, error: Exception) -> str:
        return checks.in_one_line(error).removeprefix(f"{type_of(self.record.model_type)}: ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """How types are checked."""

    work: Path
    """Folder with a file for each type that was checked."""
    jobs: int = 2
    """Number of types at a time."""
    limit_s: float = 300.0
    """Most seconds for a type."""
    onnx: bool = True
    """Whether to export the cut models, too."""
    fresh: bool = False
    """Whether to check again the types that were checked before."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.jobs < 1 or self.limit_s <= 0:
            raise PruningError(
                f"Survey(jobs={self.jobs}, limit_s={self.limit_s}): give one job or more, and a "
                "limit above 0 seconds."
            )

    def run(
        self, types: Iterable[str], on_done: Callable[[Record], None] = lambda record: None
    ) -> dict[str, Record]:
        """Check types. A type with a record from an earlier run is not checked again.

        If a type crashes or takes too long, its record says so and keeps the checks before that.

        Args:
            types: the types.
            on_done: called with each record, first with those of earlier runs.

        Returns:
            Type -> its record, in the order of ``types``.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        types = tuple(dict.fromkeys(types))
        records = {} if self.fresh else {t: r for t in types if (r := self._done(t)) is not None}
        for record in records.values():
            on_done(record)
        for record in self._checked(deque(t for t in types if t not in records)):
            records[record.model_type] = record
            on_done(record)
        return {model_type: records[model_type] for model_type in types}

    def _checked(self, waiting: deque[str]) -> Iterator[Record]:
        """Keep ``jobs`` processes running, and yield the record of each when it ends."""
        running: dict[int, _Job] = {}
        scratch = Path(tempfile.mkdtemp())
        with ExitStack() as stack:
            context = _context() if waiting else None
            address = stack.enter_context(_stranger()) if waiting else ""
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            stack.callback(lambda: [job.stop() for job in running.values()])
            while waiting or running:
                while context and waiting and len(running) < self.jobs:
                    job = self._start(context, waiting.popleft(), scratch, address)
                    running[job.process.sentinel] = job
                rest = min(job.deadline for job in running.values()) - time.monotonic()
                wait(list(running), timeout=max(rest, 0.0))
                for sentinel, job in list(running.items()):
                    if not job.process.is_alive() or time.monotonic() >= job.deadline:
                        del running[sentinel]
                        yield self._ended(job)

    def _start(self, context: Any, model_type: str, scratch: Path, address: str = "") -> "_Job":
        folder = Path(tempfile.mkdtemp(dir=scratch))
        job = context.Process(target=_work, args=(model_type, self.onnx, folder, address))
        job.start()
        return _Job(model_type, job, folder, time.monotonic() + self.limit_s)

    def _ended(self, job: "_Job") -> Record:
        late = job.process.is_alive()
        job.stop()
        record = job.record()
        # A process that finished has no running check. Else, the running check has failed.
        if record.running:
            why = f"took more than {self.limit_s:g} s" if late else job.exit_reason()
            outcome = Outcome(state="fails", reason=why)
            record = replace(record, running="", checks={**record.checks, record.running: outcome})
            late = late and record.state("onnx") == "unchecked"
        # The limit stands in the file of a late type: with a higher one, it is worth another try.
        body = {"key": self._key(), "limit_s": self.limit_s if late else 0, **record.to_dict()}
        _write(self._file(job.model_type), body)
        shutil.rmtree(job.folder, ignore_errors=True)
        return record

    def _file(self, model_type: str) -> Path:
        return self.work / f"{model_type}.json"

    def _key(self) -> dict[str, Any]:
        return {**versions(), "onnx": self.onnx}

    def _done(self, model_type: str) -> Record | None:
        """The saved record of a type; None if versions differ now, or it had less time than now."""
        try:
            body: _Done = parse_json(read_text(self._file(model_type)), _Done)
            key, limit_s = body["key"], body["limit_s"]
            record = Record.of({k: v for k, v in body.items() if k not in ("key", "limit_s")})
        except (OSError, Misfit):
            return None
        # A record with the export serves a run without it, too.
        same = key == self._key() or key == {**self._key(), "onnx": True}
        return record if same and not 0 < limit_s < self.limit_s else None


class _Done(TypedDict):
    """What a type's file has beside the record."""

    key: dict[str, Any]
    limit_s: Positive


@dataclass(frozen=True, slots=True)
class _Job:
    """A type that is being checked."""

    model_type: str
    process: BaseProcess
    folder: Path
    deadline: float

    def stop(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()

    def record(self) -> Record:
        """The record that the process wrote last; an empty one if there is none."""
        try:
            return parse_json(read_text(self.folder / RECORD_FILE), Record)
        except (OSError, Misfit):
            return Record(model_type=self.model_type, running="built")

    def exit_reason(self) -> str:
        code = self.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else ""
        return f"the process was killed by {name}" if name else f"the process ended with {code}"


RECORD_FILE = "record.json"


def versions() -> dict[str, str]:
    """The versions of the packages that the results depend on.

    Example:
        >>> sorted(versions())
        ['headcount', 'torch', 'transformers']
    """
    return {name: version(name) for name in PACKAGES}


def _context() -> Any:
    """A context whose server imports everything once, and forks a process for each type."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _environment():
        forkserver.ensure_running()
    return context


@contextmanager
def _stranger() -> Iterator[str]:
    with ExitStack() as stack:
        with _environment():
            address = stack.enter_context(stranger())
        yield address


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(model_type: str, onnx: bool, folder: Path, address: str) -> None:
    """The work of one process: check a type, and write the record before each check."""
    # Whatever the libraries print, also from C, would go through the lines of the survey.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    tempfile.tempdir = str(folder)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    target = folder / RECORD_FILE
    check_type(
        model_type,
        onnx=onnx,
        address=address,
        report=lambda record: _write(target, record.to_dict()),
    )


def _write(path: Path, body: dict[str, Any]) -> None:
    write_text(path, json.dumps(body, indent=1) + "\n")
