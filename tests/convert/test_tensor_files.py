"""Tensors come out of files as they went in, and nothing that a pickle names is run."""

import copyreg
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from e4srec_hf.convert.tensor_files import OLDER_TORCH_START, load_named_tensors, load_tensors

TABLE = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
REAL_PICKLE = Path(__file__).parents[2] / "shared" / "data" / "Beauty_SASRec_item_embed.pkl"

older_save = partial(torch.save, _use_new_zipfile_serialization=False)


def write_pickle(content, path, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.mark.parametrize("save", [write_pickle, partial(write_pickle, protocol=3), torch.save, older_save])
@pytest.mark.parametrize(
    "content",
    [TABLE, torch.nn.Parameter(TABLE), TABLE.half(), TABLE.T[1:], torch.arange(4), torch.empty(0, 3)],
    ids=["float", "parameter", "half", "view", "whole numbers", "empty"],
)
def test_a_tensor_comes_out_as_it_went_in(tmp_path, save, content):
    save(content, tmp_path / "file")
    loaded = load_tensors(tmp_path / "file")
    assert loaded.dtype == content.dtype
    assert torch.equal(loaded, content)
    assert not loaded.requires_grad


@pytest.mark.parametrize("save", [write_pickle, torch.save, older_save])
def test_dictionaries_become_names(tmp_path, save):
    inner = OrderedDict(weight=TABLE, bias=TABLE[0])
    save({"input_proj": inner, "score": {"weight": TABLE[1:]}, "plain": TABLE[2]}, tmp_path / "file")
    loaded = load_tensors(tmp_path / "file")
    assert list(loaded) == ["input_proj.weight", "input_proj.bias", "score.weight", "plain"]
    assert torch.equal(loaded["input_proj.weight"], TABLE)
    assert torch.equal(loaded["plain"], TABLE[2])


def test_a_state_dict_of_a_module_comes_out(tmp_path):
    module = torch.nn.Linear(2, 3)
    torch.save(module.state_dict(), tmp_path / "file")
    assert torch.equal(load_tensors(tmp_path / "file")["weight"], module.weight)


@pytest.mark.skipif(not REAL_PICKLE.exists(), reason="the reference's own pickle is not here")
def test_the_references_own_pickle_is_read():
    table = load_tensors(REAL_PICKLE)
    assert (table.shape, table.dtype, table.device.type) == ((12_102, 64), torch.float32, "cpu")
    # read by hand: in the older format of torch the values stand behind their number
    content = REAL_PICKLE.read_bytes()
    start = content.index(struct.pack("<q", 12_102 * 64)) + 8
    by_hand = np.frombuffer(content, "<f4", 12_102 * 64, start).reshape(12_102, 64)
    assert np.array_equal(table.numpy(), by_hand)


class Calls:
    """What a pickle makes of it: a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def short(text):
    """A text as an instruction of a pickle."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def older_torch(pickled, storages=b"\x80\x02]q\x00."):
    """A file of the older format of `torch.save` around a pickle."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return OLDER_TORCH_START + b"\x80\x02M\xe9\x03." + pickle.dumps(system, protocol=2) + pickled + storages


def zipped_torch(pickled):
    """A zip file as `torch.save` writes it around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def inside_a_storage(content):
    """A plain pickle that hands bytes to torch, as that of a tensor does."""
    return b"\x80\x03ctorch.storage\n_load_from_bytes\n" + b"B" + struct.pack("<I", len(content)) + content + b"\x85R."


def hostile_files(marker):
    """Name to content and the name that the refusal must tell."""
    touch = f"touch {marker}"
    command = Calls(os.system, touch)
    protocol_2 = pickle.dumps(command, protocol=2)
    call = b"\x8c" + bytes([len(touch)]) + touch.encode() + b"\x85R."
    system = f"{os.system.__module__}.system"
    return {
        "a call": (pickle.dumps(command), system),
        "a call of protocol 0": (pickle.dumps(command, protocol=0), system),
        "a call beside a tensor": (pickle.dumps({"a": TABLE, "b": command}), system),
        "eval": (pickle.dumps(Calls(eval, f"open({str(marker)!r}, 'w')")), "builtins.eval"),
        "getattr": (pickle.dumps(Calls(getattr, TABLE, "tofile")), "builtins.getattr"),
        "a dotted name": (b"\x80\x04" + short("torch") + short("_utils.os.system") + b"\x93" + call, "torch._utils.os"),
        "a dotted admitted name": (
            b"\x80\x04" + short("torch._utils") + short("_rebuild_tensor_v2.__globals__") + b"\x93.",
            "__globals__",
        ),
        "torch's own loader": (b"\x80\x04" + short("torch") + short("load") + b"\x93" + call, "torch.load"),
        "pickle in a pickle": (pickle.dumps(Calls(pickle.loads, pickle.dumps(command))), "pickle.loads"),
        "older torch": (older_torch(protocol_2), system),
        "zipped torch": (zipped_torch(protocol_2), system),
        "older torch in a pickle": (inside_a_storage(older_torch(protocol_2)), system),
        "zipped torch in a pickle": (inside_a_storage(zipped_torch(protocol_2)), "another format"),
        "a pickle in the place of a storage": (inside_a_storage(pickle.dumps(command)), "another format"),
        "a number in the place of a storage": (inside_a_storage(older_torch(b"\x80\x02K\x01.")), "int in the place"),
        "INST": (b"(S'" + touch.encode() + b"'\nios\nsystem\n.", "instruction STRING"),
        "OBJ": (b"\x80\x02(ccollections\nOrderedDict\no.", "instruction OBJ"),
        "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
        "BUILD": (b"\x80\x02ccollections\nOrderedDict\n)R}" + short("__setstate__") + short("x") + b"sb.", "BUILD"),
        "a number of copyreg": (b"\x80\x02\x82\xf0" + call, "instruction EXT1"),
        "a persistent id": (b"\x80\x02" + short(touch) + b"Q.", "instruction BINPERSID"),
        "a NumPy array": (pickle.dumps(np.zeros(3)), r"numpy\S*multiarray\._reconstruct|numeric\._frombuffer"),
        "a NumPy array of objects": (pickle.dumps(np.array([command], dtype=object)), "numpy"),
        "a NumPy array in a zip": (zipped_torch(pickle.dumps({"a": np.zeros(3)}, protocol=2)), "numpy"),
    }


HOSTILE = sorted(hostile_files("marker"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_pickle_calls_is_refused_by_name_and_not_run(tmp_path, kind):
    marker, file = tmp_path / "marker", tmp_path / "file.pkl"
    content, name = hostile_files(marker)[kind]
    file.write_bytes(content)
    copyreg.add_extension("os", "system", 0xF0)
    try:
        with pytest.raises(ValueError, match=rf"(?s)file\.pkl.*(?:{name})"):
            load_tensors(file)
    finally:
        copyreg.remove_extension("os", "system", 0xF0)
    assert not marker.exists()


def test_the_marker_tells_where_something_runs(tmp_path):
    """The files above are live: the standard library runs one."""
    content, _ = hostile_files(tmp_path / "marker")["a call"]
    pickle.loads(content)
    assert (tmp_path / "marker").exists()


def test_a_refusal_does_not_advise_to_run_it_all_the_same(tmp_path):
    (tmp_path / "file").write_bytes(zipped_torch(pickle.dumps(Calls(os.system, "true"), protocol=2)))
    with pytest.raises(ValueError, match="nothing of it was run") as refusal:
        load_tensors(tmp_path / "file")
    assert "weights_only=False" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def tensor_pickle(storage, offset, size, stride):
    """A plain pickle of a tensor that claims a shape over a storage of its own."""
    return pickle.dumps(Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict()))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_tensor_of_a_gpu_comes_to_the_cpu(tmp_path):
    buffer = io.BytesIO()
    older_save(torch.storage.TypedStorage(wrap_storage=TABLE.untyped_storage(), dtype=TABLE.dtype), buffer)
    on_a_gpu = buffer.getvalue().replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert on_a_gpu != buffer.getvalue()
    storage = Calls(torch.storage._load_from_bytes, on_a_gpu)
    (tmp_path / "file").write_bytes(tensor_pickle(storage, 0, (7, 3), (3, 1)))
    assert torch.equal(load_tensors(tmp_path / "file"), TABLE)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (8,), (1,)), (0, (10**13,), (1,)), (5, (3,), (1,)), (-1, (3,), (1,)), (0, (3,), (-1,)), (0, (10**13,), (0,))],
)
def test_a_tensor_that_claims_more_than_is_stored_is_refused(tmp_path, offset, size, stride):
    storage = torch.storage.TypedStorage(wrap_storage=torch.arange(7.0).untyped_storage(), dtype=torch.float32)
    (tmp_path / "file").write_bytes(tensor_pickle(storage, offset, size, stride))
    with pytest.raises(ValueError, match=r"not whole|too few values"):
        load_tensors(tmp_path / "file")


@pytest.mark.parametrize("save", [torch.save, older_save])
def test_a_saved_tensor_that_claims_more_than_is_stored_is_refused(tmp_path, save):
    save({"a": torch.arange(7.0)}, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    larger = content.replace(b"K\x07", b"K\xff")  # the number of values, in the pickle
    assert larger != content
    if zipfile.is_zipfile(tmp_path / "file"):  # with its check sums in order
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(tmp_path / "file", "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(b"K\x07", b"M\xff\xff"))
    else:
        (tmp_path / "file").write_bytes(larger)
    with pytest.raises(ValueError, match="not whole"):
        load_tensors(tmp_path / "file")


def tar_file():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in ("storages", "tensors", "pickle"):
            file.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not whole"),
        (b"{}", "not whole"),
        (b"PK\x03\x04", "not whole"),
        (OLDER_TORCH_START, "not whole"),
        (tar_file(), "wants to use|not whole"),
        (pickle.dumps(TABLE)[:-20], "not whole"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "place 4294967295 of its memo"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "not whole"),
        (b"\x80\x04B\xff\xff\xff\xffabc.", "not whole"),
        (b"\x80\x02" + b"(" * 5_000 + b"t" * 5_000 + b".", "holds a tuple"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "a is a dict|a.a.a.a is a dict"),
        (pickle.dumps([TABLE]), "holds a list; expected a tensor or a dictionary"),
        (pickle.dumps({"weights": TABLE, "epoch": 3}), "epoch is a int; expected a tensor"),
        (zipped_torch(b"\x80\x02K\x01."), "holds a int"),
    ],
    ids=[
        *("empty", "JSON", "start of a zip", "start of an older file", "tar", "cut off"),
        *("memo", "extension", "bytes", "nested tuples", "a dictionary in itself"),
        *("list", "a whole number in a dictionary", "a whole number in a zip"),
    ],
)
def test_what_is_no_file_of_tensors_is_named(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"file.*(?:{message})"):
        load_tensors(tmp_path / "file")


def test_a_truncated_zip_is_named(tmp_path):
    torch.save({"a": TABLE}, tmp_path / "file")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-100])
    with pytest.raises(ValueError, match="file is no file of tensors, or not whole"):
        load_tensors(tmp_path / "file")


def test_safetensors_are_read_and_a_broken_file_is_named(tmp_path):
    save_file({"a": TABLE}, tmp_path / "file.safetensors")
    assert torch.equal(load_named_tensors(tmp_path / "file.safetensors")["a"], TABLE)
    (tmp_path / "file.safetensors").write_bytes((tmp_path / "file.safetensors").read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"file\.safetensors is no file of tensors, or not whole"):
        load_tensors(tmp_path / "file.safetensors")


def test_a_tensor_without_a_name_is_named(tmp_path):
    torch.save(TABLE, tmp_path / "file")
    with pytest.raises(ValueError, match="file holds a tensor without a name"):
        load_named_tensors(tmp_path / "file")


def test_a_sparse_tensor_is_named(tmp_path):
    torch.save({"a": TABLE.to_sparse()}, tmp_path / "file")
    with pytest.raises(ValueError, match="file: a is no plain tensor of numbers"):
        load_tensors(tmp_path / "file")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "nothing.pkl")
