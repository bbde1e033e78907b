"""The rules of CONTRIBUTING.md and docs/architecture.md that a machine can check."""

import ast
import importlib
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import headcount
from headcount.arena.comparison import Comparison
from headcount.methods.method import Method

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PUBLIC = sorted(name for name in headcount.__all__ if not name.startswith("__"))
METHODS = [
    value
    for name in PUBLIC
    if inspect.isclass(value := getattr(headcount, name))
    and issubclass(value, Method)
    and not inspect.isabstract(value)
]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_RESULT_FILES = 25
MATHS_MAY_IMPORT = sys.stdlib_module_names | {"jaxtyping", "numba", "numpy", "torch"}
MACHINE_PATH = re.compile(r"(?<![\w.:~/-])/(?:work|root|home|Users)/")


def in_project(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project_files() -> list[Path]:
    """Every file that is committed or could be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git repository")
    paths = (ROOT / name.decode() for name in listing.stdout.split(b"\0") if name)
    return [path for path in paths if path.is_file()]


def function_lengths(path: Path) -> dict[str, int]:
    """Lines of each function's body, without its docstring."""
    lengths = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = (ast.get_docstring(node, clean=False) or "").splitlines()
            lines = node.end_lineno - node.body[0].lineno + 1 - len(docstring)
            lengths[f"{node.name}, line {node.lineno}"] = lines
    return lengths


def imported(path: Path) -> set[str]:
    """The modules that a file imports, in full."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or ".")
    return names


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_with_an_example(name):
    assert ">>>" in (inspect.getdoc(getattr(headcount, name)) or "")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_has_a_card(method):
    file_name = method.__module__.rpartition(".")[2]
    assert (ROOT / "docs" / "methods" / f"{file_name}.md").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=in_project)
def test_a_file_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=in_project)
def test_a_function_is_short(path):
    lengths = function_lengths(path)
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def test_no_file_is_named_by_what_it_is_not():
    names = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert [in_project(path) for path in SOURCES if path.name in names] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src/headcount/maths").glob("*.py")), ids=in_project
)
def test_maths_imports_torch_only(path):
    own = ("headcount.maths", "headcount.errors")
    others = {name for name in imported(path) if not name.startswith(own)}
    assert {name for name in others if name.split(".")[0] not in MATHS_MAY_IMPORT} == set()


def test_the_links_of_the_root_pages_lead_somewhere():
    pages = sorted(ROOT.glob("*.md"))
    link = re.compile(r"""(?:\]\(|(?:src|href)=")(?!\w+:|\#)([^)\s"#]+)""")
    links = [(page.name, to) for page in pages for to in link.findall(page.read_text("utf-8"))]
    assert [(page, to) for page, to in links if not (ROOT / to).exists()] == []
    assert (ROOT / "README.md") in pages


def test_no_file_names_a_place_on_one_machine():
    found = []
    for path in project_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        hits = (number for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line))
        found += [f"{in_project(path)}:{number}" for number in hits]
    assert found == []


def test_the_two_constraint_files_differ_only_by_what_the_oldest_transformers_demands():
    newest, oldest = pinned("constraints.txt"), pinned("constraints-oldest.txt")
    moved = {name for name in newest.keys() | oldest.keys() if newest.get(name) != oldest.get(name)}
    http = {"httpcore", "httpcore2", "httpx", "httpx2", "truststore"}
    added = {"gguf", "peft", "trl"}  # for tests that the oldest transformers does not run
    assert moved <= {"transformers", "huggingface-hub", "tokenizers"} | http | added


@pytest.mark.parametrize(
    ("command", "results", "page"),
    [
        (["arena.py", "sick"], "", "docs/how-to-choose.md"),
        (["arena.py", "mix"], "", "docs/how-to-choose.md"),
        (["arena.py", "both"], "", "README.md"),
        (["arena.py", "time"], "", "docs/how-to-choose.md"),
        (["arena.py", "agree"], "", "docs/how-to-choose.md"),
        (["arena.py", "card"], "", "docs/methods/dsp.md"),
        (["many_budgets.py"], "many_budgets.json", "docs/methods/dsp.md"),
        (["layers.py"], "layers.json", "docs/methods/layer_drop.md"),
    ],
)
def test_the_tables_of_the_pages_are_those_of_the_results(
    command, results, page, monkeypatch, capsys
):
    script = ROOT / "benchmarks" / command[0]
    results = ROOT / "benchmarks" / "results" / results
    monkeypatch.setattr(sys, "argv", [str(script), *command[1:], "--tables", str(results)])
    monkeypatch.syspath_prepend(str(script.parent))  # as it is when the script is called
    runpy.run_path(str(script), run_name="__main__")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows
    assert not set(rows) - set((ROOT / page).read_text(encoding="utf-8").splitlines())


def test_there_is_one_file_of_results_a_study():
    names = [in_project(path) for path in project_files()]
    results = [name for name in names if name.startswith("benchmarks/results/")]
    assert 0 < len(results) <= MAX_RESULT_FILES
    assert [name for name in results if name.count("/") > 2] == []


@pytest.mark.parametrize("name", ["sick", "mix", "mix-long"])
def test_collected_runs_come_back_as_the_folder_that_they_were(name, monkeypatch, tmp_path):
    script = ROOT / "benchmarks" / "arena.py"
    results = ROOT / "benchmarks" / "results"
    words = [str(script), name, "--work", str(tmp_path), "--restore", str(results)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.syspath_prepend(str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
    found = Comparison.read(tmp_path / f"compare-{name}")
    packed = importlib.import_module("packed").read(results / f"arena_{name}.jsonl.gz")
    assert not found.unfinished
    assert {"."} | {result.cell.name for result in found.results} == packed.keys()
    assert bool(found.latencies) == ("latency.json" in packed["."])
