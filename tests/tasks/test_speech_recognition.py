"""What was said: models that generate and models with CTC, files of sound, and rates of errors."""

import io
import json
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from transformers import EvalPrediction
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

import headcount as hc
from headcount.errors import BudgetError, CheckpointError, DataError
from headcount.runs.data import gather
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS, SpeechRecognition
from headcount.tasks.audio import decoded
from headcount.tasks.listening import normaliser, plain
from media_cases import RATE, tone, write_ctc, write_rows, write_sounds, write_whisper
from real_models import real_model

soundfile = pytest.importorskip("soundfile", reason="the extra speech is missing")
pytest.importorskip("jiwer", reason="the extra speech is missing")

TASK = TASKS["speech-recognition"]
RECIPE = Recipe(epochs=1, batch_size=3, max_length=16, learning_rate=1e-2)
MAKERS = {"ctc": write_ctc, "whisper": write_whisper}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("data") / "sounds")


def settled(model, **given):
    return SpeechRecognition(**given).settled([], str(model), split="train")


def data_of(source, model, *, max_length=16, **given):
    task = settled(model, **given)
    processor = task.load_processor(str(model))
    return task.dataset([source], processor, max_length=max_length, split="train")


def write_wav(path: Path, samples=None, rate=RATE, **more) -> Path:
    soundfile.write(path, tone("low") if samples is None else samples, rate, **more)
    return path


def table_of(folder: Path, *names: str, text="low") -> Path:
    return write_rows(folder / "a.csv", [{"audio": name, "text": text} for name in names])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_folder_with_metadata(models, sounds, kind):
    found = data_of(sounds, models[kind])
    assert found["text"][:2] == ["Low!", "Middle!"]
    assert found["num_samples"] == [6400 + 320 * number for number in range(6)]
    assert TASK.labels(found) == ()
    processor = TASK.load_processor(str(models[kind]))
    tokens = processor.tokenizer
    written = "LOW" if kind == "ctc" else "Low!"
    assert tokens.decode(found["labels"][0], skip_special_tokens=True) == written
    batch = TASK.collator(processor)([found[0], found[1]])
    assert (batch["labels"][0] == -100).any()
    loss = settled(models[kind]).load_model(models[kind], ())(**batch).loss
    assert loss.isfinite()


def test_the_first_token_is_left_to_the_model(models, sounds):
    """Whisper puts the first token in front of the labels itself: it must not stand there twice."""
    found = data_of(sounds, models["whisper"])
    model = settled(models["whisper"]).load_model(models["whisper"], ())
    start, end = model.config.decoder_start_token_id, model.config.eos_token_id
    assert start not in found["labels"][0]
    assert found["labels"][0][-1] == end


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize(
    "columns", [("audio", "text"), ("path", "sentence"), ("File", "transcript")]
)
def test_tables_of_paths(models, sounds, tmp_path, name, columns):
    (tmp_path / "inner").symlink_to(sounds)
    path = write_rows(tmp_path / name, [dict(zip(columns, ("inner/0.wav", "low"), strict=True))])
    if name.endswith("tsv"):
        path.write_text(path.read_text().replace(",", "\t"))
    assert data_of(path, models["whisper"])["num_samples"] == [6400]


def test_transcripts_beside_the_recordings(models, tmp_path):
    for number, words in enumerate(("low", "middle\nhigh\n")):
        write_wav(tmp_path / f"{number}.wav")
        (tmp_path / f"{number}.txt").write_text(words)
    assert data_of(tmp_path, models["whisper"])["text"] == ["low", "middle high"]


def test_recordings_in_a_parquet_file(models, tmp_path):
    content = io.BytesIO()
    soundfile.write(content, tone("low"), RATE, format="FLAC")
    audio = pa.array([{"bytes": content.getvalue(), "path": "a.flac"}])
    pq.write_table(pa.table({"audio": audio, "text": ["low"]}), tmp_path / "a.parquet")
    found = data_of(tmp_path / "a.parquet", models["ctc"])
    assert found["num_samples"] == [8000]
    assert found[0]["input_values"]["bytes"][:4] == b"fLaC"


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats(tmp_path, form):
    path = write_wav(tmp_path / f"a.{form}", tone("low", rate=16_000), 16_000)
    found = decoded({"bytes": None, "path": str(path)}, "row", rate=16_000, most_s=30)
    assert len(found) >= 8000
    spectrum = np.abs(np.fft.rfft(found[:8000]))
    assert spectrum.argmax() == pytest.approx(150, abs=1)  # 300 Hz in half a second


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_rates_and_channels(tmp_path, rate):
    stereo = np.stack([tone("low", rate=rate), np.zeros(round(0.5 * rate), np.float32)], axis=1)
    path = write_wav(tmp_path / "a.wav", stereo, rate)
    found = decoded({"bytes": None, "path": str(path)}, "row", rate=RATE, most_s=30)
    assert found.dtype == np.float32
    assert len(found) == pytest.approx(8000, abs=2)
    assert np.abs(np.fft.rfft(found[:8000])).argmax() == 150
    assert found[2000:6000].max() == pytest.approx(0.25, abs=0.06)


# What cannot be used.


def wav_of(samples, **more) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, RATE, format=more.pop("format", "WAV"), **more)
    return content.getvalue()


LOW = tone("low")
WITH_NAN = np.where(np.arange(8000) == 7, np.nan, LOW).astype(np.float32)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no sound at all", "cannot be read as a recording"),
        (b"", "is empty: 0 bytes"),
        (wav_of(LOW)[:2000], "is cut off: it says 16044 bytes and has 2000"),
        (wav_of(LOW)[:30], "is cut off"),
        (wav_of(LOW, format="FLAC")[:900], "is cut off|cannot be read as a recording"),
        (wav_of(LOW[:0]), r"has no samples\. Give a recording"),
        (wav_of(WITH_NAN, subtype="FLOAT"), "has samples that are no finite numbers"),
        (wav_of(WITH_NAN * np.inf, subtype="FLOAT"), "has samples that are no finite numbers"),
        (wav_of(tone("low", 1.2)), r"lasts 1\.2 seconds; the model reads at most 1\. Split it"),
        (wav_of(LOW)[:24] + struct.pack("<I", 3) + wav_of(LOW)[28:], "has 3 samples per second"),
        (wav_of(LOW)[:24] + struct.pack("<I", 2**30) + wav_of(LOW)[28:], "4000 to 384000 are re"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be read as a recording"),
    ],
)
def test_files_that_are_no_whole_recordings(models, tmp_path, content, said):
    write_wav(tmp_path / "0.wav")
    (tmp_path / "1.wav").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        data_of(table_of(tmp_path, "0.wav", "1.wav"), models["whisper"])
    assert "'a.csv' line 3: " in str(caught.value)
    assert "1.wav'" in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("gone.wav", r"line 2: there is no recording 'gone.wav' \(looked for at "),
        ("", "line 2 has '' as 'audio'. Give the path of a file there"),
        ("https://example.org/a.wav", "has the address .* nothing is downloaded"),
        ("/dev/zero", "it is a device"),
    ],
)
def test_paths_that_lead_to_no_recording(models, tmp_path, cell, said):
    with pytest.raises(DataError, match=said):
        data_of(table_of(tmp_path, cell), models["whisper"])


@pytest.mark.parametrize("text", ["", "   ", "...", "-"])
@pytest.mark.parametrize("kind", MAKERS)
def test_transcripts_without_words(models, tmp_path, kind, text):
    write_wav(tmp_path / "0.wav")
    with pytest.raises(DataError, match=r"line 2 has the transcript .* no word is left"):
        data_of(table_of(tmp_path, "0.wav", text=text), models[kind])


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("ctc", "low 5", "the transcript has '5', which the model's tokenizer cannot write"),
        ("ctc", "zebra", "the transcript has 'Z', which"),
        ("ctc", "low " * 40, "makes 49 frames, too few for the 159 tokens of its transcript"),
        ("whisper", "low " * 9, r"the transcript has 37 tokens; max_length is 16. Give more"),
    ],
)
def test_transcripts_that_the_model_cannot_write(models, tmp_path, kind, text, said):
    write_wav(tmp_path / "0.wav")
    with pytest.raises(DataError, match=said):
        data_of(table_of(tmp_path, "0.wav", text=text.strip()), models[kind])


def test_letters_follow_the_vocabulary(models, tmp_path):
    write_wav(tmp_path / "0.wav", tone("low", 1.0))
    path = write_rows(
        tmp_path / "a.jsonl", [{"audio": "0.wav", "text": "'Low' -- Middle, hi.. 'Gh"}]
    )
    found = data_of(path, models["ctc"])
    tokenizer = TASK.load_processor(str(models["ctc"])).tokenizer
    assert tokenizer.decode(found["labels"][0], group_tokens=False) == "LOW MIDDLE HI GH"


def test_folders_that_are_no_data(models, tmp_path):
    with pytest.raises(DataError, match=r"the folder has no recording. Give one with .wav"):
        data_of(tmp_path, models["ctc"])
    write_wav(tmp_path / "0.wav")
    with pytest.raises(DataError, match=r"'0.wav' has no transcript. Give '0.txt' beside it"):
        data_of(tmp_path, models["ctc"])
    (tmp_path / "0.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"'0.txt': line 1: not UTF-8 text"):
        data_of(tmp_path, models["ctc"])
    write_rows(tmp_path / "metadata.csv", [{"file_name": "0.wav", "label": "low"}])
    with pytest.raises(DataError, match=r"to be the text. Name it: --task-set text=COLUMN"):
        data_of(tmp_path, models["ctc"])


@pytest.mark.parametrize(
    ("given", "said"),
    [({"audio": "sound"}, "no column 'sound'"), ({"text": "words"}, "no column 'words'")],
)
def test_columns_that_are_not_there(models, tmp_path, given, said):
    write_wav(tmp_path / "0.wav")
    with pytest.raises(DataError, match=said):
        data_of(table_of(tmp_path, "0.wav"), models["ctc"], **given)


def test_settings_that_cannot_be(models):
    with pytest.raises(DataError, match=r"max_seconds=0.0\): give a positive number"):
        SpeechRecognition(max_seconds=0.0)
    with pytest.raises(DataError, match="does not know language='klingon'"):
        SpeechRecognition(language="klingon").load_processor(str(models["whisper"]))
    with pytest.raises(DataError, match=r"does not know language='german'. Leave language out"):
        SpeechRecognition(language="german").load_processor(str(models["ctc"]))


def test_models_that_do_not_listen(models, tmp_path):
    transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="of the type 'bert', which does not recognise speech"):
        TASK.check_model(str(tmp_path), 1)
    with pytest.raises(CheckpointError, match="its processor"):
        TASK.load_processor(str(tmp_path))
    with pytest.raises(DataError, match=r"writes at most 16 tokens. Give 16 or fewer"):
        TASK.check_model(str(models["whisper"]), 17)
    with pytest.raises(DataError, match="it makes no inputs of recordings"):
        TASK.check_processor(transformers.BertTokenizer(), 1)


# Measures and inputs.


def test_rates_of_errors():
    golds = np.array(["a big cat sat", "one two"])
    found = EvalPrediction(predictions=np.array(["a pig cat", "one two"]), label_ids=golds)
    measured = TASK.metrics(found)
    assert measured["wer"] == pytest.approx(2 / 6)
    assert measured["cer"] == pytest.approx(5 / 20)
    empty = EvalPrediction(predictions=np.array(["", ""]), label_ids=golds)
    assert TASK.metrics(empty) == {"wer": 1.0, "cer": 1.0}
    assert not TASK.greater_is_better
    assert TASK.correct(found) is TASK.predicted(found) is None


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Don't  STOP!", "dont stop"),
        ("naïve Café", "naïve café"),
        ("a\u2013b/c", "a b c"),
        ("£5", "5"),
    ],
)
def test_plain_texts(text, bare):
    assert plain(text) == bare


def test_english_is_normalised_as_whisper_does(models):
    whisper, ctc = (TASK.load_processor(str(models[kind])).tokenizer for kind in ("whisper", "ctc"))
    text = "Mr. Smith's twenty-one dogs"
    assert normaliser(whisper, "")(text) == EnglishTextNormalizer({})(text)
    assert normaliser(whisper, "english")("it's") == "it is"
    assert normaliser(whisper, "german")("It's") == normaliser(ctc, "")("It's") == "its"
    whisper.english_spelling_normalizer = {"colour": "color"}
    assert normaliser(whisper, "")("Colour") == "color"


@pytest.mark.parametrize("kind", MAKERS)
def test_inputs_for_timing(models, kind):
    task = settled(models[kind])
    model, processor = task.load_model(models[kind], ()), task.load_processor(str(models[kind]))
    given = task.example(model, processor, batch=2, length=8)
    again = task.example(model, processor, batch=2, length=8)
    assert all(torch.equal(given[name], again[name]) for name in given)
    with torch.no_grad():
        assert model(**given).logits.shape[0] == 2
    with pytest.raises(BudgetError, match="latency_batch=0"):
        task.example(model, processor, batch=0, length=8)
    if kind == "whisper":
        assert given["decoder_input_ids"].shape == (2, 8)
        with pytest.raises(BudgetError, match="at most 16 tokens"):
            task.example(model, processor, batch=1, length=17)


@pytest.mark.parametrize("kind", [*MAKERS, "masked"])
def test_answers_do_not_depend_on_the_batch(models, sounds, tmp_path, kind):
    """Also not on how much a recording is padded: what stands behind its end is no answer."""
    folder = write_ctc(tmp_path / kind, masked=True) if kind == "masked" else models[kind]
    task = settled(folder)
    processor = task.load_processor(str(folder))
    data = task.dataset([sounds], processor, max_length=16, split="train")
    model = task.load_model(folder, ())
    found = [
        task.predict(
            model,
            data,
            task.collator(processor),
            Recipe(batch_size=size).arguments(tmp_path),
        )
        for size in (1, 6)
    ]
    assert found[0].label_ids.tolist() == ["low", "middle", "high"] * 2
    assert found[0].predictions.tolist() == found[1].predictions.tolist()


def test_a_new_ctc_head_has_the_letters_of_the_tokenizer(tmp_path):
    folder = write_ctc(tmp_path / "bare", head=False)
    model = TASK.load_model(folder, ())
    assert model.lm_head.out_features == len(TASK.load_processor(str(folder)).tokenizer)
    assert model.config.pad_token_id == 0
    assert model.config.ctc_loss_reduction == "mean"


# Whole runs.


def pruned(model, sounds, output, method, budget=None, **more):
    return hc.prune(
        model,
        task="speech-recognition",
        train=[sounds],
        eval=[sounds],
        budget=budget or hc.Budget(heads=8),
        method=method,
        output=output,
        options=hc.Options(recipe=more.pop("recipe", RECIPE), latency_length=8, **more),
    )


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.slow
def test_the_task_prunes_and_its_folder_runs_in_a_pipeline(models, sounds, tmp_path, kind):
    result = pruned(models[kind], sounds, tmp_path / "small", hc.Magnitude(), finetuned=True)
    assert hc.units(result.model).num("head") == 8
    assert result.report.metric == "wer"
    recipe = hc.Recipe(max_length=16, batch_size=3)
    found = hc.evaluate(tmp_path / "small", eval=[sounds], task="speech-recognition", recipe=recipe)
    assert found["wer"] == result.report.rows[-1].quality
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: automatic-speech-recognition" in card
    pipe = transformers.pipeline("automatic-speech-recognition", str(tmp_path / "small"))
    assert isinstance(pipe({"raw": tone("low"), "sampling_rate": RATE})["text"], str)


def test_nothing_is_left_behind_after_bad_data(models, sounds, tmp_path):
    write_wav(tmp_path / "long.wav", tone("low", 1.5))
    path = table_of(tmp_path, "long.wav")
    before = sorted(tmp_path.iterdir())
    for train, evaluation in ((path, sounds), (sounds, path)):
        with pytest.raises(DataError, match=r"lasts 1\.5 seconds"):
            hc.prune(
                models["whisper"],
                task="speech-recognition",
                train=[train],
                eval=[evaluation],
                budget=hc.Budget(heads=6),
                output=tmp_path / "small",
                options=hc.Options(recipe=RECIPE, latency_length=8),
            )
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    ("method", "more"),
    [
        (hc.DSP(), {}),
        (hc.Fisher(), {"finetuned": True, "recover_epochs": 1.0}),
        (hc.GradientImportance(), {"finetuned": True}),
        (hc.Random(), {"baselines": ("dense",)}),
    ],
)
def test_every_kind_of_method_prunes(models, sounds, tmp_path, kind, method, more):
    budget = hc.Budget(heads=8, neurons=0.5)
    result = pruned(models[kind], sounds, tmp_path / "small", method, budget, **more)
    assert hc.units(result.model).num("head") == 8
    report = json.loads((tmp_path / "small" / "report.json").read_text(encoding="utf-8"))
    assert report["task"] == "speech-recognition"


@pytest.mark.slow
def test_a_tiny_whisper_learns_the_words(models, sounds, tmp_path):
    recipe = Recipe(epochs=100, batch_size=6, max_length=16, learning_rate=1e-2)
    budget = hc.Budget(heads=18)
    result = pruned(
        models["whisper"], sounds, tmp_path / "a", hc.DSP(), budget, recipe=recipe, distil=True
    )
    assert result.report.rows[-1].quality < 0.4


def test_batches_are_grouped_by_length(models, sounds):
    data = gather(str(models["ctc"]), "speech-recognition", [sounds], [sounds], RECIPE)
    assert data.task.sizes(data.train) == list(data.train["num_samples"])


def test_ctc_learns_from_no_teacher(models, sounds, tmp_path):
    with pytest.raises(hc.TrainingError, match="a model with CTC answers for each frame"):
        pruned(models["ctc"], sounds, tmp_path / "small", hc.DSP(), distil=True)
    assert not [*tmp_path.iterdir()]


def test_missing_packages_are_named_when_the_task_is_used(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(hc.MissingPackageError, match=r"speech-recognition: this needs jiwer\. Ins"):
        TASK.load_processor(str(models["ctc"]))


# Real recordings and a real model.

CLIPS = Path("/usr/share/pocketsphinx/test/data/librivox")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The clips of Debian's package pocketsphinx-testdata as a table."""
    if not CLIPS.is_dir():
        pytest.skip("Debian's package pocketsphinx-testdata is not there")
    rows = []
    for line in (CLIPS / "transcription").read_text(encoding="utf-8").splitlines():
        text, name = re.fullmatch(r"<s> (.*?) *</s> \((.*)\)", line.strip()).groups()
        rows.append({"audio": f"{CLIPS / name}.wav", "text": text})
    return write_rows(tmp_path_factory.mktemp("clips") / "clips.csv", rows)


@pytest.mark.slow
def test_a_real_whisper_is_right_and_cut_by_its_gradients_still_nearly(clips, tmp_path):
    model = real_model("whisper-tiny-en")
    dense = hc.evaluate(model, eval=[clips], task="speech-recognition")["wer"]
    assert dense < 0.06
    result = pruned(
        model,
        clips,
        tmp_path / "small",
        hc.GradientImportance(),
        hc.Budget(heads=64),
        recipe=Recipe(batch_size=5),
        finetuned=True,
        latency_batch=1,
    )
    assert result.report.rows[-1].quality < 0.15
