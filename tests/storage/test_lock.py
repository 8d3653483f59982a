import os
import subprocess
import sys
import time

import pytest

from storage.errors import LedgerError
from storage.ledger import Ledger
from storage.lock import WriterLock, is_alive, owner_of, process_mark


def test_a_second_writer_is_told_who_the_first_is(root, samples):
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
        with pytest.raises(LedgerError) as caught:
            Ledger.open(root, "nano", write=True)
        said = str(caught.value)
        assert f"Run nano is being written by process {os.getpid()} on " in said
        assert "Nothing was written" in said
        assert f"azr status --root {root} --run nano" in said
        assert ledger.owner().pid == os.getpid()
        assert Ledger.open(root, "nano").owner() == ledger.owner()
    assert owner_of(root / "nano") is None
    Ledger.open(root, "nano", write=True).close()


def test_two_processes_cannot_begin_one_run(tmp_path, samples):
    with (
        Ledger.create(tmp_path, samples.facts(), disk=samples.quick),
        pytest.raises(LedgerError, match="being written"),
    ):
        Ledger.create(tmp_path, samples.facts())


def test_a_forked_child_neither_holds_nor_keeps_the_lock(tmp_path):
    lock = WriterLock(tmp_path)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"y" if lock.held else b"n")
        lock.release()  # must not free the parent's
        time.sleep(60)
        os._exit(0)
    assert os.read(read, 1) == b"n"
    assert lock.held
    with pytest.raises(LedgerError, match="being written"):
        WriterLock(tmp_path)
    assert owner_of(tmp_path).pid == os.getpid()
    lock.release()
    WriterLock(tmp_path).release()  # free although the child lives
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_the_lock_dies_with_its_holder_and_not_with_programs_it_started(tmp_path):
    script = (
        "import os, subprocess, sys; from pathlib import Path; from storage.lock import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1])); child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())
    assert owner_of(tmp_path).pid == holder.pid
    holder.kill()
    holder.wait()
    assert is_alive(child, process_mark(child))
    assert owner_of(tmp_path) is None
    WriterLock(tmp_path).release()
    os.kill(child, 9)
    holder.stdin.close()
    holder.stdout.close()


def test_a_mark_lasts_and_the_dead_have_none():
    assert process_mark(os.getpid()) == process_mark(os.getpid())
    assert process_mark(2**22 + 1) is None
    assert not is_alive(2**22 + 1, "")
