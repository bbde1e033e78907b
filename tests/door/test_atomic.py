"""Files that are written at once or not at all."""

import gzip
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from headcount.door import atomic, files
from headcount.door.atomic import replaced, write_text
from headcount.door.files import read_text
from headcount.door.shape import Misfit

TEXT = "a\r\nb\n\N{EN DASH}"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.json"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "é" * 120, "c" * 255])
def test_a_text_comes_back_as_it_was(tmp_path, name):
    write_text(tmp_path / name, TEXT)
    assert read_text(tmp_path / name) == TEXT
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_line_ends_stay(file):
    write_text(file, TEXT)
    assert file.read_bytes() == TEXT.encode()


def test_a_packed_file_has_the_same_bytes_each_time_and_under_each_name(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_text(tmp_path / name, TEXT)
    content = (tmp_path / "a.gz").read_bytes()
    assert content == (tmp_path / "b.gz").read_bytes()
    assert content[3:8] == bytes(5)  # no flags, so no name, and no time
    assert gzip.decompress(content) == TEXT.encode()


@pytest.mark.parametrize("cut", [0, 1, 9, 15, -1])
def test_a_packed_file_that_is_not_whole_is_refused(tmp_path, cut):
    write_text(tmp_path / "a.gz", TEXT)
    (tmp_path / "a.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:cut])
    if cut == 0:
        assert read_text(tmp_path / "a.gz") == ""  # as an empty file that is not packed
        return
    with pytest.raises(Misfit, match="no whole gzip file"):
        read_text(tmp_path / "a.gz")


def test_a_packed_file_is_not_unpacked_beyond_the_limit(tmp_path, monkeypatch):
    write_text(tmp_path / "a.gz", "0" * 10**6)
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(
        files.gzip.GzipFile, "read", lambda self, size: asked.append(size) or read(self, size)
    )
    with pytest.raises(Misfit, match="larger than 5000 bytes"):
        read_text(tmp_path / "a.gz", limit=5000)
    assert asked == [5001]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_file_as_it_was(file, error):
    file.write_text("old", encoding="utf-8")

    def write_half():
        with replaced(file) as draft:
            draft.write_text("half", encoding="utf-8")
            assert draft.parent == file.parent
            assert draft.name.endswith(atomic.DRAFT)
            raise error

    with pytest.raises(error):
        write_half()
    assert file.read_text(encoding="utf-8") == "old"
    assert list(file.parent.iterdir()) == [file]


def test_a_text_that_cannot_be_encoded_leaves_nothing(file):
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "\ud800")
    assert list(file.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no" / "a.json", TEXT)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_new_file_has_the_permissions_that_a_plain_write_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "ours", TEXT)
        (tmp_path / "plain").write_text(TEXT, encoding="utf-8")
    finally:
        os.umask(before)
    assert mode(tmp_path / "ours") == mode(tmp_path / "plain") == 0o666 & ~umask


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_that_is_replaced_keeps_its_permissions(file):
    file.write_text("old", encoding="utf-8")
    file.chmod(0o640)
    write_text(file, TEXT)
    assert mode(file) == 0o640


def test_a_link_is_replaced_and_what_it_leads_to_stays(file, tmp_path):
    other = tmp_path / "other"
    other.write_text("theirs", encoding="utf-8")
    file.symlink_to(other)
    write_text(file, TEXT)
    assert not file.is_symlink()
    assert other.read_text(encoding="utf-8") == "theirs"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_what_is_no_file_is_written_to_and_stays(file):
    os.mkfifo(file)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(file.read_bytes)
        write_text(file, TEXT)
        assert read.result() == TEXT.encode()
    assert file.is_fifo()


def test_two_processes_leave_one_whole_file(file):
    program = (
        "import sys; from headcount.door.atomic import write_text\n"
        "for _ in range(200): write_text(sys.argv[1], sys.argv[2] * 5000)"
    )
    begun = [subprocess.Popen([sys.executable, "-c", program, str(file), x]) for x in "ab"]
    seen = set()
    while any(process.poll() is None for process in begun):
        if file.exists():
            seen.add(file.read_text(encoding="utf-8"))
        time.sleep(0.001)
    assert [process.returncode for process in begun] == [0, 0]
    assert seen | {file.read_text(encoding="utf-8")} <= {"a" * 5000, "b" * 5000}
    assert list(file.parent.iterdir()) == [file]


def test_two_threads_do_not_meet(file):
    threads = [threading.Thread(target=write_text, args=(file, x * 999)) for x in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text(encoding="utf-8") in {x * 999 for x in "abcdefgh"}
    assert list(file.parent.iterdir()) == [file]
