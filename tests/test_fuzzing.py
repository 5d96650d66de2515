"""Readers of what others made meet broken files: each is read, or refused as it should be, and soon.

Each reader gets as many seconds as ``FUZZ_SECONDS`` says; the files are the same each time.
"""

import contextlib
import io
import os
import pickle
import random
import tarfile
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from e4srec_hf.cards.metadata import read_metadata
from e4srec_hf.convert.tensor_files import load_tensors
from e4srec_hf.data import load_sequences
from e4srec_hf.errors import is_mistake
from e4srec_hf.files import code_files
from e4srec_hf.hub.verify.base_weights import build_base
from e4srec_hf.hub.verify.bases import check_base_config
from e4srec_hf.hub.verify.configs import check_config
from e4srec_hf.hub.verify.headers import read_header, tensors_without_numbers
from e4srec_hf.hub.verify.json_files import has_auto_map, parse
from e4srec_hf.hub.verify.released_code import check_code
from e4srec_hf.hub.verify.sources import Folder
from e4srec_hf.hub.verify.tokenizers import check_tokenizer
from e4srec_hf.preparation.titles import clean_title
from tests.cli.running import run_both

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
#: What a reader may take for one small file, on a busy machine.
MOST_SECONDS = 20
#: Pieces that mean something to one of the readers.
PIECES = [
    *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"\0", b"\n", b"\r", b"\t", b"\xff", b"\xef\xbb\xbf", b"::"),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"0.5", b"9" * 400, b"18446744073709551615", b'"auto_map": {},'),
    *(b"---\n", b"&a ", b"*a", b"<<: ", b"!!python/object/apply:os.system [x]", b"\\ud800", b"\xf0\x9f\x98\x80"),
    *(b"\x80\x04", b"cos\nsystem\n", b"h\x00", b"\x8c\x02os", b"R", b"b", b"(", b")", b"\x85", b"\x86", b"."),
    *(b"PK\x03\x04", b"\x1f\x8b", b"\xff" * 8, b"1970-01-01", b"import os"),
]


def mutated(seeds, draw):
    """One of the files with some changes."""
    content = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        begin = draw.randrange(len(content) + 1)
        end = min(len(content), begin + draw.choice((1, 2, 8, 64)))
        change = draw.randrange(6)
        if change == 0 and content:
            content[begin - 1] ^= 1 << draw.randrange(8)
        elif change == 1:
            del content[begin:end]
        elif change == 2:
            content[begin:begin] = draw.choice(PIECES) * draw.choice((1, 1, 3, 1000))
        elif change == 3:
            content[begin:begin] = content[begin:end] * draw.choice((1, 2, 500))
        elif change == 4:
            content[begin:end] = draw.randbytes(end - begin)
        else:
            del content[begin:]
    return bytes(content)


def fuzz(seeds, read):
    """Let ``read`` meet mutated files; it may raise what is a mistake of a user, and nothing else."""
    draw = random.Random(16)
    for seed in seeds:
        read(seed)
    end, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        content, began = mutated(seeds, draw), time.monotonic()
        number += 1
        try:
            read(content)
        except Exception as error:
            if not is_mistake(error) and not isinstance(error, RecursionError):
                raise AssertionError(f"file {number}, {content[:300]!r}") from error
        assert time.monotonic() - began < MOST_SECONDS, f"file {number}, {content[:300]!r}"
    assert number > 1


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, item_table, item_tokenizer):
    from e4srec_hf import E4SRecModel
    from e4srec_hf.training.saving import save_trained
    from e4srec_hf.training.tiny_base import make_tiny_base

    folder = tmp_path_factory.mktemp("fuzzed") / "model"
    save_trained(
        E4SRecModel.from_base(make_tiny_base(folder / "base", hidden_size=8), item_table), item_tokenizer, folder
    )
    return folder


def test_json(model_folder):
    files = ("config.json", "tokenizer_config.json", "base/config.json")
    fuzz([(model_folder / name).read_bytes() for name in files], lambda content: has_auto_map(parse(content)))


def test_the_config(model_folder):
    fuzz([(model_folder / "config.json").read_bytes()], lambda content: list(check_config(parse(content))))


def test_the_config_of_a_base(model_folder):
    def read(content):
        config = parse(content)
        if not any(finding.kind == "failed" for finding in check_base_config("", config, 60)):
            with contextlib.suppress(Exception):  # verify takes any for a failure
                build_base(config)

    fuzz([(model_folder / "base/config.json").read_bytes()], read)


def test_the_item_tokenizer(model_folder):
    settings = parse((model_folder / "tokenizer_config.json").read_bytes())

    def read(content):
        list(check_tokenizer({"tokenizer.json": parse(content), "tokenizer_config.json": settings}, 32))

    fuzz([(model_folder / "tokenizer.json").read_bytes()], read)


def test_the_header_of_weights(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4).half()}, tmp_path / "file", metadata={"format": "pt"})
    seed = (tmp_path / "file").read_bytes()

    def read(content):
        (tmp_path / "file").write_bytes(content)
        read_header(Folder(str(tmp_path)), "file")
        tensors_without_numbers(tmp_path / "file")

    fuzz([seed], read)


def test_the_head_of_a_card(model_folder):
    head = b"---\nlicense: mit\ntags: [a, b]\nmodel-index:\n- name: x\n  results:\n  - value: 0.5\n---\n# A model\n"
    fuzz([(model_folder / "README.md").read_bytes(), head], lambda content: read_metadata(content.decode()))


def test_python_files(tmp_path):
    files = {file.name: file.read_bytes() for file in code_files("sasrec")}
    name = next(iter(files))

    def read(content):
        (tmp_path / name).write_bytes(content)
        release, findings = check_code(Folder(str(tmp_path)), "sasrec")
        assert (release is None) == bool(findings)

    fuzz([files[name]], read)


def test_files_of_tensors(tmp_path):
    content, file = {"a": torch.zeros(2, 3), "b": {"c": torch.ones(4)}}, tmp_path / "file.pkl"
    seeds = [pickle.dumps(content), pickle.dumps(torch.zeros(3), protocol=2)]
    for zipped in (True, False):
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        seeds.append(file.read_bytes())

    def read(content):
        file.write_bytes(content)
        message = ""
        try:
            load_tensors(file)
        except ValueError as error:
            message = str(error)
        assert "weights_only" not in message
        assert "\n" not in message

    fuzz(seeds, read)


def test_titles():
    fuzz([b"<b>A &amp; B</b> &lt;i&gt; C", b"caf\xc3\xa9 &#x41;"], lambda content: clean_title(content.decode()))


@pytest.mark.parametrize(
    ("name", "seeds"),
    {
        "log.txt": [b"1 5 6 7\n2 8 9\n3 1 1 1 1\n", b"u a,b c\nv d\n"],
        "log.jsonl": [b'{"user_id": "a", "item_ids": ["x", "y"]}\n{"user_id": 2, "item_ids": [3]}\n'],
        "log.json": [b'[{"user_id": "a", "item_ids": ["x", "y"]}, {"user_id": 2, "item_ids": [3]}]'],
    }.items(),
)
def test_sequences(name, seeds, tmp_path):
    file = tmp_path / name

    def read(content):
        file.write_bytes(content)
        load_sequences(file)

    fuzz(seeds, read)


SOURCES = {
    "table": (
        b"userId,itemId,timestamp\na,x,1600000000\na,y,1600000001\nb,x,1600000002\nb,y,1600000003\n",
        "log.csv",
        ("--user-column", "userId", "--item-column", "itemId", "--time-column", "timestamp"),
    ),
    "amazon-2018": (
        b'{"reviewerID": "a", "asin": "x", "unixReviewTime": 1600000000}\n'
        b'{"reviewerID": "a", "asin": "y", "unixReviewTime": 1600000001}\n',
        "log.json",
        (),
    ),
    "movielens": (b"1::2::5::978300760\n1::3::4::978300761\n2::2::5::978300762\n", "ratings.dat", ()),
}


def plain(content, name):
    return content


def zipped(content, name):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def tarred(content, name):
    packed, member = io.BytesIO(), tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def as_array(content, name):
    return b"[" + b",".join(content.splitlines()) + b"]"


PACKED = [(pack, source) for pack in (plain, zipped, tarred) for source in SOURCES] + [(as_array, "amazon-2018")]


@pytest.mark.parametrize(("pack", "source"), PACKED, ids=lambda value: getattr(value, "__name__", value))
def test_raw_logs(pack, source, tmp_path):
    content, name, options = SOURCES[source]
    file = tmp_path / {zipped: f"{name}.zip", tarred: f"{name}.tar"}.get(pack, name)
    number = iter(range(10**6))

    def prepare(content):
        file.write_bytes(content)
        cores = ("--user-core", 1, "--item-core", 1)
        run_both("prepare", source, file, "--output", tmp_path / str(next(number)), *cores, *options)

    def read(content):
        with contextlib.suppress(AssertionError):  # a mistake of the user: another exit status
            prepare(content)

    seed = pack(content, name)
    prepare(seed)
    fuzz([seed], read)
