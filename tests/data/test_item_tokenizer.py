"""The catalogue as a vocabulary."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from e4srec_hf import E4SRecConfig
from e4srec_hf.data import build_item_tokenizer, tokenize_histories
from e4srec_hf.data.item_tokenizer import load_item_tokenizer

ODD_IDS = [
    "B0001",
    "two words",
    " led by a blank",
    "a\u00a0b",
    "ünïcödé 物品",
    "[MASK]",
    "a[PAD]b",
    "0",
    "😀",
    "x" * 500,
]


def test_items_start_at_2_in_the_order_given():
    tokenizer = build_item_tokenizer(ODD_IDS)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", *ODD_IDS]) == list(range(len(ODD_IDS) + 2))
    assert len(tokenizer) == len(ODD_IDS) + 2
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (0, 1)


def test_plain_auto_tokenizer_loads_it_and_reads_any_id(tmp_path):
    build_item_tokenizer(ODD_IDS).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.padding_side == "left"
    batch = tokenizer([ODD_IDS, ["two words"]], is_split_into_words=True, padding=True, return_tensors="pt")
    assert batch["input_ids"][0].tolist() == list(range(2, len(ODD_IDS) + 2))
    assert batch["input_ids"][1].tolist() == [0] * (len(ODD_IDS) - 1) + [3]
    assert batch["attention_mask"][1].tolist() == [0] * (len(ODD_IDS) - 1) + [1]
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist()) == ODD_IDS


def test_it_loads_beside_a_config_with_remote_code_without_trusting_it(tmp_path):
    build_item_tokenizer(["a", "b"]).save_pretrained(tmp_path)
    config = E4SRecConfig()
    config.auto_map = {"AutoConfig": "configuration_x.Unheard", "AutoModel": "modeling_x.Of"}
    config.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False).convert_tokens_to_ids("b") == 3


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a", "b", "a"], r"1 item id\(s\) occur more than once: 'a'"),
        (["a", ""], r"1 item id\(s\) are empty or blank: ''"),
        (["a", " \t"], "are empty or blank"),
        (["a", "tab\tinside"], r"'tab\\tinside' has control characters"),
        (["a", 7], r"1 item id\(s\) are not strings \(convert them with str\(\)\): 7"),
        (["a", "[PAD]"], "are special tokens"),
        ([], "The catalogue is empty"),
    ],
)
def test_ids_that_cannot_be_a_vocabulary_are_refused(items, message):
    with pytest.raises(ValueError, match=message):
        build_item_tokenizer(items)


def test_histories_come_out_left_padded_and_unknown_ids_without_attention():
    tokenizer = build_item_tokenizer(["a", "b", "c"])
    batch = tokenize_histories(tokenizer, [["a", "b", "c"], ["nobody", "b"], [], ["[PAD]"]])
    assert batch["input_ids"].tolist() == [[2, 3, 4], [0, 1, 3], [0, 0, 0], [0, 0, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert batch["input_ids"].dtype == torch.long


def test_unknown_ids_can_be_an_error():
    tokenizer = build_item_tokenizer(["a", "b"])
    with pytest.raises(
        ValueError, match=r"2 item id\(s\) are not in the catalogue: 'x' \(history 1\), 'y' \(history 1\)"
    ):
        tokenize_histories(tokenizer, [["a"], ["x", "b", "y"]], on_unknown="error")
    with pytest.raises(ValueError, match='on_unknown must be "unk" or "error"'):
        tokenize_histories(tokenizer, [["a"]], on_unknown="ignore")


def test_one_history_is_not_taken_for_a_list_of_histories():
    with pytest.raises(ValueError, match="one per user; got a single list of ids"):
        tokenize_histories(build_item_tokenizer(["a", "b"]), ["a", "b"])


def test_truncation_keeps_the_last_items():
    tokenizer = build_item_tokenizer(["a", "b", "c"], max_history=2)
    assert tokenizer(["a", "b", "c"], is_split_into_words=True, truncation=True)["input_ids"] == [3, 4]


def test_no_histories_are_refused(item_tokenizer):
    with pytest.raises(ValueError, match="histories is empty: give at least one list of ids"):
        tokenize_histories(item_tokenizer, [])


def test_building_and_loading_take_no_detour_and_give_the_files_of_a_plain_tokenizer(tmp_path, monkeypatch):
    ids = ["b", "a c", "[PAD]x", '"ü\\', "7"]
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *ids])}
    plain = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")),
        pad_token="[PAD]",
        unk_token="[UNK]",
        padding_side="left",
        truncation_side="left",
        split_special_tokens=True,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=7,
    )
    plain.save_pretrained(tmp_path / "plain")
    build_item_tokenizer(ids, max_history=7).save_pretrained(tmp_path / "built")
    by_auto = AutoTokenizer.from_pretrained(tmp_path / "plain")
    parsed = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, *args, **kwargs: parsed.append(len(text)) or loads(text))
    loaded = load_item_tokenizer(tmp_path / "plain")
    assert max(parsed) < (tmp_path / "plain" / "tokenizer.json").stat().st_size  # that file is for tokenizers alone
    monkeypatch.undo()
    loaded.save_pretrained(tmp_path / "loaded")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "built" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    by_auto.save_pretrained(tmp_path / "auto")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "loaded" / name).read_bytes() == (tmp_path / "auto" / name).read_bytes()
    assert loaded.init_kwargs == by_auto.init_kwargs
    assert type(loaded) is type(by_auto)
    assert loaded(ids)["input_ids"] == by_auto(ids)["input_ids"]
