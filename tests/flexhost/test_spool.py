"""Tables as files, private and never left over."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pyarrow as pa
import pytest
from support import ROOT

from flexhost.errors import SettingsError
from flexhost.storage.spool import Spool

TABLE = pa.table({"n": range(1_000)})


def test_a_table_comes_back_as_it_was(tmp_path):
    spool = Spool(1 << 20, tmp_path)

    file = spool.write(TABLE)

    assert file.read().equals(TABLE, check_metadata=True)
    assert spool.used == file.size == file.path.stat().st_size


def test_dictionaries_that_change_come_back_as_they_were(tmp_path):
    chunks = [pa.array(words).dictionary_encode() for words in (["a", "b"], ["c", "a"])]
    table = pa.table({"d": pa.chunked_array(chunks)})

    back = Spool(1 << 20, tmp_path).write(table).read()

    assert back["d"].to_pylist() == ["a", "b", "c", "a"]
    assert [chunk.dictionary.to_pylist() for chunk in back["d"].chunks] == [["a", "b"], ["c", "a"]]


def test_what_was_read_is_mapped_and_takes_no_memory_of_its_own(tmp_path):
    file = Spool(1 << 20, tmp_path).write(TABLE)
    before = pa.total_allocated_bytes()

    back = file.read()

    assert pa.total_allocated_bytes() == before
    assert back.num_rows == 1_000


def test_a_file_that_is_read_can_be_removed(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    file = spool.write(TABLE)
    back = file.read()

    spool.release(file)

    assert back.equals(TABLE)
    assert list(spool.folder.iterdir()) == []
    assert spool.used == 0


def test_only_its_owner_may_look_into_the_folder_and_the_files(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    before = os.umask(0)
    try:
        file = spool.write(TABLE)
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700


def test_a_table_that_does_not_fit_is_not_written(tmp_path):
    spool = Spool(10_000, tmp_path)
    assert spool.write(TABLE) is not None

    assert spool.write(pa.table({"n": range(1_001)})) is None
    assert len(list(spool.folder.iterdir())) == 1


def test_a_table_that_cannot_be_written_leaves_no_file(tmp_path):
    deep = pa.array([1])
    for _ in range(80):
        deep = pa.ListArray.from_arrays([0, 1], deep)
    spool = Spool(1 << 20, tmp_path)

    with pytest.raises(pa.ArrowException, match="recursion"):
        spool.write(pa.table({"deep": deep}))

    assert list(spool.folder.iterdir()) == []
    assert spool.used == 0


def test_a_table_that_could_not_be_read_again_is_not_written(tmp_path):
    inner = pa.array(["a", "b"]).dictionary_encode()
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1]), inner)
    spool = Spool(1 << 20, tmp_path)

    with pytest.raises(pa.ArrowException):
        spool.write(pa.table({"d": twice}))

    assert list(spool.folder.iterdir()) == []


def test_the_same_buffers_are_written_once(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    first = spool.write(TABLE)

    assert spool.write(TABLE.select(["n"])) is first
    assert spool.used == first.size
    spool.release(first)
    assert first.read().equals(TABLE)
    spool.release(first)
    assert (spool.used, list(spool.folder.iterdir())) == (0, [])


def test_other_rows_at_the_same_place_are_written_anew(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    memory = bytearray(80_000)

    def there():
        values = pa.Array.from_buffers(pa.int64(), 10_000, [None, pa.py_buffer(memory)])
        return pa.table({"n": values})

    first = spool.write(there())
    memory[8] = 1

    assert spool.write(there()).read()["n"][1].as_py() == 1
    assert first.read()["n"][1].as_py() == 0
    assert spool.write(there().slice(1)).read().num_rows == 9_999


def test_a_folder_that_somebody_removed_is_made_again(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    lost = spool.write(TABLE)
    shutil.rmtree(spool.folder)

    file = spool.write(pa.table({"n": [1]}))

    assert file.read().num_rows == 1
    assert spool.folder.exists()
    with pytest.raises(OSError, match="No such file"):
        lost.read()


def test_nothing_is_written_after_the_end(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    spool.close()

    assert spool.write(TABLE) is None
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_no_file(tmp_path):
    spool = Spool(1 << 30, tmp_path)
    code = (  # a process of its own, whose files may have 4 KiB
        "import resource, signal, sys, pathlib, pyarrow as pa\n"
        "from flexhost.storage.spool import Spool\n"
        "spool = Spool(1 << 30, pathlib.Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    spool.write(pa.table({'n': range(100_000)}))\n"
        "except OSError as error:\n"
        "    print(error.errno, spool.used, len(list(spool.folder.iterdir())))\n"
    )
    wrote = [sys.executable, "-c", code, str(tmp_path)]
    told = subprocess.run(wrote, capture_output=True, text=True, cwd=ROOT / "src", check=True)

    assert told.stdout.split() == ["27", "0", "0"]  # EFBIG
    assert spool.folder.exists()


def test_temporary_folders_that_are_all_full_are_told_with_the_setting():
    code = (  # a process of its own, whose files may have nothing
        "import resource, signal\n"
        "from flexhost.storage.spool import Spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n"
        "    Spool(1 << 20)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    wrote = [sys.executable, "-c", code]
    told = subprocess.run(wrote, capture_output=True, text=True, cwd=ROOT / "src", check=True)

    assert told.stdout.startswith("SettingsError [server] result_spool_dir: no folder for results")


def test_closing_removes_the_folder(tmp_path):
    spool = Spool(1 << 20, tmp_path)
    spool.write(TABLE)

    spool.close()
    spool.close()

    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_over_is_removed_and_nothing_else(tmp_path):
    code = (
        "import os, sys, pathlib, pyarrow as pa\n"
        "from flexhost.storage.spool import Spool\n"
        "Spool(1 << 20, pathlib.Path(sys.argv[1])).write(pa.table({'n': [1]}))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    living = Spool(1 << 20, tmp_path)
    file = living.write(TABLE)
    (tmp_path / "flexhost-spool-file").write_text("no folder")
    (tmp_path / "other").mkdir()
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT / "src", check=False)
    assert len(list(tmp_path.iterdir())) == 4

    Spool(1 << 20, tmp_path).close()

    assert {path.name for path in tmp_path.iterdir()} == {
        living.folder.name,
        "flexhost-spool-file",
        "other",
    }
    assert file.read().equals(TABLE)


def test_a_link_with_the_name_of_a_left_over_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep me")
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "flexhost-spool-trap").symlink_to(precious)

    Spool(1 << 20, parent)

    assert (precious / "file").exists()


def test_a_place_that_cannot_be_used_is_named_with_the_setting(tmp_path):
    file = tmp_path / "file"
    file.write_text("")

    with pytest.raises(SettingsError, match=rf"result_spool_dir.*{file}.*result_spool_bytes"):
        Spool(1 << 20, file)
