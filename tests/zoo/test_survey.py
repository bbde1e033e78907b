import json
import time
from dataclasses import replace

import pytest

import headcount as hc
from headcount.errors import PruningError
from headcount.zoo import survey as module
from headcount.zoo.checks import MIXTURES, telling_decision
from headcount.zoo.survey import MUST, Survey, check_type, versions
from headcount.zoo.tables import CHECKS, About, Outcome, Record, as_json, as_markdown, summary
from headcount.zoo.tiny import model_types, tiny_model

ABOUT = About(versions={"torch": "1"}, date="2000-01-01", command="headcount coverage", must=MUST)
OK, NONE = Outcome(state="ok"), Outcome(state="none")


def record(name: str, **checks: Outcome) -> Record:
    return Record(
        model_type=name,
        model_class="Some",
        attention=("SomeAttention",),
        units={"head": 8},
        checks=dict.fromkeys(CHECKS, OK) | checks,
    )


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return work, Survey(work=work, jobs=1, onnx=False).run(["bert", "timm_backbone"])


@pytest.mark.parametrize("model_type", ["bert", "llama", "t5", "vit"])
def test_every_check_is_ok(model_type):
    found = check_type(model_type, onnx=False)
    assert found.verdict == "exact"
    assert set(found.checks) == set(CHECKS)
    states = {name: outcome.state for name, outcome in found.checks.items()}
    assert {name for name, state in states.items() if state == "fails"} == set()
    assert {name for name, state in states.items() if state == "unchecked"} == {"onnx"}
    assert found.dtype == "float64"
    assert found.attention
    assert all(not outcome.reason for name, outcome in found.checks.items() if name in MASKED)


MASKED = ("heads", "heads_empty", "modules", "mixture")


@pytest.mark.parametrize(("model_type", "groups"), [("bert", False), ("llama", True)])
def test_what_a_model_has_not_is_not_checked(model_type, groups):
    found = check_type(model_type, onnx=False)
    assert found.units["head"] == 8
    assert (found.state("groups") == "ok") is groups
    assert (found.state("generate") == "ok") is groups
    assert "import" in found.reason("reload")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_the_exported_model_agrees(model_type):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert check_type(model_type).state("onnx") == "ok"


def test_a_model_without_attention():
    found = check_type("mamba", onnx=False)
    assert (found.verdict, found.state("units")) == ("no attention", "none")


def test_what_is_known_is_reported_before_every_check():
    reports: list[Record] = []
    check_type("timm_backbone", onnx=False, report=reports.append)
    assert reports[0].running == "built"
    assert reports[-1].running == ""
    assert reports[-1].verdict == "not built"


def test_a_check_that_raises_is_recorded(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no such thing in /some/folder/file.py")

    monkeypatch.setattr(module, "masked_is_cut", broken)
    found = check_type("bert", onnx=False)
    assert found.verdict == "not exact"
    assert found.reason("heads").startswith("RuntimeError: no such thing in file.py (test_survey")
    assert found.state("reload") == "ok"


@pytest.mark.parametrize("model_type", ["bert", "llama"])
@pytest.mark.parametrize(("kinds", "empty"), MIXTURES)
def test_decisions_keep_and_remove_units_of_every_kind(model_type, kinds, empty):
    units = hc.units(tiny_model(model_type)).only(*kinds)
    decision = telling_decision(units, empty=empty)
    assert all(decision.num(kind) < units.num(kind) for kind in units.kinds)
    assert empty or all(decision.num(kind) > 0 for kind in units.kinds)


def test_types_are_checked_each_in_a_process(surveyed):
    work, records = surveyed
    assert {name: found.verdict for name, found in records.items()} == {
        "bert": "exact",
        "timm_backbone": "not built",
    }
    assert "timm" in records["timm_backbone"].reason("built")
    assert sorted(path.name for path in work.iterdir()) == ["bert.json", "timm_backbone.json"]


def test_a_rerun_repeats_nothing(surveyed):
    work, records = surveyed
    before = {path: path.stat().st_mtime_ns for path in work.iterdir()}
    done: list[Record] = []
    start = time.monotonic()
    again = Survey(work=work, jobs=1, onnx=False).run(["bert", "timm_backbone"], done.append)
    assert time.monotonic() - start < 1
    assert again == records
    assert len(done) == 2
    assert {path: path.stat().st_mtime_ns for path in work.iterdir()} == before


def test_other_versions_and_more_checks_are_not_done(surveyed, monkeypatch):
    work, _ = surveyed
    assert Survey(work=work, onnx=False)._done("bert") is not None
    assert Survey(work=work, onnx=True)._done("bert") is None
    monkeypatch.setattr(module, "versions", lambda: {**versions(), "torch": "0"})
    assert Survey(work=work, onnx=False)._done("bert") is None


def test_a_type_that_takes_too_long_is_recorded_and_the_others_stay(surveyed):
    work, records = surveyed
    hasty = Survey(work=work, jobs=1, limit_s=0.01, onnx=False).run(["gpt2", "bert"])
    assert list(hasty) == ["gpt2", "bert"]
    assert hasty["bert"] == records["bert"]
    assert hasty["gpt2"].verdict == "not built"
    assert hasty["gpt2"].reason("built") == "took more than 0.01 s"
    assert Survey(work=work, limit_s=0.01, onnx=False)._done("gpt2") is not None
    assert Survey(work=work, limit_s=60, onnx=False)._done("gpt2") is None
    fresh = Survey(work=work, limit_s=60, onnx=False).run(["gpt2", "bert"])
    assert fresh["gpt2"].verdict == "exact"


@pytest.mark.parametrize(
    ("running", "verdict"),
    [("built", "not built"), ("beams", "not exact"), ("onnx", "exact")],
)
def test_a_crash_keeps_what_was_known(tmp_path, running, verdict):
    settings = Survey(work=tmp_path, onnx=True)
    job = settings._start(module._context(), "t5", tmp_path)
    job.process.kill()
    job.process.join()
    before = tuple(CHECKS)[: tuple(CHECKS).index(running)]
    written = replace(record("t5"), running=running, checks=dict.fromkeys(before, OK))
    module._write(job.folder / module.RECORD_FILE, written.to_dict())
    found = settings._ended(job)
    assert found.reason(running) == "the process was killed by SIGKILL"
    assert (found.verdict, found.running) == (verdict, "")
    assert settings._done("t5") == found


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(PruningError, match="give one job or more"):
        Survey(work=tmp_path, jobs=0)


def test_the_types_that_must_be_exact():
    assert len(set(MUST)) == 40
    assert set(MUST) <= set(model_types())


def test_the_counts():
    records = {
        "bert": record("bert"),
        "gpt2": record("gpt2", rows=Outcome(state="fails", reason="differs by 1")),
        "vit": record("vit", generate=NONE, heads=Outcome(state="fails", reason="differs by 1")),
        "bark": Record(model_type="bark", checks={"built": Outcome(state="fails", reason="x")}),
    }
    counts = summary(records, ABOUT)
    assert list(counts.values()) == [len(model_types()), 4, 3, 3, 3, 2, 1, 3, 3, 2]
    body = json.loads(as_json(records, ABOUT))
    assert body["summary"] == counts
    assert {name: Record.of(_without(entry)) for name, entry in body["types"].items()} == records


def _without(entry):
    return {key: value for key, value in entry.items() if key != "verdict"}


def test_the_page():
    records = {
        name: record(name, heads=Outcome(state="fails", reason=f"differs by {gap}"))
        for name, gap in {"bert": "1e-3", "gpt2": "2e-05"}.items()
    }
    records["vit"] = record("vit", onnx=Outcome(state="unchecked"), beams=NONE)
    page = as_markdown(records, ABOUT)
    for name, count in summary(records, ABOUT).items():
        assert f"| {name} | {count} |" in page
    assert "Not exact, though they must be: `bert` (not exact), `gpt2` (not exact)." in page
    assert "- differs by 1e-3: `bert` (heads), `gpt2` (heads)" in page
    assert "| `vit` | Some | 8 heads | exact | ok |" in page
    assert page.rstrip().endswith("headcount coverage\n```")


def test_a_page_with_exports_names_the_command_that_made_them():
    unchecked = {"onnx": Outcome(state="unchecked")}
    records = {"bert": record("bert"), "gpt2": record("gpt2", **unchecked), "t5": record("t5")}
    about = replace(ABOUT, command="headcount coverage --limit 100 --no-onnx")
    calls = as_markdown(records, about).rstrip().splitlines()[-3:-1]
    assert calls == ["headcount coverage --limit 100 --types bert,t5", about.command]
    page = as_markdown({"gpt2": records["gpt2"]}, about)
    assert page.endswith(f"again\n\n```bash\n{about.command}\n```\n")
