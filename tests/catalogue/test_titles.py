"""New items by their titles, against ridge regressions of numpy, one for each item left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from e4srec_hf import SASRecConfig, SASRecModel, save_trained
from e4srec_hf.catalogue import add_items, remove_items
from e4srec_hf.catalogue.head_fit import fit_rows
from e4srec_hf.catalogue.titles import PENALTIES
from e4srec_hf.data import text_vectors
from e4srec_hf.hub import item_titles
from tests.conftest import ITEM_DIM, N_ITEMS, VOCAB

WORDS = ["red", "green", "blue", "old", "new", "big"]


def title_of(number):
    return f"The {WORDS[number % 6]} {WORDS[number // 6 % 6]} reader, part {number}"


TITLES = {f"item {number}": title_of(number) for number in range(N_ITEMS)}


def standardised(vectors, of):
    return (vectors - of.mean(0)) / of.std(0, ddof=1)


def ridge(vectors, rows, new, penalty):
    """Rows of new vectors; the penalty is the sum that is added to the squares."""
    centre, mean = vectors.mean(0), rows.mean(0)
    inverse = np.linalg.inv((vectors - centre).T @ (vectors - centre) + penalty * np.eye(vectors.shape[1]))
    return mean + (new - centre) @ inverse @ (vectors - centre).T @ (rows - mean)


def problem(n_items=25, dim=40, width=6):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(n_items, dim))
    rows = vectors @ generator.normal(size=(dim, width)) + 4 * generator.normal(size=(n_items, width)) + 1
    return vectors, rows, generator.normal(size=(4, dim))


@pytest.mark.parametrize("shape", [(25, 40), (60, 5)])
def test_the_penalty_is_the_one_of_the_lowest_error_on_items_left_out(shape, monkeypatch):
    vectors, rows, new = problem(*shape)
    unit = ((vectors - vectors.mean(0)) ** 2).sum() / min(shape[0] - 1, shape[1])
    others = ~np.eye(shape[0], dtype=bool)

    def left_out(penalty):
        return np.vstack([ridge(vectors[keep], rows[keep], vectors[~keep], penalty * unit) for keep in others])

    errors = {penalty: ((rows - left_out(penalty)) ** 2).sum() for penalty in PENALTIES}
    best = min(errors, key=errors.get)
    assert best not in (PENALTIES[0], PENALTIES[-1])
    found, fit = fit_rows(*map(torch.tensor, (vectors, rows, new)), PENALTIES)
    assert fit.penalty == best
    np.testing.assert_allclose(found.numpy(), ridge(vectors, rows, new, best * unit), rtol=1e-8)
    variance = ((rows - rows.mean(0)) ** 2).sum()
    assert fit.r2_held_out == pytest.approx(1 - errors[best] / variance)
    assert fit.r2 == pytest.approx(1 - ((rows - ridge(vectors, rows, vectors, best * unit)) ** 2).sum() / variance)
    monkeypatch.setattr("e4srec_hf.catalogue.head_fit.NUMBERS_AT_A_TIME", 1)
    assert fit_rows(*map(torch.tensor, (vectors, rows, new)), PENALTIES)[1] == pytest.approx(fit)


@pytest.mark.parametrize("head", ["linear", "tied"])
def test_titles_give_vectors_and_rows_as_long_as_trained_ones(head, make_model, base_dir, item_tokenizer):
    model = make_model(base_dir, head=head)
    remove_items(model, item_tokenizer, ["item 4"])
    catalogue = TITLES | {"item 7": "  ", "item 8": None, "item 9": 7, "not here": "The red book"}
    trained = [number for number in range(N_ITEMS) if number not in (4, 7, 8, 9)]
    new = ["The blue reader, part 99", "Книга"]
    read = text_vectors([*(title_of(number) for number in trained), *new], base_dir).double().numpy()
    known, unknown = read[:-2], read[-2:]
    tables = {"item_embeddings": model.item_embeddings.weight} | (
        {"score": model.score.weight} if head == "linear" else {}
    )
    expected = {}
    for name, table in tables.items():
        rows = table.detach().double().numpy()[[number + 2 for number in trained]]
        found, fit = fit_rows(
            torch.tensor(standardised(known, known)),
            torch.tensor(rows),
            torch.tensor(standardised(unknown, known)),
            PENALTIES,
        )
        length = np.linalg.norm(rows, axis=1).mean()
        stretched = found.numpy() * length / np.linalg.norm(found.numpy(), axis=1, keepdims=True)
        expected[name] = stretched if fit.r2_held_out > 0 else found.numpy()
    logits = model(torch.tensor([[5, 6, 7]])).logits
    grown, told = add_items(model, item_tokenizer, ["a", "b"], titles=new, catalogue_titles=catalogue)
    assert told == pytest.approx(fit)  # of what items are scored by
    assert told.n_items == len(trained)
    for name, rows in expected.items():
        np.testing.assert_allclose(getattr(model, name).weight[VOCAB:].detach(), rows, rtol=1e-3, atol=1e-5)
    after = model(torch.tensor([[5, 6, 7]])).logits
    assert after.shape == (1, VOCAB + 2)
    assert torch.equal(after[:, :VOCAB], logits)
    assert grown.convert_tokens_to_ids(["a", "b"]) == [VOCAB, VOCAB + 1]


def test_titles_find_the_neighbours_of_an_item(item_tokenizer):
    """Where two words of a title say what vector an item has, a new title of such words gets that vector."""
    generator = torch.Generator().manual_seed(0)
    colours, ages = (torch.randn(6, ITEM_DIM, generator=generator) for _ in range(2))
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=ITEM_DIM)).eval()
    with torch.no_grad():
        for number in range(N_ITEMS):
            model.item_embeddings.weight[number + 2] = colours[number % 6] + ages[number // 6 % 6]

    def encode(titles):  # bags of words
        return np.array(
            [
                [title.split()[1] == word for word in WORDS] + [title.split()[2] == word for word in WORDS]
                for title in titles
            ],
            dtype=np.float32,
        )

    titles = TITLES | {"item 0": ""}  # which is taken for a new one
    _, fit = add_items(model, item_tokenizer, ["again"], titles=[title_of(0)], catalogue_titles=titles, encode=encode)
    assert fit.r2_held_out > 0.9
    table = torch.nn.functional.normalize(model.item_embeddings.weight.detach()[2:], dim=1)
    assert (table[:-1] @ table[-1]).argmax() == 0


def test_titles_travel_with_the_model(make_model, base_dir, item_tokenizer, tmp_path):
    save_trained(make_model(base_dir, head="tied"), item_tokenizer, tmp_path / "first", titles=TITLES)
    model = type(make_model(base_dir)).from_pretrained(tmp_path / "first")
    grown, _ = add_items(model, item_tokenizer, ["a new one"], titles=["The red old reader"])  # finds those beside it
    save_trained(model, grown, tmp_path / "second", titles={"a new one": "The red old reader"})
    assert item_titles(tmp_path / "second") == TITLES | {"a new one": "The red old reader"}
    again = type(model).from_pretrained(tmp_path / "second")
    torch.testing.assert_close(again.item_embeddings.weight, model.item_embeddings.weight)
    save_trained(again, grown, tmp_path / "third")
    assert json.loads(Path(tmp_path, "third", "item_titles.json").read_text()) == item_titles(tmp_path / "second")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give the vectors of the new items or their titles, one of the two"),
        ({"vectors": torch.zeros(1, ITEM_DIM), "titles": ["a"]}, "one of the two"),
        ({"titles": "The red reader"}, "this is one title: 'The red reader'"),
        ({"titles": ["a", "b"]}, r"There are 2 titles for 1 new item\(s\)"),
        ({"titles": [""]}, "titles, number 1: '' is blank"),
        ({"titles": [None]}, "titles, number 1: None is not a text. An item"),
        (
            {"titles": ["a\x1b[31m"]},
            "has control characters or halves of characters. An item without a title needs vectors",
        ),
        ({"titles": ["a"], "catalogue_titles": {}}, "Of 30 trained items 0 have a title, and 0 title.s. differ"),
        ({"titles": ["a"], "catalogue_titles": None}, "nothing to learn from. Titles are in item_titles.json beside"),
        (
            {"titles": ["a"], "catalogue_titles": dict.fromkeys(TITLES, "same")},
            "30 have a title, and 1 title.s. differ",
        ),
        (
            {"titles": ["a"], "encode": lambda titles: np.zeros((31, 0))},
            r"encode gave the shape \(31, 0\) for 31 titles",
        ),
        ({"titles": ["a"], "encode": lambda titles: np.zeros(3)}, r"encode gave the shape \(3,\) for 31 titles"),
        ({"titles": ["a"], "encode": lambda titles: np.full((31, 2), np.nan)}, "hold NaN or infinity in 31 of 31"),
        ({"titles": ["a"], "encode": lambda titles: np.ones((31, 2))}, "all titles of the catalogue the same vector"),
    ],
)
def test_what_cannot_be_added_by_its_title_changes_nothing(arguments, message, make_model, base_dir, item_tokenizer):
    model = make_model(base_dir)
    before, table = model.config.to_dict(), model.item_embeddings.weight.clone()
    with pytest.raises(ValueError, match=message):
        add_items(model, item_tokenizer, ["x"], **{"catalogue_titles": TITLES} | arguments)
    assert model.config.to_dict() == before
    assert torch.equal(model.item_embeddings.weight, table)
    assert len(model.score.weight) == VOCAB


def test_a_model_without_a_frozen_base_needs_an_encoder(make_model, base_dir, item_tokenizer):
    sasrec = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=ITEM_DIM))
    for model in (sasrec, make_model(base_dir, tuning="full")):
        with pytest.raises(ValueError, match="no frozen language model to read titles with: pass encode="):
            add_items(model, item_tokenizer, ["x"], titles=["a"], catalogue_titles=TITLES)


def test_titles_that_tell_nothing_are_warned_of(make_model, base_dir, item_tokenizer, propagating, caplog):
    def encode(titles):
        return np.random.default_rng(0).normal(size=(len(titles), 3))

    model = make_model(base_dir, head="tied")
    fit = add_items(model, item_tokenizer, ["x"], titles=["a"], catalogue_titles=TITLES, encode=encode).fit
    assert fit.r2_held_out <= 0
    assert "Titles do not predict the rows of this model's items" in caplog.text
    table = model.item_embeddings.weight.detach()
    scores = model(torch.tensor([[5, 6, 7], [8, 9, 2]])).logits.detach()
    assert table[-1].norm() < 0.75 * table[2:-1].norm(dim=1).mean()
    assert ((scores[:, 2:-1] > scores[:, -1:]).sum(dim=1) >= N_ITEMS / 4).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"catalogue_titles": list(TITLES.values())}, "catalogue_titles must map raw ids to titles, .* not be a list"),
        ({"catalogue_titles": "item 1"}, "catalogue_titles must map raw ids to titles, .* not be a str"),
        ({"encode": "name"}, "encode must be a function from a list of titles to vectors, not 'name'"),
        ({"encode": 7}, "encode must be a function from a list of titles to vectors, not 7"),
    ],
)
def test_an_argument_of_another_type_changes_nothing(arguments, message, make_model, base_dir, item_tokenizer):
    model = make_model(base_dir)
    with pytest.raises(TypeError, match=message):
        add_items(model, item_tokenizer, ["x"], titles=["a"], **{"catalogue_titles": TITLES} | arguments)
    assert len(model.score.weight) == len(model.item_embeddings.weight) == VOCAB


def test_of_many_titles_some_are_read(make_model, base_dir, item_tokenizer, monkeypatch):
    monkeypatch.setattr("e4srec_hf.catalogue.titles.MOST_TITLES", 8)
    fit = add_items(make_model(base_dir), item_tokenizer, ["x"], titles=["a"], catalogue_titles=TITLES).fit
    assert fit.n_items == 8
