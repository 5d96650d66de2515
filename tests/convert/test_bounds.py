"""A small file does not take long or much memory, whatever it stands for."""

import os
import pickle
import resource
import socket
import struct
import threading
import time
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from e4srec_hf.convert.bounds import MOST_INSTRUCTIONS, check_pickles
from e4srec_hf.convert.tensor_files import load_tensors

TABLE = torch.zeros(3, 2)


def shared_dictionaries(file):
    content = {"tensor": 1}
    for _ in range(30):
        content = {f"key {number}": content for number in range(20)}
    file.write_bytes(pickle.dumps(content))


def shared_tuples(protocol=4, torch_saved=None):
    """As the key of a dictionary, whose hash is that of each."""

    def write(file):
        key = ()
        for _ in range(40):
            key = (key, key)
        stream = pickle.dumps(key, protocol=protocol)
        content = stream[:-1] + b"N" + b"s."  # … and set as a key of the dictionary before it
        begins = content.index(b")") if protocol > 3 else 2
        content = content[:begins] + b"}" + content[begins:]
        if torch_saved is None:
            file.write_bytes(content)
        else:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("archive/data.pkl", content)
                archive.writestr("archive/version", "3\n")

    return write


def many_instructions(file):
    file.write_bytes(b"\x80\x04]" + b"Na" * MOST_INSTRUCTIONS + b".")


def many_marks(file):
    file.write_bytes(b"\x80\x02" + b"(" * 245_000 + b"1" * 245_000 + b".")


def many_marks_below_many_values(file):
    file.write_bytes(b"\x80\x02(" + b"N" * 240_000 + b"(t" * 120_000 + b"(t.")


def a_long_name_many_times(file):
    content = {f"{n}": 1 for n in range(1000)}
    file.write_bytes(pickle.dumps({"n" * 100_000: {"m" * 100_000: content}}))


def zip_that_unfolds(file):
    torch.save({"a": TABLE}, file)
    with zipfile.ZipFile(file) as saved:
        parts = {part.filename: saved.read(part) for part in saved.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in parts.items():
            if name.endswith("data/0"):
                with archive.open(name, "w") as part:
                    for _ in range(64):
                        part.write(bytes(1024**2))
            else:
                archive.writestr(name, content)


def zip_with_parts_on_each_other(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}, protocol=2))
        archive.writestr("archive/data/0", bytes(1000))
        info = archive.infolist()[-1]
        archive.filelist += [info] * 1000


def sparse(suffix=""):
    def write(file):
        file.write_bytes(suffix.encode())
        os.truncate(file, 3 * 1024**3)

    return write


def array_with_a_hole(file):
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(
            opened, {"descr": "<f4", "fortran_order": False, "shape": (3 * 2**18, 1024)}
        )
        os.truncate(file, opened.tell() + 3 * 1024**3)


def older_file_with_a_hole(file):
    torch.save({"a": TABLE}, file, _use_new_zipfile_serialization=False)
    os.truncate(file, 3 * 1024**3)


def long_header(file):
    file.write_bytes(struct.pack("<Q", 100 * 10**6))
    os.truncate(file, 100 * 10**6 + 8)


HOSTILE = {
    "shared dictionaries": (shared_dictionaries, "the same dictionary many times"),
    "shared tuples": (shared_tuples(), "tuples that stand for more"),
    "shared tuples of an older protocol": (shared_tuples(protocol=2), "tuples that stand for more"),
    "shared tuples in an archive": (shared_tuples(2, torch_saved=True), "tuples that stand for more"),
    "a million instructions": (many_instructions, "more than 500000 instructions"),
    "marks on marks": (many_marks, "wants to use the pickle instruction POP_MARK"),
    "marks on values": (many_marks_below_many_values, "holds a tuple; expected a tensor"),
    "names without end": (a_long_name_many_times, "characters"),
    "an archive that unfolds": (zip_that_unfolds, "is compressed"),
    "an archive whose parts lie on each other": (zip_with_parts_on_each_other, "no file of tensors"),
    "a hole": (sparse(), "no file of tensors"),
    "a pickle with a hole": (sparse("\x80"), "3221225472 bytes, more than"),
    "an array with a hole": (array_with_a_hole, "bytes, more than 2147483648; save it as .safetensors"),
    "an older file of torch with a hole": (older_file_with_a_hole, "3221225472 bytes, more than"),
    "a header without end": (long_header, "header has 100000000 bytes"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_stands_for_more_than_it_is_fails_soon(kind, tmp_path):
    write, message = HOSTILE[kind]
    file = tmp_path / ("file.safetensors" if "header" in kind else "file.pkl")
    write(file)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        load_tensors(file)
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device"])
def test_what_is_no_file_is_not_waited_for(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "file.pkl"
    if kind == "a pipe":
        os.mkfifo(name)
    elif kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(name)
    else:
        os.symlink("/dev/zero", name)
    failures = []

    def load():
        try:
            load_tensors(name)
        except ValueError as error:
            failures.append(str(error))

    reader = threading.Thread(target=load, daemon=True)
    reader.start()
    reader.join(20)
    assert failures == ["file.pkl is a pipe, a socket or a device; expected a file."]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_advice_of_torch_to_run_it_all_the_same_is_not_repeated(zipped, tmp_path):
    """Whatever it is that torch refuses."""
    unsupported = b"\x80\x02I1\n."  # an instruction that torch does not know
    file = tmp_path / "file.pt"
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", unsupported)
            archive.writestr("archive/version", "3\n")
    else:
        torch.save({"a": TABLE}, file, _use_new_zipfile_serialization=False)
        content = file.read_bytes()
        file.write_bytes(content[:14] + content[14:].replace(b"ctorch._utils", b"ctorch._utilz"))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at below
        load_tensors(file)
    assert "weights_only" not in str(caught.value)
    assert "trust" not in str(caught.value) or "It is refused" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [torch.save, lambda c, f: torch.save(c, f, _use_new_zipfile_serialization=False)])
def test_many_honest_tensors_are_within_bounds(save, tmp_path):
    save({f"layer.{number}.weight": torch.full((2,), float(number)) for number in range(3000)}, tmp_path / "file")
    loaded = load_tensors(tmp_path / "file")
    assert len(loaded) == 3000
    assert torch.equal(loaded["layer.2999.weight"], torch.full((2,), 2999.0))


def test_a_header_of_usual_length_is_read(tmp_path):
    save_file({"a": TABLE}, tmp_path / "file.safetensors")
    assert torch.equal(load_tensors(tmp_path / "file.safetensors")["a"], TABLE)


def test_pickles_are_followed_one_after_the_other(tmp_path):
    """The memo of each is its own."""
    file = tmp_path / "file"
    file.write_bytes(pickle.dumps((1, 2)) + pickle.dumps([(3, 4), (5,)]) + b"what follows")
    with file.open("rb") as opened:
        check_pickles(opened, 2)
        assert opened.read() == b"what follows"
