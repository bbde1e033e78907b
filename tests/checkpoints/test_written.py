"""Nothing is deleted or replaced that headcount did not write; places are judged beforehand."""

import errno
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headcount.checkpoints import disk, workspace
from headcount.checkpoints.workspace import check_apart, check_output, publish
from headcount.checkpoints.written import (
    LIST_FILE,
    foreign,
    read_list,
    remove_written,
    take_place,
    write_list,
)
from headcount.errors import CheckpointError


def write(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def ours(tmp_path):
    """A result of ours, with a folder in it."""
    folder = tmp_path / "small"
    for name in ("decision.json", "config.json", "more/vocab.txt"):
        write(folder / name)
    write_list(folder)
    return folder


def draft(tmp_path, text="new"):
    folder = tmp_path / "draft"
    write(folder / "decision.json", text)
    return folder


def add_note(folder):
    write(folder / "thesis.txt", "precious")


def add_repository(folder):
    write(folder / ".git" / "HEAD", "ref")


def add_empty_folder(folder):
    (folder / "data").mkdir()


def add_note_inside(folder):
    write(folder / "more" / "note", "precious")


def change(folder):
    write(folder / "config.json", "[]")  # as long as it was


def add_link(folder):
    (folder / "weights").symlink_to(folder / "config.json")


def replace_by_link(folder):
    write(folder.parent / "elsewhere", "{}")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder.parent / "elsewhere")


def link_to_a_folder(folder):
    write(folder.parent / "far" / "thesis.txt")
    (folder / "far").symlink_to(folder.parent / "far")


ADDED = {
    add_note: "thesis.txt",
    add_repository: ".git/",
    add_empty_folder: "data/",
    add_note_inside: "more/note",
    change: "config.json",
    add_link: "weights",
    replace_by_link: "config.json",
    link_to_a_folder: "far",
}


def test_what_we_wrote_is_ours(ours):
    assert foreign(ours) == []
    assert sorted(read_list(ours)) == ["config.json", "decision.json", "more/vocab.txt"]
    (ours / "more" / "vocab.txt").unlink()  # missing files are in nobody's way
    assert foreign(ours) == []


@pytest.mark.parametrize(("add", "name"), ADDED.items(), ids=[f.__name__ for f in ADDED])
def test_what_somebody_else_wrote_or_changed_is_kept(ours, tmp_path, add, name):
    add(ours)
    before = names(ours)
    assert foreign(ours) == [name]
    new = draft(tmp_path)
    for refuse in (check_output, lambda output: publish(new, output)):
        with pytest.raises(CheckpointError, match="headcount did not write") as caught:
            refuse(ours)
        assert name in str(caught.value)
        assert "Give another folder, or move that away" in str(caught.value)
    assert names(ours) == before
    assert (new / "decision.json").read_text() == "new"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "files": {}}', '{"format": 1, "files": [1]}', "[" * 9999],
)
def test_a_list_that_is_none_makes_nothing_ours(ours, text):
    write(ours / LIST_FILE, text)
    with pytest.raises(CheckpointError, match=r"has no headcount-files\.json"):
        check_output(ours)


def test_a_folder_that_says_so_alone_is_not_ours(tmp_path):
    write(tmp_path / "out" / "decision.json")
    write(tmp_path / "out" / "thesis.txt")
    with pytest.raises(CheckpointError, match=r"decision\.json, thesis\.txt\. Give another folder"):
        check_output(tmp_path / "out")


def test_names_in_a_list_lead_nowhere_else(ours, tmp_path):
    thesis = write(tmp_path / "thesis.txt", "precious")
    body = json.loads((ours / LIST_FILE).read_text())
    body["files"]["../thesis.txt"] = body["files"]["config.json"]
    write(ours / LIST_FILE, json.dumps(body))
    assert remove_written(ours) == []
    assert not ours.exists()
    assert thesis.read_text() == "precious"


def test_removing_leaves_what_came_meanwhile(ours):
    add_note(ours)
    assert remove_written(ours) == ["thesis.txt"]
    assert names(ours) == ["thesis.txt"]


@pytest.mark.parametrize("old", ["ours", "empty", "none"])
def test_a_result_takes_its_place(ours, tmp_path, old):
    output = ours if old == "ours" else tmp_path / "other"
    if old == "empty":
        output.mkdir()
    publish(draft(tmp_path), output)
    assert names(output) == ["decision.json", LIST_FILE]
    assert {path.name for path in tmp_path.iterdir()} == {"small", output.name}
    publish(draft(tmp_path, "again"), output)
    assert (output / "decision.json").read_text() == "again"


def test_a_link_is_a_name_for_what_it_leads_to(ours, tmp_path):
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk / "result")
    with workspace.workspace(link, {}, resume=False) as work:
        assert work == disk / "result.partial"
        write(work / "result" / "decision.json")
        publish(work / "result", link)
    assert link.is_symlink()
    assert names(disk) == ["result", "result/decision.json", f"result/{LIST_FILE}"]


def test_over_a_border_of_file_systems_is_copied(ours, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    rename = type(tmp_path).rename
    monkeypatch.setattr(
        type(tmp_path), "rename", lambda s, t: (rename if ".moving" in s.name else refuse)(s, t)
    )
    publish(draft(tmp_path), ours)
    assert names(tmp_path) == ["small", "small/decision.json", f"small/{LIST_FILE}"]


def test_the_older_result_comes_back_when_the_new_one_cannot_stand(ours, tmp_path, monkeypatch):
    new, rename = draft(tmp_path), type(tmp_path).rename

    def full(self, target):
        if self == new:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    before = names(ours)
    monkeypatch.setattr(type(tmp_path), "rename", full)
    with pytest.raises(OSError, match="No space"):
        publish(new, ours)
    assert names(ours) == before
    assert foreign(ours) == []


def test_a_process_killed_between_both_steps_loses_nothing(ours):
    ours.rename(ours.with_name(".small.replaced"))
    with workspace.workspace(ours, {}, resume=False):
        assert foreign(ours) == []
    assert names(ours.parent)[0] == "small"


class TestAmongOthers:
    """Files of ours that stand in a folder with others."""

    def take(self, tmp_path, text, **given):
        write(tmp_path / "draft" / "table.md", text)
        take_place("output", tmp_path / "draft", tmp_path / "out", **given)

    def test_ours_are_replaced_and_others_stay(self, tmp_path):
        write(tmp_path / "out" / "notes.txt", "precious")
        for text in ("one", "two"):
            self.take(tmp_path, text)
            assert (tmp_path / "out" / "table.md").read_text() == text
        assert (tmp_path / "out" / "notes.txt").read_text() == "precious"

    def test_of_the_same_name_are_refused(self, tmp_path):
        write(tmp_path / "out" / "table.md", "precious")
        with pytest.raises(CheckpointError, match=r"would write its own: table\.md\. Give"):
            self.take(tmp_path, "one")
        self.take(tmp_path, "one", trusted=["table.md"])
        write(tmp_path / "out" / "table.md", "changed")
        with pytest.raises(CheckpointError, match="or that were changed since"):
            self.take(tmp_path, "two", trusted=["table.md"])
        assert (tmp_path / "out" / "table.md").read_text() == "changed"

    def test_a_process_killed_in_between_is_no_stranger(self, tmp_path, monkeypatch):
        self.take(tmp_path, "one")
        with monkeypatch.context() as patch:
            replace = Path.replace

            def killed(self, target):
                if self.name == "table.md":
                    raise KeyboardInterrupt
                return replace(self, target)

            patch.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                self.take(tmp_path, "two")
        self.take(tmp_path, "three")
        assert (tmp_path / "out" / "table.md").read_text() == "three"


class TestWorkspace:
    def interrupted(self, output, error=None, wanted=KeyboardInterrupt, **match):
        def run():
            with workspace.workspace(output, {"seed": 0}, resume=False) as work:
                write(work / "random" / "checkpoint-5" / "headcount.json")
                raise error or KeyboardInterrupt

        with pytest.raises(wanted, **match):
            run()
        return output.with_name(output.name + ".partial")

    def test_deletes_what_runs_write(self, tmp_path):
        with workspace.workspace(tmp_path / "out", {}, resume=False) as work:
            write(work / "random" / "model" / "model.safetensors")
            write(work / "random" / "result.json")
            write(work / "random" / "checkpoint-7" / "optimizer.pt")
        assert names(tmp_path) == []

    @pytest.mark.parametrize("name", ["thesis.txt", "random/checkpoint-5/notes.md", "d/e/f"])
    def test_leaves_what_they_do_not(self, tmp_path, name, caplog):
        work = self.interrupted(tmp_path / "out")
        write(work / name, "precious")
        with (
            caplog.at_level(logging.WARNING, "headcount"),
            workspace.workspace(tmp_path / "out", {"seed": 0}, resume=True),
        ):
            pass
        assert (work / name).read_text() == "precious"
        assert [n for n in names(work) if (work / n).is_file()] == [name]
        assert "kept, headcount did not write all" in caplog.text

    @pytest.mark.parametrize("kind", ["file", "folder", "lost", "pipe"])
    def test_does_not_follow_links_in_a_resumed_run(self, tmp_path, kind):
        work = self.interrupted(tmp_path / "out")
        secret = write(tmp_path / "secret" / "key", "secret")
        model = work / "random" / "model"
        model.mkdir()
        if kind == "pipe":
            os.mkfifo(model / "vocab.txt")
        else:
            target = {"file": secret, "folder": secret.parent, "lost": tmp_path / "gone"}[kind]
            (model / "vocab.txt").symlink_to(target)
        with (
            pytest.raises(CheckpointError, match=r"holds links or devices.*random/model/vocab.txt"),
            workspace.workspace(tmp_path / "out", {"seed": 0}, resume=True),
        ):
            pytest.fail("it began")

    @pytest.mark.parametrize("text", ["", "{", "[]", "[" * 9999])
    def test_a_damaged_run_is_told(self, tmp_path, text):
        work = self.interrupted(tmp_path / "out")
        write(work / "run.json", text)
        with (
            pytest.raises(CheckpointError, match=r"run\.json.* is damaged.* start anew"),
            workspace.workspace(tmp_path / "out", {"seed": 0}, resume=True),
        ):
            pytest.fail("it began")

    def test_one_killed_before_it_began_is_not_in_the_way(self, tmp_path):
        write(tmp_path / "out.partial" / ".0f1e-run.json.part", "{")
        with workspace.workspace(tmp_path / "out", {}, resume=False) as work:
            assert (work / "run.json").is_file()
        assert names(tmp_path) == []

    def test_a_second_run_is_refused_and_told_of_the_first(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "out")
        with workspace.workspace(tmp_path / "out", {}, resume=False) as work:
            before = names(work)
            for name in ("out", "link"):
                with (
                    pytest.raises(CheckpointError, match=rf"\(process {os.getpid()} on .*, since"),
                    workspace.workspace(tmp_path / name, {}, resume=True),
                ):
                    pytest.fail("it began")
            assert names(work) == before
        assert names(tmp_path) == ["link"]

    def test_the_lock_falls_with_its_process(self, tmp_path):
        code = (
            "import os, pathlib, sys\n"
            "from headcount.checkpoints.disk import alone\n"
            "with alone(pathlib.Path(sys.argv[1]), 'x'):\n"
            "    os._exit(9)\n"
        )
        lock = tmp_path / "lock"
        subprocess.run([sys.executable, "-c", code, str(lock)], check=False)
        assert lock.exists()
        with disk.alone(lock, "output: taken"):
            pass
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left on device"),
            RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"),
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        ],
        ids=["full", "torch", "cut short"],
    )
    def test_a_full_disk_is_told_and_the_run_kept(self, ours, error):
        message = r"small.partial' cannot be written: .* is as it was\. Make room, then .*--resume"
        self.interrupted(ours, error, CheckpointError, match=message)
        assert foreign(ours) == []
        with workspace.workspace(ours, {"seed": 0}, resume=True):
            pass

    def test_other_errors_stay_what_they_are(self, tmp_path):
        for error in (RuntimeError("a shape"), FileNotFoundError(errno.ENOENT, "no", "a")):
            with (
                pytest.raises(type(error)),
                workspace.workspace(tmp_path / "out", {}, resume=False),
            ):
                raise error
        assert names(tmp_path) == []


class TestPlaces:
    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("file/out", r"file' is no folder"),
            ("file", r"is no folder"),
            ("x" * 250, r"File name too long"),
            ("é" * 200 + "/out", r"File name too long"),
            ("loop", r"(Symlink loop|Too many levels)"),
            ("a\0b", r"null"),
        ],
        ids=["below a file", "a file", "long", "long above", "loop", "null"],
    )
    def test_that_cannot_be_written_are_refused(self, tmp_path, place, message):
        write(tmp_path / "file")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        before = names(tmp_path)
        with pytest.raises(CheckpointError, match=message):
            check_output(tmp_path / place)
        assert names(tmp_path) == before

    def test_of_a_disk_that_is_mounted(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
        with pytest.raises(CheckpointError, match=r"a disk is mounted there; give a folder in it"):
            check_output(tmp_path)

    def test_that_we_are_in(self, monkeypatch, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "a" / "b")
        for output in (Path(), Path(".."), tmp_path / "a"):
            with pytest.raises(CheckpointError, match="holds the folder that you are in"):
                check_output(output)

    def test_that_are_read_only(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(CheckpointError, match="is read-only for you"):
            check_output(tmp_path / "out")

    @pytest.mark.skipif(not os.path.ismount("/sys"), reason="no such disk")
    def test_of_a_disk_that_takes_nothing(self):
        with (
            pytest.raises(CheckpointError, match=r"cannot be (written|locked)"),
            workspace.workspace(Path("/sys/kernel/out"), {}, resume=False),
        ):
            pytest.fail("it began")

    def test_without_room_are_refused(self, tmp_path):
        disk.check_room("output", tmp_path / "a" / "out", 1)
        message = r"MB free, and the model alone takes 1000000000000 MB\. Make room"
        with pytest.raises(CheckpointError, match=message):
            disk.check_room("output", tmp_path / "a" / "out", 10**18)

    def test_of_the_user_are_found(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert workspace.resolved("~/out") == (tmp_path / "out").resolve()
        assert disk.expanded_name("~/model") == str(tmp_path / "model")
        with pytest.raises(CheckpointError, match="home directory"):
            check_output(Path("~nobody-of-this-name/out"))

    @pytest.mark.parametrize("model", ["out", "out/model", "out.partial/dense/model"])
    def test_of_the_model_are_refused(self, tmp_path, model):
        write(tmp_path / model / "config.json")
        (tmp_path / "link").symlink_to(tmp_path / "out")
        for output in ("out", "link"):
            with pytest.raises(CheckpointError, match="is the folder of the model"):
                check_apart(tmp_path / model, tmp_path / output)


def test_two_threads_do_not_both_hold_a_lock(tmp_path):
    held, wrong = [], []

    def work():
        for _ in range(20):
            try:
                with disk.alone(tmp_path / "lock", "output: taken"):
                    held.append(1)
                    wrong.extend([1] if len(held) != 1 else [])
                    held.clear()
            except CheckpointError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
