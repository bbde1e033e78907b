import json
import time
from dataclasses import replace

import pytest
import torch

import headcount as hc
from headcount.errors import PruningError
from headcount.zoo import survey as module
from headcount.zoo.checks import MIXTURES, over, telling_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.records import CHECKS, Outcome, Record
from headcount.zoo.stranger import Visit, stranger
from headcount.zoo.survey import MUST, Survey, check_type, versions
from headcount.zoo.tables import About, as_json, as_markdown, summary
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
    assert set(found.checks) == set(CHECKS)
    states = {name: outcome.state for name, outcome in found.checks.items()}
    assert {name for name, state in states.items() if state in ("fails", "refused")} == set()
    assert found.verdict == "exact"
    assert {name for name, state in states.items() if state == "unchecked"} == {"onnx", "alone"}
    assert found.state("macs") == "ok"
    assert found.dtype == "float64"
    assert found.attention
    assert all(not outcome.reason for name, outcome in found.checks.items() if name in MASKED)


MASKED = ("heads", "sublayers", "mixture")


@pytest.mark.parametrize(("model_type", "groups"), [("bert", False), ("llama", True)])
@pytest.mark.slow
def test_what_a_model_has_not_is_not_checked(model_type, groups):
    found = check_type(model_type, onnx=False)
    assert found.units["head"] == 8
    assert (found.state("kv_heads") == "ok") is groups
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
    assert (found.verdict, found.state("heads")) == ("not exact", "fails")
    assert found.reason("heads").startswith("RuntimeError: no such thing in file.py (test_survey")
    assert found.state("reload") == "ok"


@pytest.mark.parametrize("model_type", ["bert", "llama"])
@pytest.mark.parametrize(("kinds", "empty"), MIXTURES)
def test_decisions_keep_and_remove_units_of_every_kind(model_type, kinds, empty):
    units = hc.units(tiny_model(model_type)).only(*kinds)
    decision = telling_decision(units, empty=empty)
    assert all(decision.num(kind) < units.num(kind) for kind in units.kinds)
    assert empty or all(decision.num(kind) > 0 for kind in units.kinds)


@pytest.mark.slow
def test_types_are_checked_each_in_a_process(surveyed):
    work, records = surveyed
    assert {name: found.verdict for name, found in records.items()} == {
        "bert": "exact",
        "timm_backbone": "not built",
    }
    assert records["bert"].state("alone") == "ok"
    assert "timm" in records["timm_backbone"].reason("built")
    assert sorted(path.name for path in work.iterdir()) == ["bert.json", "timm_backbone.json"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_other_versions_and_more_checks_are_not_done(surveyed, monkeypatch):
    work, _ = surveyed
    assert Survey(work=work, onnx=False)._done("bert") is not None
    assert Survey(work=work, onnx=True)._done("bert") is None
    monkeypatch.setattr(module, "versions", lambda: {**versions(), "torch": "0"})
    assert Survey(work=work, onnx=False)._done("bert") is None


@pytest.mark.slow
def test_a_type_that_takes_too_long_is_recorded_and_the_others_stay(surveyed):
    work, records = surveyed
    hasty = Survey(work=work, jobs=1, limit_s=0.01, onnx=False).run(["gpt2", "bert"])
    assert list(hasty) == ["gpt2", "bert"]
    assert hasty["bert"] == records["bert"]
    assert hasty["gpt2"].verdict == "not built"
    assert hasty["gpt2"].reason("built") == "took more than 0.01 s"
    assert Survey(work=work, limit_s=0.01, onnx=False)._done("gpt2") is not None
    assert Survey(work=work, limit_s=240, onnx=False)._done("gpt2") is None
    fresh = Survey(work=work, limit_s=240, onnx=False).run(["gpt2", "bert"])
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
        "gpt2": record("gpt2", neurons=Outcome(state="fails", reason="differs by 1")),
        "vit": record("vit", generate=NONE, heads=Outcome(state="fails", reason="differs by 1")),
        "bark": Record(model_type="bark", checks={"built": Outcome(state="fails", reason="x")}),
        "bert[a=1]": record("bert[a=1]"),
        "bert[b=1]": record("bert[b=1]", neurons=Outcome(state="refused", reason="no")),
        "bert[c=1]": record("bert[c=1]", forward=Outcome(state="fails", reason="no")),
        "bert[d=1]": record("bert[d=1]", built=NONE),
    }
    counts = summary(records, ABOUT)
    assert {name: count for name, count in counts.items() if count} == {
        "known to transformers": len(model_types()),
        "surveyed": 4,
        "built": 3,
        "with attention": 3,
        "of those exact": 1,
        "of those not exact": 2,
        "exported to ONNX": 3,
        "MACs of units as counted": 3,
        "of those that must be exact, surveyed": 3,
        "of those that must be exact, exact": 1,
        "variants": 3,
        "variants exact": 1,
        "variants refused": 1,
        "variants that transformers does not build or run": 1,
    }
    body = json.loads(as_json(records, ABOUT))
    assert body["summary"] == counts
    assert list(body["types"]) == list(records)
    assert body["types"]["bark"]["checks"] == {"built": "fails: x"}
    assert body["types"]["gpt2"]["checks"]["neurons"] == "fails: differs by 1"
    assert body["types"]["gpt2"]["checks"]["heads"] == "ok"
    assert body["types"]["bert[b=1]"]["verdict"] == "refused"
    assert len(as_json(records, ABOUT).splitlines()) < 100 + len(records)


def test_the_page():
    records = {
        name: record(name, heads=Outcome(state="fails", reason=f"differs by {gap}"))
        for name, gap in {"bert": "1e-3", "gpt2": "2e-05"}.items()
    }
    records["vit"] = record("vit", onnx=Outcome(state="unchecked"), beams=NONE)
    for name, outcome in {
        "a": OK,
        "b": Outcome(state="refused", reason="no neurons"),
        "c": OK,
    }.items():
        records[f"vit[{name}=1]"] = record(f"vit[{name}=1]", neurons=outcome)
    page = as_markdown(records, ABOUT)
    for name, count in summary(records, ABOUT).items():
        assert f"| {name} | {count} |" in page
    assert "Not exact, though they must be: `bert` (not exact), `gpt2` (not exact)." in page
    assert "- differs by 1e-3: `bert` (heads), `gpt2` (heads)" in page
    assert "| `vit` | Some | 8 heads | exact | 2 exact, 1 refused | ok |" in page
    assert "### Refused (1)" in page
    assert "- no neurons: `vit[b=1]` (neurons)" in page
    assert page.rstrip().endswith("headcount coverage\n```")


def test_a_page_with_exports_names_the_command_that_made_them():
    unchecked = {"onnx": Outcome(state="unchecked")}
    records = {"bert": record("bert"), "gpt2": record("gpt2", **unchecked), "t5": record("t5")}
    about = replace(ABOUT, command="headcount coverage --limit 100 --no-onnx")
    calls = as_markdown(records, about).rstrip().splitlines()[-3:-1]
    assert calls == ["headcount coverage --limit 100 --types bert,t5", about.command]
    page = as_markdown({"gpt2": records["gpt2"]}, about)
    assert page.endswith(f"again\n\n```bash\n{about.command}\n```\n")


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ({}, "exact"),
        ({"neurons": "refused"}, "refused"),
        ({"neurons": "refused", "heads": "fails"}, "not exact"),
        ({"macs": "fails", "onnx": "fails"}, "exact"),
        ({"units": "refused"}, "refused"),
        ({"units": "none"}, "not found"),
        ({"built": "none"}, "the default"),
    ],
)
def test_verdicts(states, verdict):
    outcomes = {name: Outcome(state=state, reason="why") for name, state in states.items()}
    assert record("bert", **outcomes).verdict == verdict


def test_one_refusal_does_not_hide_a_failure():
    units = hc.units(tiny_model("bert"), "head")
    decisions = [telling_decision(units, empty=empty) for empty in (True, False)]

    def failure(decision):
        if decision is decisions[0]:
            raise PruningError("not these")
        return "differs"

    assert over(decisions, failure) == Outcome(state="fails", reason="differs")
    assert over(decisions[:1], failure).state == "refused"
    assert over([], failure).state == "none"


def test_a_variant_that_is_the_default_is_no_variant():
    assert check_type("gpt_neox[use_parallel_residual=True]", onnx=False).verdict == "the default"


@pytest.mark.slow
def test_where_headcount_is_not_imported_a_folder_is_right_or_names_it(tmp_path):
    model = tiny_model("bert")
    model.save_pretrained(tmp_path / "dense")
    inputs = dummy_inputs(model)
    with stranger() as address:
        visit = Visit(address)
        found = visit.load(str(tmp_path / "dense"), model, inputs)
        missing = visit.load(str(tmp_path / "nothing"), model, inputs)
    with torch.no_grad():
        expected = model(**inputs).logits
    assert torch.equal(found["outputs"]["output.logits"], expected)
    assert found["weights"].keys() == model.state_dict().keys()
    assert isinstance(missing, str)
    assert "nothing" in missing
