"""Every part of the item tokenizer is what `build_item_tokenizer` writes; so are the types of its numbers."""

import pytest
from transformers import AutoTokenizer

from e4srec_hf.hub.verify import verify
from tests.hub.verify.tampering import find, tokenizer, tokenizer_config

BERT = {"type": "BertProcessing", "sep": ["item 1", 3], "cls": ["item 0", 2]}
SEQUENCE_A, SEQUENCE_B = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
TEMPLATE = {"type": "TemplateProcessing", "special_tokens": {}}


def with_post_processor(**post_processor):
    return tokenizer(lambda content: content.update(post_processor=post_processor))


def with_vocabulary(**changes):
    return tokenizer(lambda content: content["model"]["vocab"].update(changes))


def with_item(name):
    """The catalogue with another name of one item."""
    return tokenizer(lambda c: c["model"].update(vocab={name if t == "item 5" else t: n for t, n in _items(c)}))


def with_added(**changes):
    return tokenizer(lambda content: content["added_tokens"][0].update(changes))


PROCESSORS = {
    "items around a history": with_post_processor(**BERT),
    "items around a history, in a sequence": with_post_processor(type="Sequence", processors=[BERT]),
    "the processor of RoBERTa": with_post_processor(
        type="RobertaProcessing", sep=["item 1", 3], cls=["item 0", 2], trim_offsets=True, add_prefix_space=False
    ),
    "a template that doubles items": with_post_processor(
        **TEMPLATE, single=[SEQUENCE_A, SEQUENCE_A], pair=[SEQUENCE_A, SEQUENCE_B]
    ),
    "a template that drops items": with_post_processor(**TEMPLATE, single=[], pair=[SEQUENCE_A, SEQUENCE_B]),
    "a template with an item": with_post_processor(
        **TEMPLATE | {"special_tokens": {"item 0": {"id": "item 0", "ids": [2], "tokens": ["item 0"]}}},
        single=[{"SpecialToken": {"id": "item 0", "type_id": 0}}, SEQUENCE_A],
        pair=[SEQUENCE_A, SEQUENCE_B],
    ),
    "other pairs": with_post_processor(**TEMPLATE, single=[SEQUENCE_A], pair=[SEQUENCE_B, SEQUENCE_A]),
    "a byte-level processor": with_post_processor(
        type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True
    ),
}
OTHER_PARTS = {
    "a normalizer": ("normalizer", {"type": "Replace", "pattern": {"String": "1"}, "content": "2"}),
    "a pre-tokenizer": ("pre_tokenizer", {"type": "Whitespace"}),
    "a decoder": ("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "padding on the right": (
        "padding",
        {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 2,
            "pad_type_id": 0,
            "pad_token": "item 0",
        },
    ),
    "a truncation": ("truncation", {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}),
    "another version": ("version", "2.0"),
    "a part that no tokenizer has": ("extra", {}),
}
TAMPERED = {
    **{name: (tamper, "tokenizer.json", "its post_processor is") for name, tamper in PROCESSORS.items()},
    **{
        name: (tokenizer(lambda c, part=part, value=value: c.update({part: value})), "tokenizer.json", f"its {part} is")
        for name, (part, value) in OTHER_PARTS.items()
    },
    "an id that is a truth value": (with_vocabulary(**{"[UNK]": True}), "tokenizer.json", "are not 0, 1, 2"),
    "an id that is a fraction": (with_vocabulary(**{"item 0": 2.0}), "tokenizer.json", "are not 0, 1, 2"),
    "an id that is a text": (with_vocabulary(**{"item 0": "2"}), "tokenizer.json", "are not 0, 1, 2"),
    "a negative id": (with_vocabulary(**{"item 0": -2}), "tokenizer.json", "are not 0, 1, 2"),
    "a blank item": (with_item(" "), "tokenizer.json", "blank"),
    "an empty item": (with_item(""), "tokenizer.json", "blank"),
    "half a character": (with_item("\ud800"), "tokenizer.json", "halves of characters"),
    "an item with NUL": (with_item("a\0"), "tokenizer.json", "control characters"),
    "an item with a line break": (with_item("a\nb"), "tokenizer.json", "control characters"),
    "an item with an old control": (with_item("\x9b31m"), "tokenizer.json", "control characters"),
    "no items": (
        tokenizer(lambda c: c["model"].update(vocab={"[PAD]": 0, "[UNK]": 1})),
        "tokenizer.json",
        "The catalogue is empty",
    ),
    "a vocabulary that is a list": (
        tokenizer(lambda c: c["model"].update(vocab=list(c["model"]["vocab"]))),
        "tokenizer.json",
        "is not a tokenizer",
    ),
    "another unknown token": (
        tokenizer(lambda c: c["model"].update(unk_token="item 0")),
        "tokenizer.json",
        "the unk_token of its model is 'item 0'",
    ),
    "a setting of its model": (
        tokenizer(lambda c: c["model"].update(max_input_chars_per_word=1)),
        "tokenizer.json",
        "the max_input_chars_per_word of its model",
    ),
    "a special token that takes blanks": (with_added(lstrip=True), "tokenizer.json", "its added_tokens is"),
    "a special token that is none": (with_added(special=False), "tokenizer.json", "its added_tokens is"),
    "an added id that is a truth value": (with_added(id=False), "tokenizer.json", "its added_tokens is"),
    "padding on the other side": (
        tokenizer_config(padding_side="right"),
        "tokenizer_config.json",
        "padding_side is 'right', not 'left'",
    ),
    "a padding side that is none": (
        tokenizer_config(padding_side="middle"),
        "tokenizer_config.json",
        "padding_side is 'middle'",
    ),
    "truncation on the other side": (
        tokenizer_config(truncation_side="right"),
        "tokenizer_config.json",
        "truncation_side is 'right'",
    ),
    "ids that are split": (tokenizer_config(split_special_tokens=False), "tokenizer_config.json", "split_special"),
    "other inputs": (tokenizer_config(model_input_names=["input_ids"]), "tokenizer_config.json", "model_input_names"),
    "no length": (tokenizer_config(model_max_length=0), "tokenizer_config.json", "model_max_length is 0"),
    "a length that is a text": (tokenizer_config(model_max_length="9"), "tokenizer_config.json", "model_max_length"),
    "another backend": (tokenizer_config(backend="sentencepiece"), "tokenizer_config.json", "backend is"),
    "settings that are a list": (
        lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
        "tokenizer_config.json",
        "not a dictionary",
    ),
    "no tokenizer": (
        lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer.json",
        "is missing",
    ),
}


def _items(content):
    return content["model"]["vocab"].items()


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tokenizer_that_is_not_as_built_fails(name, fresh):
    tamper, where, what = TAMPERED[name]
    tamper(fresh)
    verification = verify(fresh)
    assert verification.exit_status == 1
    assert find(verification, where, what), str(verification)


@pytest.mark.parametrize("name", ["items around a history", "a template that doubles items", "a template with an item"])
def test_these_processors_change_histories(name, fresh):
    """Else they would prove nothing."""
    before = AutoTokenizer.from_pretrained(fresh)(["item 3"], is_split_into_words=True)["input_ids"]
    PROCESSORS[name](fresh)
    assert AutoTokenizer.from_pretrained(fresh)(["item 3"], is_split_into_words=True)["input_ids"] != before


def test_a_tokenizer_that_was_loaded_and_saved_again_passes(fresh):
    AutoTokenizer.from_pretrained(fresh).save_pretrained(fresh)
    assert verify(fresh).findings == ()


def test_a_tokenizer_without_a_post_processor_passes(fresh):
    tokenizer(lambda content: content.update(post_processor=None))(fresh)
    assert verify(fresh).findings == ()
