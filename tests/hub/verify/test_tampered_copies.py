"""Each tampered copy fails with its reason, and nothing hostile in it is run."""

import json
import os
import pickle
import shutil
import struct

import pytest
import torch

from e4srec_hf import __version__
from e4srec_hf.files import TITLES_NAME
from e4srec_hf.hub.verify import verify
from tests.conftest import VOCAB
from tests.hub.verify.tampering import (
    AUTO_MAP,
    HOSTILE_CODE,
    HOSTILE_PICKLE,
    WEIGHTS,
    Hostile,
    base_config,
    change_json,
    config,
    find,
    tokenizer,
    tokenizer_config,
    weights,
    write,
)


def one_byte(folder):
    file = folder / "modeling_e4srec.py"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def hostile_module(folder):
    file = folder / "histories.py"
    file.write_text(HOSTILE_CODE + file.read_text())


def windows_line_ends(folder):
    file = folder / "ranking.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def torch_saved(name):
    return lambda folder: torch.save({"a": torch.zeros(2), "b": Hostile()}, folder / name)


def cut_off(folder):
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 4)


def something_behind(folder):
    with open(folder / WEIGHTS, "ab") as file:
        file.write(HOSTILE_PICKLE)


def huge_header(folder):
    size = 64 * 1024**2
    with open(folder / WEIGHTS, "wb") as file:
        file.write(struct.pack("<Q", size))
        file.truncate(size + 8)


def link(name, target):
    return lambda folder: (folder / name).symlink_to(target)


def key_twice(folder):
    file = folder / "config.json"
    file.write_text(file.read_text().replace("{", '{"auto_map": {"AutoModel": "evil.Evil"},', 1))


def swap_items(content):
    vocabulary = content["model"]["vocab"]
    vocabulary["item 0"], vocabulary["[PAD]"] = 0, 2


def id_twice(content):
    content["model"]["vocab"]["item 0"] = 3


BASE_TOKENIZER = "base/tokenizer.json"
BASE_SETTINGS = "base/tokenizer_config.json"
TAMPERED = {
    # the code
    "a changed byte": (one_byte, "modeling_e4srec.py", f"differs from release {__version__}"),
    "code before the code": (hostile_module, "histories.py", "differs from release"),
    "other line ends": (windows_line_ends, "ranking.py", "only in its line endings"),
    "a missing module": (lambda folder: (folder / "saving.py").unlink(), "saving.py", "is missing"),
    "a further module": (write("extra.py", HOSTILE_CODE), "extra.py", "does not contain"),
    "a module in a subfolder": (write("a/b/extra.py", HOSTILE_CODE), "a/b/extra.py", "does not contain"),
    "a copy in a subfolder": (
        lambda folder: shutil.copy(folder / "histories.py", folder / "base"),
        "base/histories.py",
        "does not contain",
    ),
    "a hidden module": (write(".extra.py", HOSTILE_CODE), ".extra.py", "does not contain"),
    "a module in capitals": (write("HISTORIES.PY", HOSTILE_CODE), "HISTORIES.PY", "code that no release contains"),
    "a compiled module": (write("__pycache__/histories.pyc", "?"), "__pycache__/histories.pyc", "code that no release"),
    "a shared library": (write("histories.so", b"\x7fELF"), "histories.so", "code that no release contains"),
    "a versioned library": (write("libx.so.1", b"\x7fELF"), "libx.so.1", "not known to be harmless"),
    "a shell script": (write("setup.sh", "true"), "setup.sh", "code that no release contains"),
    "a notebook": (write("usage.ipynb", "{}"), "usage.ipynb", "code that no release contains"),
    "a template": (write("chat_template.jinja", "{{ 1 }}"), "chat_template.jinja", "code that no release contains"),
    "a script as text": (write("notes.txt", "#!/bin/sh\n"), "notes.txt", "begins like a script"),
    "a program as text": (write("LICENSE", b"\x7fELF"), "LICENSE", "begins like a program"),
    **{
        f"a script in {name}": (write(name, "<svg><script>alert(1)</script></svg>"), name, "code that no release")
        for name in ("evil.svg", "base/evil.html", "EVIL.SVG")
    },
    "code to generate with": (
        write("base/generation_config.json", '{"custom_generate": "evil/repo"}'),
        "base/generation_config.json",
        "custom_generate is 'evil/repo'",
    ),
    "generation": (write("generation_config.json", "{}"), "generation_config.json", "must not be in"),
    **{
        f"titles with {text}": (write("item_titles.json", text), "item_titles.json", "control characters")
        for text in ('{"a": "\\u001b[2J"}', '{"a\\u0000": "b"}', '{"a": "\u202eb"}', '{"a": "\\u202eb"}')
    },
    **{
        f"a title of {kind}": (write("item_titles.json", json.dumps({"1": "One", "2": title})), TITLES_NAME, what)
        for kind, title, what in (
            ("half a character", "a\ud800", "halves of characters: that of '2'"),
            ("a million characters", "x" * 10**6, "has 1,000,000 characters, more than 1,000"),
            ("one character too many", "x" * 1001, "has 1,001 characters, more than 1,000"),
            ("a control of eight bits", "\x9b2J", "control characters"),
            ("a number", 7, "is not a text"),
        )
    },
    "an id of half a character": (write("item_titles.json", '{"\\ud800": "One"}'), "item_titles.json", "in the id"),
    "an archive": (write("data.tar.gz", b"\x1f\x8b"), "data.tar.gz", "not known to be harmless"),
    # pickles
    "pickled arguments": (torch_saved("training_args.bin"), "training_args.bin", r"unpickled .* \(\.bin\)"),
    "a pickled optimizer": (torch_saved("checkpoint-1/optimizer.pt"), "checkpoint-1/optimizer.pt", "unpickled"),
    "pickled weights beside": (torch_saved("pytorch_model.bin"), "pytorch_model.bin", "unpickled"),
    "a NumPy file": (write("items.npy", HOSTILE_PICKLE), "items.npy", "unpickled"),
    "a pickle as text": (write("notes.txt", HOSTILE_PICKLE), "notes.txt", "begins like a pickle"),
    "a pickle as JSON": (write("item_titles.json", HOSTILE_PICKLE), "item_titles.json", "begins like a pickle"),
    "a zipped pickle as text": (torch_saved("README.md"), "README.md", "begins like a zip archive"),
    "a pickle as an image": (write("plot.png", HOSTILE_PICKLE), "plot.png", "begins like a pickle"),
    "an image that is none": (write("plot.png", "hello"), "plot.png", "is not an image"),
    "binary text": (write("notes.txt", b"a\0b"), "notes.txt", "is not text"),
    "pickled weights": (torch_saved(WEIGHTS), WEIGHTS, "begins like a zip archive, as torch.save writes"),
    # the weights
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS, "is missing"),
    "a pickle as weights": (write(WEIGHTS, HOSTILE_PICKLE), WEIGHTS, "is not a complete safetensors file"),
    "a Git LFS pointer": (
        write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"),
        WEIGHTS,
        "is a Git LFS pointer",
    ),
    "weights cut off": (cut_off, WEIGHTS, "is not a complete safetensors file"),
    "something behind the weights": (something_behind, WEIGHTS, "is not a complete safetensors file"),
    "an empty file": (write(WEIGHTS, ""), WEIGHTS, "too few for its header"),
    "a huge header": (huge_header, WEIGHTS, "no model needs more"),
    "a surplus tensor": (weights(lambda w: w.update(extra=torch.zeros(2))), WEIGHTS, "surplus: extra"),
    "a missing tensor": (weights(lambda w: w.pop("score.weight")), WEIGHTS, "missing: score.weight"),
    "a misshapen tensor": (
        weights(lambda w: w.update({"score.weight": torch.zeros(32, 33)})),
        WEIGHTS,
        r"misshapen: score.weight is \(32, 33\) in the file, the model needs \(32, 32\)",
    ),
    "a misshapen LoRA tensor": (
        weights(lambda w: w.update({"base.layers.1.mlp.up_proj.lora_B.default.weight": torch.zeros(127, 4)})),
        WEIGHTS,
        r"up_proj.lora_B.default.weight is \(127, 4\) in the file, the model needs \(128, 4\)",
    ),
    "another dtype": (
        weights(lambda w: w.update({"score.weight": w["score.weight"].double()})),
        WEIGHTS,
        "has the dtype F64",
    ),
    "metadata": (weights(lambda w: None, metadata={"format": "pt", "x": "y"}), WEIGHTS, "has the metadata"),
    "an index of weights": (write(f"{WEIGHTS}.index.json", "{}"), f"{WEIGHTS}.index.json", "must not be in"),
    "other weights": (
        lambda folder: shutil.copy(folder / WEIGHTS, folder / "other.safetensors"),
        "other.safetensors",
        "additional weights",
    ),
    # the config
    "code of another repo": (
        config(auto_map=AUTO_MAP | {"AutoModel": "evil/repo--modeling_e4srec.E4SRecModel"}),
        "config.json",
        "auto_map is .*evil/repo--",
    ),
    "another module": (config(auto_map=AUTO_MAP | {"AutoModel": "evil.E4SRecModel"}), "config.json", "auto_map is"),
    "a further class": (config(auto_map=AUTO_MAP | {"AutoTokenizer": "histories.X"}), "config.json", "auto_map is"),
    "no auto_map": (config(auto_map=None), "config.json", "auto_map is None"),
    "a key twice": (key_twice, "config.json", "duplicate key"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json", "is missing"),
    "a config that is no JSON": (write("config.json", "{"), "config.json", "is not valid JSON"),
    "deep JSON": (write("item_titles.json", "[" * 100_000), "item_titles.json", "is not valid JSON"),
    "a list as config": (write("config.json", "[]"), "config.json", "has the model type None"),
    "another model": (config(model_type="llama"), "config.json", "has the model type 'llama'"),
    "an odd model type": (config(model_type=["e4srec"]), "config.json", "has the model type None"),
    "a quantization": (config(quantization_config={"load_in_4bit": True}), "config.json", "'quantization_config'"),
    "other weights named": (config(transformers_weights="x.safetensors"), "config.json", "'transformers_weights'"),
    "another config file": (config(configuration_files=["config.5.0.0.json"]), "config.json", "'configuration_files'"),
    "another commit": (config(_commit_hash="0" * 40), "config.json", "'_commit_hash'"),
    "a kernel": (config(attn_implementation="evil/kernel"), "config.json", "'attn_implementation'"),
    "a LoRA that imports": (config(lora={"megatron_core": "evil", "r": 4}), "config.json", "lora has 'megatron_core'"),
    "a LoRA that is none": (config(lora=3), "config.json", "lora has"),
    "a dtype that is none": (config(dtype="load"), "config.json", "has the dtype 'load'"),
    "a newer format": (config(format_version=99), "config.json", "has format_version 99.*upgrade"),
    "a value that no model has": (config(vocab_size="many"), "config.json", "no model can be built"),
    "an absolute path": (config(base_model_name_or_path="/etc"), "config.json", "'/etc', outside the repo"),
    "a path out of the folder": (config(base_model_name_or_path="./../x"), "config.json", "outside the repo"),
    "a URL": (config(base_model_name_or_path="https://evil.example/x"), "config.json", "outside the repo"),
    "a home folder": (config(base_model_name_or_path="~/base"), "config.json", "outside the repo"),
    "a path of Windows": (config(base_model_name_or_path="C:\\base"), "config.json", "outside the repo"),
    "a deep relative path": (config(base_model_name_or_path="a/b/c"), "config.json", "not a Hub id"),
    "a base that is missing": (config(base_model_name_or_path="./x"), "x/config.json", "is missing"),
    "itself as its base": (config(base_model_name_or_path="./"), "config.json", "is './', outside the repo"),
    # the base
    "a base with code of its own": (
        base_config(auto_map={"AutoModel": "evil.Evil"}),
        "base/config.json",
        "has an auto_map",
    ),
    "a base that transformers does not have": (
        base_config(model_type="evil"),
        "base/config.json",
        "'evil', which is not in transformers",
    ),
    "a base that is an adapter": (
        write("base/adapter_config.json", '{"base_model_name_or_path": "evil/base"}'),
        "base/adapter_config.json",
        "must not be in",
    ),
    "a base with a kernel": (
        base_config(attn_implementation="a/b"),
        "base/config.json",
        "attn_implementation is 'a/b'",
    ),
    "a base elsewhere": (base_config(configuration_files=["x.json"]), "base/config.json", "refers to other files"),
    "a base of a million layers": (base_config(num_hidden_layers=10**6), "base/config.json", "has .*num_hidden_layers"),
    "a pickled base": (write("base/pytorch_model.bin", HOSTILE_PICKLE), "base/pytorch_model.bin", "unpickled"),
    # what stands beside
    "an adapter's config": (
        write("adapter_config.json", '{"base_model_name_or_path": "evil/base"}'),
        "adapter_config.json",
        "must not be in",
    ),
    "an adapter's config in capitals": (write("Adapter_Config.json", "{}"), "Adapter_Config.json", "in other spelling"),
    "a processor with code": (
        write("processor_config.json", '{"auto_map": {"AutoProcessor": "evil.P"}}'),
        "processor_config.json",
        "has an auto_map",
    ),
    "two names for one file": (
        lambda folder: (write("notes.txt", "a")(folder), write("Notes.txt", "b")(folder)),
        r"(?i)notes\.txt",
        "in other spelling",
    ),
    # the item tokenizer
    "a tokenizer with code": (
        tokenizer_config(auto_map={"AutoTokenizer": ["evil.T", None]}),
        "tokenizer_config.json",
        "has an auto_map",
    ),
    "a tokenizer with code, the older way": (
        tokenizer_config(auto_map=["evil.T", None]),
        "tokenizer_config.json",
        "has an auto_map",
    ),
    "another tokenizer class": (
        tokenizer_config(tokenizer_class="EvilTokenizer"),
        "tokenizer_config.json",
        "names the class 'EvilTokenizer'",
    ),
    "another tokenizer file": (
        tokenizer_config(fast_tokenizer_files=["x.json"]),
        "tokenizer_config.json",
        "'fast_tokenizer_files'",
    ),
    "a chat template": (tokenizer_config(chat_template="{{ x }}"), "tokenizer_config.json", "'chat_template'"),
    "another padding token": (tokenizer_config(pad_token="item 0"), "tokenizer_config.json", "pad_token is 'item 0'"),
    "no tokenizer settings": (
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        "tokenizer_config.json",
        "is missing",
    ),
    "an item in the place of [PAD]": (tokenizer(swap_items), "tokenizer.json", r"\[PAD\] is 2, not 0"),
    "two items with one id": (tokenizer(id_twice), "tokenizer.json", "are not 0, 1, 2"),
    "an item too many": (
        tokenizer(lambda c: c["model"]["vocab"].update(new=VOCAB)),
        "tokenizer.json",
        "has 33 tokens, but the model has 32",
    ),
    "a normalizer": (
        tokenizer(lambda c: c.update(normalizer={"type": "Lowercase"})),
        "tokenizer.json",
        "its normalizer is",
    ),
    "an added token": (
        tokenizer(lambda c: c["added_tokens"].append({"id": 9, "content": "x"})),
        "tokenizer.json",
        "its added_tokens is",
    ),
    "a tokenizer of another kind": (
        tokenizer(lambda c: c["model"].update(type="BPE")),
        "tokenizer.json",
        "the type of its model is 'BPE'",
    ),
    "a tokenizer that is none": (write("tokenizer.json", "{}"), "tokenizer.json", "is not a tokenizer"),
    "special tokens beside": (write("special_tokens_map.json", "{}"), "special_tokens_map.json", "must not be in"),
    # the tokenizer of the base
    "a base's tokenizer that is none": (write(BASE_TOKENIZER, '{"a": 1}'), BASE_TOKENIZER, "is not a tokenizer"),
    "a base's tokenizer without a model": (
        lambda folder: change_json(folder / BASE_TOKENIZER, model={}),
        BASE_TOKENIZER,
        "is not a tokenizer",
    ),
    "another instruction": (config(instruction="Ignore it: "), "config.json", "instruction_ids are not the tokens"),
    "a response more": (config(response="x", response_ids=[0]), "config.json", "response_ids are not the tokens"),
    **{
        f"a base's tokenizer with {name} {value!r}": (
            lambda folder, name=name, value=value: change_json(folder / BASE_SETTINGS, **{name: value}),
            BASE_SETTINGS,
            f"{name} is",
        )
        for name, value in (
            ("tokenizer_class", "EvilTokenizer"),
            ("tokenizer_class", 3),
            ("model_max_length", 1),
            ("model_max_length", 10**30),
            ("model_max_length", "9"),
        )
    },
    # the folder
    "a link out of the folder": (link("notes.txt", "/etc/hostname"), "notes.txt", "is a link to /etc/hostname"),
    "a linked folder": (link("docs", "/etc"), "docs", "is a link to /etc"),
    "a link to nowhere": (link("notes.txt", "nowhere"), "notes.txt", "is a link to nowhere"),
    "a circle of links": (link("notes.txt", "notes.txt"), "notes.txt", "is a link to notes.txt"),
    "a pipe": (lambda folder: os.mkfifo(folder / "notes.txt"), "notes.txt", "is not a regular file"),
    "a name with a backslash": (write("..\\notes.txt", "a"), r"\.\.\\notes\.txt", "leads outside the repo"),
    "a name that hides its kind": (write("a\u202etxt.md", "a"), "a\u202etxt.md", "looks like another"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_copy_fails_with_the_reason_and_nothing_of_it_is_run(name, fresh, marker):
    tamper, where, what = TAMPERED[name]
    (fresh / "checkpoint-1").mkdir()
    tamper(fresh)
    verification = verify(fresh)
    assert verification.exit_status == 1
    assert not verification.passed
    assert find(verification, where, what), str(verification)
    assert not marker.exists()


def test_the_hostile_files_of_these_tests_are_hostile(marker):
    pickle.loads(HOSTILE_PICKLE)
    assert marker.exists()
    marker.unlink()
    exec(HOSTILE_CODE)
    assert marker.exists()


def test_a_file_is_not_a_folder(fresh):
    finding = verify(fresh / "config.json").findings[0]
    assert (finding.kind, finding.why) == ("unchecked", "it is a file: give the folder of a model")
