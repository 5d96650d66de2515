"""A fresh repo passes; each tampered copy fails with its reason, and nothing hostile in it is run."""

import importlib
import json
import os
import pickle
import re
import runpy
import shutil
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel, __version__
from e4srec_hf.cards import refresh_model_card
from e4srec_hf.tiny_base import make_tiny_base
from e4srec_hf.training import save_trained
from e4srec_hf.verify import Verification, verify
from e4srec_hf.verify.findings import failed, note, unchecked
from e4srec_hf.verify.released_code import record, released_code
from e4srec_hf.verify.sources import strange_names
from tests.conftest import INSTRUCTION, RESPONSE, VOCAB

CODE = importlib.import_module("e4srec_hf.verify.released_code")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def fresh_folder(tmp_path_factory, item_table, item_tokenizer):
    """An adapter with its base inside its folder, its items and its card."""
    folder = tmp_path_factory.mktemp("fresh") / "adapter"
    base = make_tiny_base(folder / "base", hidden_size=32, texts=(INSTRUCTION, RESPONSE))
    model = E4SRecModel.from_base(base, item_table, instruction=INSTRUCTION, response=RESPONSE, lora={"r": 4})
    save_trained(model, item_tokenizer, folder)
    refresh_model_card(folder)
    return folder


@pytest.fixture
def fresh(fresh_folder, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(fresh_folder, tmp_path / "adapter"))


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that hostile code in a repo makes, if it is run."""
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    return tmp_path / "marker"


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_tokenizer(folder, change):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_weights(folder, change, metadata=None):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata=metadata or {"format": "pt"})


class Hostile:
    """Makes the marker when it is unpickled."""

    def __reduce__(self):
        return eval, ("open(__import__('os').environ['MARKER'], 'w').close()",)


HOSTILE_CODE = "import os\nopen(os.environ['MARKER'], 'w').close()\n"
HOSTILE_PICKLE = pickle.dumps(Hostile())
AUTO_MAP = {"AutoConfig": "configuration_e4srec.E4SRecConfig", "AutoModel": "modeling_e4srec.E4SRecModel"}


def write(name, content):
    def tamper(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return tamper


def config(**changes):
    return lambda folder: change_json(folder / "config.json", **changes)


def base_config(**changes):
    return lambda folder: change_json(folder / "base" / "config.json", **changes)


def tokenizer_config(**changes):
    return lambda folder: change_json(folder / "tokenizer_config.json", **changes)


def tokenizer(change):
    return lambda folder: change_tokenizer(folder, change)


def weights(change, **kwargs):
    return lambda folder: change_weights(folder, change, **kwargs)


def one_byte(folder):
    file = folder / "modeling_e4srec.py"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def hostile_module(folder):
    file = folder / "losses.py"
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


TAMPERED = {
    # the code
    "a changed byte": (one_byte, "modeling_e4srec.py", f"differs from release {__version__}"),
    "code before the code": (hostile_module, "losses.py", "differs from release"),
    "other line ends": (windows_line_ends, "ranking.py", "in the ends of its lines alone"),
    "a missing module": (lambda folder: (folder / "saving.py").unlink(), "saving.py", "is missing"),
    "a further module": (write("extra.py", HOSTILE_CODE), "extra.py", "does not bring"),
    "a module in a subfolder": (write("a/b/extra.py", HOSTILE_CODE), "a/b/extra.py", "does not bring"),
    "a copy in a subfolder": (
        lambda folder: shutil.copy(folder / "losses.py", folder / "base"),
        "base/losses.py",
        "does not bring",
    ),
    "a hidden module": (write(".extra.py", HOSTILE_CODE), ".extra.py", "does not bring"),
    "a module in capitals": (write("LOSSES.PY", HOSTILE_CODE), "LOSSES.PY", "code that no release brings"),
    "a compiled module": (write("__pycache__/losses.pyc", "?"), "__pycache__/losses.pyc", "code that no release"),
    "a shared library": (write("losses.so", b"\x7fELF"), "losses.so", "code that no release brings"),
    "a versioned library": (write("libx.so.1", b"\x7fELF"), "libx.so.1", "not known to be harmless"),
    "a shell script": (write("setup.sh", "true"), "setup.sh", "code that no release brings"),
    "a notebook": (write("usage.ipynb", "{}"), "usage.ipynb", "code that no release brings"),
    "a template": (write("chat_template.jinja", "{{ 1 }}"), "chat_template.jinja", "code that no release brings"),
    "a script as text": (write("notes.txt", "#!/bin/sh\n"), "notes.txt", "begins like a script"),
    "a program as text": (write("LICENSE", b"\x7fELF"), "LICENSE", "begins like a program"),
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
    "an image that is none": (write("plot.png", "hello"), "plot.png", "is no image"),
    "binary text": (write("notes.txt", b"a\0b"), "notes.txt", "is no text"),
    "pickled weights": (torch_saved(WEIGHTS), WEIGHTS, "begins like a zip archive, as torch.save writes"),
    # the weights
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS, "is missing"),
    "a pickle as weights": (write(WEIGHTS, HOSTILE_PICKLE), WEIGHTS, "is no whole safetensors file"),
    "a Git LFS pointer": (
        write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"),
        WEIGHTS,
        "pointer of Git LFS",
    ),
    "weights cut off": (cut_off, WEIGHTS, "is no whole safetensors file"),
    "something behind the weights": (something_behind, WEIGHTS, "is no whole safetensors file"),
    "an empty file": (write(WEIGHTS, ""), WEIGHTS, "too few for the header"),
    "a huge header": (huge_header, WEIGHTS, "no model needs more"),
    "a surplus tensor": (weights(lambda w: w.update(extra=torch.zeros(2))), WEIGHTS, "has a tensor extra"),
    "a missing tensor": (weights(lambda w: w.pop("score.weight")), WEIGHTS, "lacks the tensor score.weight"),
    "a misshapen tensor": (
        weights(lambda w: w.update({"score.weight": torch.zeros(32, 33)})),
        WEIGHTS,
        r"score.weight has the shape \(32, 33\), the config asks for \(32, 32\)",
    ),
    "a misshapen LoRA tensor": (
        weights(lambda w: w.update({"base.layers.1.mlp.up_proj.lora_B.default.weight": torch.zeros(127, 4)})),
        WEIGHTS,
        r"up_proj.lora_B.default.weight has the shape \(127, 4\), the config asks for \(128, 4\)",
    ),
    "another dtype": (
        weights(lambda w: w.update({"score.weight": w["score.weight"].double()})),
        WEIGHTS,
        "has the dtype F64",
    ),
    "metadata": (weights(lambda w: None, metadata={"format": "pt", "x": "y"}), WEIGHTS, "has the metadata"),
    "an index of weights": (write(f"{WEIGHTS}.index.json", "{}"), f"{WEIGHTS}.index.json", "has no place"),
    "other weights": (
        lambda folder: shutil.copy(folder / WEIGHTS, folder / "other.safetensors"),
        "other.safetensors",
        "beside",
    ),
    # the config
    "code of another repo": (
        config(auto_map=AUTO_MAP | {"AutoModel": "evil/repo--modeling_e4srec.E4SRecModel"}),
        "config.json",
        "auto_map is .*evil/repo--",
    ),
    "another module": (config(auto_map=AUTO_MAP | {"AutoModel": "evil.E4SRecModel"}), "config.json", "auto_map is"),
    "a further class": (config(auto_map=AUTO_MAP | {"AutoTokenizer": "losses.X"}), "config.json", "auto_map is"),
    "no auto_map": (config(auto_map=None), "config.json", "auto_map is None"),
    "a key twice": (key_twice, "config.json", "a key comes twice"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json", "is missing"),
    "a config that is no JSON": (write("config.json", "{"), "config.json", "is no sound JSON"),
    "deep JSON": (write("item_titles.json", "[" * 100_000), "item_titles.json", "is no sound JSON"),
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
    "a newer format": (config(format_version=2), "config.json", "has format_version 2.*upgrade"),
    "a value that no model has": (config(vocab_size="many"), "config.json", "no model can be built"),
    "an absolute path": (config(base_model_name_or_path="/etc"), "config.json", "'/etc', outside the repo"),
    "a path out of the folder": (config(base_model_name_or_path="./../x"), "config.json", "outside the repo"),
    "a URL": (config(base_model_name_or_path="https://evil.example/x"), "config.json", "outside the repo"),
    "a home folder": (config(base_model_name_or_path="~/base"), "config.json", "outside the repo"),
    "a path of Windows": (config(base_model_name_or_path="C:\\base"), "config.json", "outside the repo"),
    "a deep relative path": (config(base_model_name_or_path="a/b/c"), "config.json", "no Hub id"),
    "a base that is missing": (config(base_model_name_or_path="./x"), "x/config.json", "is missing"),
    "itself as its base": (config(base_model_name_or_path="./"), "config.json", "which is not in transformers"),
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
        "has no place",
    ),
    "a base with a kernel": (
        base_config(attn_implementation="a/b"),
        "base/config.json",
        "attn_implementation is 'a/b'",
    ),
    "a base elsewhere": (base_config(configuration_files=["x.json"]), "base/config.json", "hands over"),
    "a base of a million layers": (base_config(num_hidden_layers=10**6), "base/config.json", "asks for"),
    "a pickled base": (write("base/pytorch_model.bin", HOSTILE_PICKLE), "base/pytorch_model.bin", "unpickled"),
    # what stands beside
    "an adapter's config": (
        write("adapter_config.json", '{"base_model_name_or_path": "evil/base"}'),
        "adapter_config.json",
        "has no place",
    ),
    "an adapter's config in capitals": (write("Adapter_Config.json", "{}"), "Adapter_Config.json", "in other letters"),
    "a processor with code": (
        write("processor_config.json", '{"auto_map": {"AutoProcessor": "evil.P"}}'),
        "processor_config.json",
        "has an auto_map",
    ),
    "two names for one file": (
        lambda folder: (write("notes.txt", "a")(folder), write("Notes.txt", "b")(folder)),
        r"(?i)notes\.txt",
        "in other letters",
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
    "an item in the place of [PAD]": (tokenizer(swap_items), "tokenizer.json", r"\[PAD\] is 2, and not 0"),
    "two items with one id": (tokenizer(id_twice), "tokenizer.json", "do not count up"),
    "an item too many": (
        tokenizer(lambda c: c["model"]["vocab"].update(new=VOCAB)),
        "tokenizer.json",
        "has 33 tokens, the model 32",
    ),
    "a normalizer": (tokenizer(lambda c: c.update(normalizer={"type": "Lowercase"})), "tokenizer.json", "a normalizer"),
    "an added token": (
        tokenizer(lambda c: c["added_tokens"].append({"id": 9, "content": "x"})),
        "tokenizer.json",
        "adds the tokens",
    ),
    "a tokenizer of another kind": (tokenizer(lambda c: c["model"].update(type="BPE")), "tokenizer.json", "is a BPE"),
    "a tokenizer that is none": (write("tokenizer.json", "{}"), "tokenizer.json", "is no tokenizer"),
    "special tokens beside": (write("special_tokens_map.json", "{}"), "special_tokens_map.json", "has no place"),
    # the folder
    "a link out of the folder": (link("notes.txt", "/etc/hostname"), "notes.txt", "outside the folder"),
    "a linked folder": (link("docs", "/etc"), "docs", "outside the folder"),
    "a link to nowhere": (link("notes.txt", "nowhere"), "notes.txt", "leads nowhere"),
    "a circle of links": (link("notes.txt", "notes.txt"), "notes.txt", "leads nowhere"),
    "a pipe": (lambda folder: os.mkfifo(folder / "notes.txt"), "notes.txt", "is no regular file"),
    "a name with a backslash": (write("..\\notes.txt", "a"), r"\.\.\\notes\.txt", "leads elsewhere"),
    "a name that hides its kind": (write("a\u202etxt.md", "a"), "a\u202etxt.md", "hides what it is"),
}


def find(verification, where, what):
    """The failures in a file with some words."""
    return [
        finding
        for finding in verification.findings
        if finding.kind == "failed" and re.fullmatch(where, finding.where) and re.search(what, finding.what)
    ]


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


def test_a_fresh_folder_passes_without_a_word(fresh):
    verification = verify(fresh)
    assert verification == Verification(str(fresh), None, __version__, ())
    assert verification.passed
    assert verification.exit_status == 0
    assert str(verification) == f"{fresh}: passed\nits Python files are those of release {__version__}, byte for byte"


def test_what_else_lies_in_a_repo_and_does_no_harm_passes(fresh):
    for name, content in {
        "LICENSE": "Apache",
        ".gitattributes": "*.safetensors filter=lfs",
        "item_titles.json": '{"item 1": "auto_map"}',
        "docs/plot.png": b"\x89PNG\r\n",
        "runs/events.out.tfevents.1.host": b"\x18\0\0\0",
        "empty.txt": "",
        "base/merges.txt": "a b",
        "base/special_tokens_map.json": "{}",
    }.items():
        write(name, content)(fresh)
    subprocess.run(["git", "init", "--quiet", fresh], check=True)
    verification = verify(fresh)
    assert verification.passed, str(verification)
    assert [(finding.kind, finding.where) for finding in verification.findings] == [("note", ".git")]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"head": "tied"}),
        ("llama", {"tuning": "full"}),
        ("llama", {"lora": {"r": 3, "use_dora": True, "target_modules": "all-linear"}}),
        ("llama", {"lora": {"r": 3, "rank_pattern": {"up_proj": 5}, "lora_bias": True, "bias": "lora_only"}}),
        ("gpt2", {}),
        ("opt", {}),
        ("gemma3", {"tuning": "full"}),
    ],
)
def test_models_of_all_kinds_pass(kind, settings, make_base, text_tokenizer, item_table, item_tokenizer, tmp_path):
    make_base(kind).save_pretrained(tmp_path / "model" / "base")
    text_tokenizer.save_pretrained(tmp_path / "model" / "base")
    model = E4SRecModel.from_base(tmp_path / "model" / "base", item_table, **settings)
    save_trained(model, item_tokenizer, tmp_path / "model")
    if settings.get("tuning") == "full":
        shutil.rmtree(tmp_path / "model" / "base")
    verification = verify(tmp_path / "model")
    assert verification.passed, str(verification)
    assert verification.findings == ()
    change_json(tmp_path / "model" / "config.json", vocab_size=VOCAB + 1)
    assert find(verify(tmp_path / "model"), WEIGHTS, r"item_embeddings.weight has the shape \(32, 12\)")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sasrec_passes_and_a_wrong_width_fails(dtype, item_tokenizer, tmp_path):
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8)).to(dtype)
    save_trained(model, item_tokenizer, tmp_path)
    assert verify(tmp_path) == Verification(str(tmp_path), None, __version__, ())
    change_json(tmp_path / "config.json", hidden_size=16)
    assert find(
        verify(tmp_path), WEIGHTS, r"item_embeddings.weight has the shape \(32, 8\), the config asks for \(32, 16\)"
    )
    change_json(tmp_path / "config.json", hidden_size=8, dtype="float16")
    assert verify(tmp_path).passed


def test_a_base_in_the_config_that_needs_code_is_not_built(fresh, base_dir, item_table, item_tokenizer, tmp_path):
    model = E4SRecModel.from_base(base_dir, item_table, tuning="full")
    save_trained(model, item_tokenizer, tmp_path / "full")
    file = tmp_path / "full" / "config.json"
    base = json.loads(file.read_text())["base_config"]
    for changes, what in [
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "has an auto_map"),
        ({"model_type": "evil"}, "not in transformers"),
        ({"model_type": "e4srec"}, "not in transformers"),
        ({"num_hidden_layers": 10**6}, "asks for"),
    ]:
        change_json(file, base_config=base | changes)
        assert find(verify(tmp_path / "full"), "config.json: base_config", what)
    change_json(file, base_config=base, base_model_name_or_path="org/base")
    assert find(verify(tmp_path / "full"), "config.json", "names a base, 'org/base'")


@pytest.fixture
def on_a_hub_base(fresh):
    """The adapter, its base named by a Hub id."""
    shutil.rmtree(fresh / "base")
    change_json(fresh / "config.json", base_model_name_or_path="org/base", base_model_revision="0" * 40)
    return fresh


def test_where_the_base_cannot_be_reached_there_is_no_pass_unless_it_is_left_out(on_a_hub_base):
    verification = verify(on_a_hub_base)
    assert verification.exit_status == 2
    assert [finding.kind for finding in verification.findings] == ["unchecked", "note"]
    assert "org/base: the base could not be read" in str(verification)
    without = verify(on_a_hub_base, check_base=False)
    assert without.passed
    assert [(finding.kind, finding.what) for finding in without.findings] == [
        ("note", "the LoRA tensors were checked by name and rank alone")
    ]


LORA = "base.layers.0.mlp.up_proj.lora_{}.default.weight"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda w: w.pop(LORA.format("A")), "lacks the tensor .*lora_A.* the other half"),
        (lambda w: w.update({LORA.format("A"): torch.zeros(5, 32)}), r"has the shape \(5, 32\), .* \(4, 'any'\)"),
        (lambda w: w.update({"base.embed.weight": torch.zeros(5, 32)}), "base.embed.weight that no adapter"),
        (lambda w: w.update({"base.q_proj.lora_A.default.weight": torch.zeros(4, 2)}), "q_proj.* that no adapter"),
        (lambda w: w.pop("item_embeddings.weight"), "lacks the tensor item_embeddings.weight"),
        (lambda w: w.update({"input_proj.bias": torch.zeros(31)}), r"has the shape \(31,\)"),
        (lambda w: [w.pop(name) for name in list(w) if ".lora_" in name], "has no LoRA weights"),
    ],
)
def test_without_the_base_tensors_are_checked_by_name_and_rank(change, what, on_a_hub_base):
    change_weights(on_a_hub_base, change)
    assert find(verify(on_a_hub_base, check_base=False), WEIGHTS, what)


def test_an_unpinned_base_is_a_note(on_a_hub_base):
    change_json(on_a_hub_base / "config.json", base_model_revision="main")
    verification = verify(on_a_hub_base, check_base=False)
    assert verification.passed
    assert "the base org/base is not pinned to a commit (base_model_revision is 'main')" in str(verification)


def test_an_adapter_without_a_named_base_passes_only_without_it(on_a_hub_base):
    change_json(on_a_hub_base / "config.json", base_model_name_or_path=None, base_model_revision=None)
    assert verify(on_a_hub_base).exit_status == 2
    assert verify(on_a_hub_base, check_base=False).passed


def test_files_of_two_releases_are_told_apart(fresh, monkeypatch):
    now = released_code()[__version__]
    newer = {model: files | {"ranking.py": sha256(b"newer").hexdigest()} for model, files in now.items()}
    newest = {model: files | {"ranking.py": "", "losses.py": ""} for model, files in now.items()}
    monkeypatch.setattr(CODE, "released_code", lambda: {__version__: now, "8.0": newer, "9.0": newest})
    assert verify(fresh).release == __version__
    (fresh / "ranking.py").write_bytes(b"newer")
    assert verify(fresh).release == "8.0"
    (fresh / "losses.py").write_bytes(b"older")
    monkeypatch.setattr(
        CODE, "released_code", lambda: {"0.0": {"e4srec": {"losses.py": sha256(b"older").hexdigest()}}, "8.0": newer}
    )
    verification = verify(fresh)
    assert verification.release is None
    assert find(verification, "losses.py", "is that of release 0.0, but most files are those of 8.0")


def test_the_code_of_this_version_is_recorded(fresh, tmp_path, item_tokenizer):
    """Fails after a change in modeling/: `make record`, under a new version once this one is published."""
    folder = tmp_path / "sasrec"
    save_trained(SASRecModel(SASRecConfig(vocab_size=VOCAB)), item_tokenizer, folder)
    saved = {
        model: {file.name: sha256(file.read_bytes()).hexdigest() for file in where.glob("*.py")}
        for model, where in (("e4srec", fresh), ("sasrec", folder))
    }
    assert released_code()[__version__] == saved
    record(tmp_path / "code.json")
    assert json.loads((tmp_path / "code.json").read_text()) == {__version__: saved}


def test_recording_keeps_the_releases_before(tmp_path, monkeypatch):
    file = tmp_path / "code.json"
    file.write_text(json.dumps({"0.0": {"e4srec": {"a.py": "1"}}, __version__: {}}))
    monkeypatch.setattr(sys, "argv", ["verify", "--record", str(file)])
    runpy.run_module("e4srec_hf.verify", run_name="__main__")
    releases = json.loads(file.read_text())
    assert list(releases) == ["0.0", __version__]
    assert releases["0.0"] == {"e4srec": {"a.py": "1"}}
    assert releases[__version__] == released_code()[__version__]


@pytest.fixture
def pushed(hub_here, fresh, base_dir):
    """The adapter on a Hub, and its base, pinned, in another repo; returns the commit of the adapter."""
    base = hub_here.commit("org/base", contents(base_dir))
    shutil.rmtree(fresh / "base")
    change_json(fresh / "config.json", base_model_name_or_path="org/base", base_model_revision=base)
    return hub_here.commit("org/model", contents(fresh))


def contents(folder):
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_fresh_push_passes_and_its_commit_is_named(pushed, hub_here, tmp_path):
    verification = verify("org/model", cache_dir=tmp_path / "cache")
    assert verification == Verification("org/model", pushed, __version__, ())
    assert f"commit {pushed} was looked at" in str(verification)
    assert {request.method for request in hub_here.requests} <= {"GET", "HEAD"}
    read_of_base = {request.path.rpartition("/")[2] for request in hub_here.requests if "org/base" in request.path}
    assert read_of_base <= {"config.json", "adapter_config.json"}


def test_of_weights_on_a_hub_the_header_alone_is_fetched(hub_here, base_dir, item_table, item_tokenizer, tmp_path):
    model = E4SRecModel.from_base(base_dir, item_table, tuning="full")
    save_trained(model, item_tokenizer, tmp_path)
    hub_here.commit("org/full", contents(tmp_path))
    assert verify("org/full").passed
    sent = sum(request.sent for request in hub_here.requests if request.path.endswith(WEIGHTS))
    header = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], "little")
    assert sent <= 8 + (8 + header) + 4096 < (tmp_path / WEIGHTS).stat().st_size / 5


@pytest.mark.parametrize(
    ("files", "where", "what"),
    [
        ({"losses.py": HOSTILE_CODE}, "losses.py", "differs from release"),
        ({"tools/extra.py": HOSTILE_CODE}, "tools/extra.py", "does not bring"),
        ({"training_args.bin": HOSTILE_PICKLE}, "training_args.bin", "unpickled"),
        ({"plot.png": HOSTILE_PICKLE}, "plot.png", "begins like a pickle"),
        ({WEIGHTS: HOSTILE_PICKLE}, WEIGHTS, "is no whole safetensors file"),
        ({"adapter_config.json": "{}"}, "adapter_config.json", "has no place"),
        ({"base/config.json": "{}", "config.json": {"base_model_name_or_path": "./base"}}, "config.json", "inside a"),
        ({"config.json": {"base_model_name_or_path": "../base"}}, "config.json", "outside the repo"),
        ({"config.json": {"auto_map": {"AutoModel": "evil/x--y.Z"}}}, "config.json", "auto_map is"),
    ],
)
def test_a_tampered_repo_on_a_hub_fails_and_the_commit_before_passes(
    files, where, what, pushed, hub_here, fresh, marker
):
    config = json.loads((fresh / "config.json").read_text())
    files = {
        name: json.dumps(config | content) if isinstance(content, dict) else content for name, content in files.items()
    }
    tampered = hub_here.commit("org/model", files)
    verification = verify("org/model")
    assert verification.revision == tampered
    assert find(verification, where, what), str(verification)
    assert verification.exit_status == 1
    assert verify("org/model", revision=pushed).passed
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"config.json": {"model_type": "evil"}}, "org/base/config.json", "'evil', which is not in transformers"),
        ({"adapter_config.json": {}}, "org/base", "has an adapter_config.json"),
        ({"config.json": {"num_hidden_layers": 10**6}}, "org/base/config.json", "asks for"),
    ],
)
def test_a_base_on_a_hub_that_does_not_load_as_it_is_fails(changes, where, what, pushed, hub_here, fresh):
    config = json.loads(hub_here.files("org/base")["config.json"])
    files = {name: json.dumps(config | content) for name, content in changes.items()}
    change_json(fresh / "config.json", base_model_revision=hub_here.commit("org/base", files))
    hub_here.commit("org/model", contents(fresh))
    assert find(verify("org/model"), where, what)


def test_code_beside_a_base_that_transformers_has_is_a_note_for_it_is_never_run(pushed, hub_here, fresh, marker):
    config = json.loads(hub_here.files("org/base")["config.json"])
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    commit = hub_here.commit("org/base", {"config.json": json.dumps(config), "evil.py": HOSTILE_CODE})
    change_json(fresh / "config.json", base_model_revision=commit)
    hub_here.commit("org/model", contents(fresh))
    verification = verify("org/model")
    assert verification.passed, str(verification)
    assert "note: org/base/config.json: has an auto_map" in str(verification)
    AutoModel.from_pretrained("org/model")
    assert not marker.exists()


def test_a_hub_that_does_not_answer_could_not_be_checked(pushed, hub_here, tmp_path):
    hub_here.fail("*/losses.py", status=404, times=9)
    assert verify("org/model", cache_dir=tmp_path / "1").exit_status == 2
    hub_here.commit("org/private", {"config.json": "{}"}, private=True)
    assert verify("org/private", token=False).exit_status == 2
    assert verify("org/model", revision="no-such-branch").exit_status == 2


def test_a_name_on_a_hub_that_leads_elsewhere_is_never_fetched():
    assert [finding.where for finding in strange_names(["a/../../b", "/etc/x", "~/x", "C:x", "a/b.md"])] == [
        "a/../../b",
        "/etc/x",
        "~/x",
        "C:x",
    ]


def test_what_is_not_there_could_not_be_checked(tmp_path):
    for source in (tmp_path / "nowhere", "./nowhere", "org/nowhere", "no hub id"):
        verification = verify(source)
        assert verification.exit_status == 2, str(verification)
        assert f"{source}: could not be checked\nunchecked: {source}: cannot be read" in str(verification)
    assert "a folder has no revision main" in str(verify(tmp_path, revision="main"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_could_not_be_checked(fresh):
    (fresh / "losses.py").chmod(0)
    assert verify(fresh).exit_status == 2


def test_a_verdict_says_what_where_and_why_and_nothing_that_a_terminal_obeys():
    verification = Verification(
        "org/model",
        "abc",
        None,
        (failed("a\x1b[2J.py", "is\nbad", "because"), unchecked("b", "x", "y"), note("c", "", "")),
    )
    assert str(verification).splitlines()[:4] == [
        "org/model: FAILED",
        "commit abc was looked at: load that one, with revision=",
        r"failed: a\x1b[2J.py: is\nbad",
        "    because",
    ]
    assert Verification("m", None, None, verification.findings[1:]).exit_status == 2
    assert Verification("m", None, None, verification.findings[2:]).exit_status == 0
