import gzip
import json
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headcount.cli.coverage import coverage_command
from headcount.door.files import read_text
from headcount.zoo import survey
from headcount.zoo.records import CHECKS, Outcome, Record
from headcount.zoo.tables import About, as_markdown

app = typer.Typer()
app.command()(coverage_command)


def run(folder, *arguments: str):
    words = ["--work", str(folder / "work"), "--output", str(folder / "docs" / "coverage")]
    return CliRunner().invoke(app, [*words, *arguments])


def pages(folder):
    body = json.loads((folder / "docs" / "coverage.json").read_text(encoding="utf-8"))
    return body, (folder / "docs" / "coverage.md").read_text(encoding="utf-8")


@pytest.fixture
def found(monkeypatch):
    """Every type is exact, without any process, except for those that are added to the set."""
    wrong: set[str] = set()

    def checked(self, waiting):
        for name in waiting:
            outcome = Outcome(state="fails" if name in wrong else "ok", reason="differs by 1")
            checks = dict.fromkeys(CHECKS, Outcome(state="ok")) | {"heads": outcome}
            yield Record(
                model_type=name, attention=("Attention",), units={"head": 8}, checks=checks
            )

    monkeypatch.setattr(survey.Survey, "_checked", checked)
    return wrong


@pytest.mark.slow
def test_two_types_are_written_as_json_and_markdown(tmp_path):
    flags = ("--no-variants", "--no-onnx", "--jobs", "1")
    done = run(tmp_path, "--types", "mamba,timm_backbone", *flags)
    assert done.exit_code == 0, done.output
    body, page = pages(tmp_path)
    assert {name: entry["verdict"] for name, entry in body["types"].items()} == {
        "mamba": "no attention",
        "timm_backbone": "not built",
    }
    call = "headcount coverage --types mamba,timm_backbone --no-variants --no-onnx"
    assert body["command"] == call
    assert str(tmp_path) not in page + json.dumps(body)
    assert "| surveyed | 2 |" in page


def test_a_type_that_must_be_exact_and_is_not_gives_exit_code_1(tmp_path, found):
    found |= {"gpt2", "blip"}
    done = run(tmp_path, "--types", "bert,gpt2,blip")
    assert done.exit_code == 1
    assert "Not exact: gpt2" in done.output
    assert "`gpt2` (not exact)" in pages(tmp_path)[1]
    assert run(tmp_path, "--types", "bert,blip").exit_code == 0


def test_all_types_by_default(tmp_path, found):
    assert run(tmp_path, "--no-variants").exit_code == 0
    body, _ = pages(tmp_path)
    assert len(body["types"]) == body["summary"]["known to transformers"]
    assert body["summary"]["of those that must be exact, exact"] == 40


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], {"coverage.json", "coverage.md", "coverage.work"}),
        (["--output", "pages/own"], {"pages/own.json", "pages/own.md", "pages/own.work"}),
        (["--work", "done"], {"coverage.json", "coverage.md", "done"}),
    ],
)
def test_the_pages_of_the_project_are_not_written_over(tmp_path, found, monkeypatch, flags, names):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "coverage.md").write_text("all types", encoding="utf-8")
    assert CliRunner().invoke(app, ["--types", "bert", *flags]).exit_code == 0
    assert (tmp_path / "docs" / "coverage.md").read_text(encoding="utf-8") == "all types"
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left - {"pages", "docs", "docs/coverage.md"} == names


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--types", "bert,nonesuch"], 2, "transformers knows no nonesuch"),
        (["--types", "bert[a"], 2, "write a variant as falcon[alibi=True,bias=True]"),
        (["--types", "bert", "--jobs", "0"], 1, "give one job or more"),
    ],
)
def test_bad_input_is_refused(tmp_path, flags, code, message):
    done = run(tmp_path, *flags)
    assert done.exit_code == code
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize("name", ["coverage.json", "coverage.md", "coverage.json.gz"])
@pytest.mark.parametrize("text", ["", "{}", "# My notes", "[1]"])
def test_files_of_others_are_not_written_over(tmp_path, found, name, text):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    done = run(tmp_path, "--types", "bert", *["--compress"] * name.endswith(".gz"))
    assert done.exit_code == 1
    assert f"{name} is there, and coverage did not write it" in " ".join(done.output.split())
    assert (tmp_path / "docs" / name).read_text(encoding="utf-8") == text
    assert not (tmp_path / "work").exists()


def test_its_own_files_are(tmp_path, found):
    for _ in range(2):
        assert run(tmp_path, "--types", "bert", "--fresh").exit_code == 0
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {"coverage.json", "coverage.md"}


def test_compressed_it_has_the_same_text_and_the_same_bytes_each_time(tmp_path, found):
    files = [tmp_path / "docs" / name for name in ("coverage.json", "coverage.json.gz")]
    contents = []
    for _ in range(2):
        for flags in ([], ["--compress"]):
            assert run(tmp_path, "--types", "bert,t5", "--fresh", *flags).exit_code == 0
        assert gzip.decompress(files[1].read_bytes()) == files[0].read_bytes()
        contents.append(files[1].read_bytes())
    assert contents[0] == contents[1]


def read_record(entry):
    """A type's record, of what stands in the JSON file."""
    told = (text.partition(": ") for text in entry["checks"].values())
    checks = {
        name: {"state": state, "reason": reason}
        for name, (state, _, reason) in zip(entry["checks"], told, strict=True)
    }
    known = {k: v for k, v in entry.items() if k not in ("verdict", "seconds")}
    return Record.of({**known, "checks": checks})


def test_the_committed_page_is_that_of_the_committed_records():
    docs = Path(__file__).parents[2] / "docs"
    body = json.loads(read_text(docs / "coverage.json.gz"))
    assert (docs / "coverage.json.gz").read_bytes()[3:8] == bytes(5)  # neither name nor time
    records = {name: read_record(entry) for name, entry in body["types"].items()}
    about = About(**{field.name: body[field.name] for field in fields(About)})
    assert as_markdown(records, about) == (docs / "coverage.md").read_text(encoding="utf-8")
    assert {name: record.verdict for name, record in records.items()} == {
        name: entry["verdict"] for name, entry in body["types"].items()
    }


def test_a_working_folder_of_others_is_left_alone(tmp_path, found):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "bert.json").write_text('{"a": 1}', encoding="utf-8")
    done = run(tmp_path, "--types", "bert")
    assert done.exit_code == 1
    assert "has files that coverage did not write: bert.json" in " ".join(done.output.split())
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["bert.json"]


@pytest.mark.parametrize("flag", ["--output", "--work"])
def test_places_below_a_file_are_refused(tmp_path, found, flag):
    (tmp_path / "file").write_text("a", encoding="utf-8")
    done = run(tmp_path, "--types", "bert", flag, str(tmp_path / "file" / "out"))
    assert done.exit_code == 1
    assert "file' is no folder" in "".join(done.output.splitlines())


def test_variants_come_along_and_may_be_asked_for(tmp_path, found):
    named = "falcon[alibi=True,multi_query=False]"
    found.add("gpt_neox[use_parallel_residual=False]")
    assert run(tmp_path, "--types", f"gpt_neox,{named}").exit_code == 0
    body, page = pages(tmp_path)
    assert {"gpt_neox", "gpt_neox[use_parallel_residual=False]", named} <= body["types"].keys()
    assert not [name for name in body["types"] if name.startswith("falcon") and name != named]
    assert "- differs by 1: `gpt_neox[use_parallel_residual=False]` (heads)" in page
