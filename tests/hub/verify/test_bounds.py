"""No tampered copy of a repo passes, and none takes long or much memory to say so."""

import json
import os
import shutil
import socket
import struct
import sys

import pytest

from e4srec_hf.hub.verify.limits import MOST_FILES
from tests.hub.verify import test_tampered_bases, test_tampered_configs, test_tampered_copies, test_tampered_tokenizers
from tests.hub.verify.measuring import measure
from tests.hub.verify.tampering import WEIGHTS, base_config, config, write
from tests.hub.verify.test_tampered_bases import INDEX, SINGLE, sharded
from tests.hub.verify.test_tampered_configs import lora

MB = 1024**2
ABCD = ("training.json", "item_titles.json", "evaluation.json", "sample_recommendations.json")


def filled(name, unit, size, begin="[", end="0]"):
    """A file of about ``size`` bytes of the same."""
    return write(name, begin + unit * (size // len(unit)) + end)


def several(*tampers):
    return lambda folder: [tamper(folder) for tamper in tampers]


def hole(name, size, begin=b""):
    def tamper(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(begin)
        os.truncate(folder / name, size)

    return tamper


def extended(name, size):
    return lambda folder: os.truncate(folder / name, size)


def header(name, length, content=b""):
    def tamper(folder):
        (folder / name).write_bytes(struct.pack("<Q", length) + content)
        os.truncate(folder / name, length + 8)

    return tamper


def many_tensors(name, number):
    tensors = {f"t{n}": {"dtype": "F32", "shape": [], "data_offsets": [4 * n, 4 * n + 4]} for n in range(number)}
    content = json.dumps(tensors).encode()
    return write(name, struct.pack("<Q", len(content)) + content + bytes(4 * number))


def many_files(folder):
    (folder / "many").mkdir()
    for number in range(MOST_FILES + 10):
        (folder / "many" / f"{number}.txt").touch()


def many_shards(folder):
    sharded(folder)
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"] |= {f"t{number}": f"m{number}.safetensors" for number in range(20_000)}
    (folder / INDEX).write_text(json.dumps(content))


def at(name, make):
    def tamper(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return tamper


def bind(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def deep_folders(folder):
    for _ in range(200):
        folder = folder / "a"
    folder.mkdir(parents=True)
    (folder / "extra.py").touch()


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))


def card(head):
    return write("README.md", f"---\n{head}\n---\n# A model\n")


HEAVY = {
    # what is built
    "a regular expression of LoRA that never ends": lora(target_modules=r"(.*)*(.*)*(.*)*x$"),
    "a regular expression in a pattern of ranks": lora(rank_pattern={r"(.*)*(.*)*(.*)*x": 4}),
    "2,048 layers": base_config(num_hidden_layers=2048),
    "512 layers and LoRA on each matrix": several(
        base_config(num_hidden_layers=512), lora(target_modules="all-linear")
    ),
    "a list of layers": base_config(model_type="swin", depths=[1000] * 50),
    "a billion of layers": base_config(num_hidden_layers=10**9),
    "a trillion of groups": base_config(model_type="albert", num_hidden_groups=10**12),
    "a large width": base_config(hidden_size=2**39),
    "a number of 4,000 digits in the base": base_config(vocab_size=10**4000),
    "a history of a billion items": config(max_history=10**9),
    "a million retired items": config(retired_items=list(range(10**6))),
    "a million tokens in the prompt": config(instruction_ids=[0] * 10**6),
    "2,048 layers of SASRec": config(model_type="sasrec", num_hidden_layers=2048),
    # JSON
    **{
        f"deep JSON in {name}": several(filled(name, "[", 200_000, "", ""))
        for name in ("config.json", "base/config.json", "tokenizer.json", "tokenizer_config.json", "item_titles.json")
    },
    "JSON of 900 values inside each other": write("config.json", "[" * 900 + "]" * 900),
    "JSON of 900 values inside each other in the base": write(
        "base/config.json", '{"model_type": "llama", "x": ' + "[" * 900 + "]" * 900 + "}"
    ),
    "four files of 60 MB": several(*(filled(name, "[],", 60 * MB) for name in ABCD)),
    "four files of 3 MB": several(*(filled(name, "[],", 3 * MB) for name in ABCD)),
    "many files of 3 MB": several(*(filled(f"x/{n}.json", "0,", 3 * MB) for n in range(40))),
    "a vocabulary of 60 MB": filled("tokenizer.json", "[],", 60 * MB),
    "a tokenizer of the base of 39 MB of lists": filled("base/tokenizer.json", "[],", 39 * MB),
    "a tokenizer of the base of 39 MB of texts": filled("base/tokenizer.json", '"ab",', 39 * MB),
    "a tokenizer of the base of 39 MB in one text": write(
        "base/tokenizer.json", '{"a": "\U0001f600' + "a" * 39 * MB + '", "a": 0}'
    ),
    "many numbers": filled("config.json", "999,", 4 * MB - 10),
    "a key many times": write("item_titles.json", "{" + '"a": "b",' * 100_000 + '"c": ""}'),
    "keys with one hash": write(
        "training.json", json.dumps({str(n): 0 for n in range(100_000)}).replace("}", ', "0": 1}')
    ),
    "a number of a million digits": write("evaluation.json", '{"a": ' + "1" * 10**6 + "}"),
    # sizes
    **{
        f"3 GB of {name} with a hole": extended(name, 3 * 1024**3)
        for name in (WEIGHTS, SINGLE, "tokenizer.json", "config.json", "README.md", "modeling_e4srec.py")
    },
    "3 GB of notes": hole("notes.txt", 3 * 1024**3, b"a" * 5000),
    "3 GB of nothing": hole("notes.md", 3 * 1024**3),
    "3 GB of events": hole("runs/events.out.tfevents.1", 3 * 1024**3),
    "an index of 3 GB": hole(INDEX, 3 * 1024**3, b"{"),
    "a Python file of 200 MB": hole("histories.py", 200 * MB, b"#" * 5000),
    "a further Python file of 200 MB": hole("more.py", 200 * MB, b"#" * 5000),
    # safetensors
    **{f"a header of 100 MB in {name}": header(name, 100 * 10**6, b"{") for name in (WEIGHTS, SINGLE)},
    "a header of 9 MB of blanks": header(WEIGHTS, 9 * MB, b"{" + b" " * (9 * MB - 1)),
    "a header of 9 MB of lists": header(WEIGHTS, 9 * MB, b"[" * 9 * MB),
    "a header longer than all files": write(WEIGHTS, b"\xff" * 8 + b"{}"),
    "100,000 tensors": many_tensors(WEIGHTS, 100_000),
    "100,000 tensors of the base": many_tensors(SINGLE, 100_000),
    "an index of 20,000 files": many_shards,
    # the folder
    "2,010 files": many_files,
    "200 folders inside each other": deep_folders,
    "a folder named __init__.py": lambda folder: (folder / "__init__.py").mkdir(),
    "a folder named histories.json": lambda folder: (folder / "histories.json").mkdir(),
    "a folder in the place of the card's pickle": lambda folder: (folder / "x.pkl").mkdir(),
    **{f"a pipe as {name}": at(name, os.mkfifo) for name in ("config.json", WEIGHTS, SINGLE, "README.md", "more.py")},
    "a socket as tokenizer.json": at("tokenizer.json", bind),
    "a device as config.json": at("config.json", lambda path: path.symlink_to("/dev/zero")),
    "a device as weights": at(WEIGHTS, lambda path: path.symlink_to("/dev/full")),
    "a folder that holds itself": at("loop", lambda path: path.symlink_to(".")),
    "links in a circle": several(
        at("a.md", lambda path: path.symlink_to("b.md")), at("b.md", lambda path: path.symlink_to("a.md"))
    ),
    "a base that is the repo": lambda folder: (shutil.rmtree(folder / "base"), (folder / "base").symlink_to(".")),
    # the card
    "a card that stands for billions": card(BOMB),
    "a card that merges billions": card(MERGES),
    "a card of brackets": card("a: " + "[" * 60_000),
    "a card of lists": card("- " * 30_000 + "a"),
    "a card that calls": card("a: !!python/object/apply:os.system [ls]"),
    "a card of a number without end": card("a: " + "9" * 60_000),
    "a head of 200 KB": card("a: b\n" * 40_000),
    "a card of 2 MB": write("README.md", "a" * 2 * MB),
    "a card that is not UTF-8": write("README.md", b"---\nlicense: \xff\n---\n"),
    "a head that is a list": card("- a"),
    "requirements": write("requirements.txt", "evil"),
    "modules of another library": write("modules.json", '[{"type": "evil.Module", "path": ""}]'),
}


def _all_tampered():
    rooms = (test_tampered_copies, test_tampered_tokenizers, test_tampered_configs, test_tampered_bases)
    return HEAVY | {f"{name} ({n})": case[0] for n, room in enumerate(rooms) for name, case in room.TAMPERED.items()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_copy_fails_soon_and_in_little_memory(name, fresh):
    HEAVY[name](fresh)
    measured = measure(fresh)
    assert measured.status in (1, 2), measured.report
    assert measured.seconds < 30  # on a machine with nothing else to do: 5
    assert measured.megabytes < 300
    assert len(measured.report) < 100_000


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_no_tampered_copy_passes_takes_five_seconds_or_300_megabytes(fresh_folder, tmp_path):
    """All copies of this room, one after the other; prints the table."""
    rows = []
    for number, (name, tamper) in enumerate({"as it is": lambda folder: None, **_all_tampered()}.items()):
        folder = tmp_path / str(number)
        shutil.copytree(fresh_folder, folder)
        (folder / "checkpoint-1").mkdir()
        tamper(folder)
        rows.append((name, measure(folder)))
        shutil.rmtree(folder)
    for name, row in rows:
        print(f"{row.status}  {row.seconds:6.2f} s  {row.megabytes:6.1f} MB  {name}")
    print(f"{len(rows) - 1} copies, longest {max(r.seconds for _, r in rows):.2f} s, ", end="")
    print(f"most {max(r.megabytes for _, r in rows):.0f} MB")
    assert rows[0][1].status == 0
    assert [name for name, row in rows[1:] if row.status not in (1, 2)] == []
    assert [name for name, row in rows if row.seconds > 5] == []
    assert [name for name, row in rows if row.megabytes > 300] == []
