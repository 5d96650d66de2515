"""A catalogue that grows and shrinks: old scores stay to the bit, new ones are what they should be."""

import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.catalogue.items import add_items, remove_items, restore_items
from e4srec_hf.data import build_item_tokenizer, item_catalogue
from e4srec_hf.evaluation.popularity import PopularityModel
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.modeling import ranking
from e4srec_hf.modeling.ranking import catalogue_scores, score_chunks
from e4srec_hf.serving import merge_adapter, unmerge_adapter
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.trainer import RankingTrainer
from tests.conftest import ITEM_DIM, VOCAB, random_batch, ranks_of, run_without_package
from tests.training.test_trainer import arguments

KINDS = ["linear", "tied", "full", "bfloat16", "sasrec"]
NEW_IDS = ["a new one", "новая книга", "[PAD] too"]


@pytest.fixture
def make(make_model, base_dir):
    """A model of a kind, on a base on disk, whose weights have moved from where they started."""

    def make(kind):
        if kind == "sasrec":
            torch.manual_seed(0)
            return SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=ITEM_DIM, initializer_range=0.5)).eval()
        settings = {"full": {"tuning": "full"}, "bfloat16": {"dtype": torch.bfloat16}, "tied": {"head": "tied"}}
        return make_model(base_dir, **settings.get(kind, {}))

    return make


def new_vectors(count, seed=0):
    return torch.randn(count, ITEM_DIM, generator=torch.Generator().manual_seed(seed))


def everything(model, ids, mask, targets):
    """All that a model says of the first `VOCAB` tokens: scores while ranking, `logits`, best scores, ranks."""
    old = list(range(2, VOCAB))
    best = model.recommend(ids, mask, top_k=VOCAB - 2, candidates=old)
    given_labels = model(ids, mask, labels=ids.masked_fill(mask == 0, -100))
    ranks = ranks_of(model, ids, mask, targets, candidates=torch.tensor([old]).expand(len(ids), -1))
    scores = [model(ids, mask).logits[:, :VOCAB], given_labels.logits[:, :VOCAB], best.scores, ranks.double()]
    return [*(tensor.detach() for tensor in scores), best.item_ids]


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, model.config.to_dict()


def assert_same(before, after):
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_old_scores_stay_to_the_bit_when_a_catalogue_grows_and_is_saved(
    kind, make, item_tokenizer, tmp_path, monkeypatch
):
    model, tokenizer = make(kind), item_tokenizer
    ids, mask = random_batch()
    if kind == "sasrec":
        mask[1, -1], ids[1, -1] = 1, 9  # it has nothing to say of an empty history
    targets = torch.tensor([3, 4, 5, 6, 7])

    def told(model):  # a matrix product of one row, of two and of more may be another
        found = []
        for chunk in (2**24, 40):
            monkeypatch.setattr(ranking, "SCORES_AT_A_TIME", chunk)
            for rows in (slice(2, 3), slice(2, 4), slice(0, 5)):
                found += everything(model, ids[rows], mask[rows], targets[rows])
        return found

    before = told(model)
    for number, count in enumerate((3, 21)):
        raw_ids = [f"new {number} {item}" for item in range(count)]
        newest = [model(ids[row : row + 1], mask[row : row + 1]).logits for row in range(5)]
        tokenizer = add_items(model, tokenizer, raw_ids, new_vectors(count, seed=number)).tokenizer
        assert_same(before, told(model))
        for row in range(5):
            alone = model(ids[row : row + 1], mask[row : row + 1]).logits
            assert torch.equal(alone[:, : newest[row].shape[1]], newest[row])
            close = {"rtol": 0.05, "atol": 0.1} if kind == "bfloat16" else {"rtol": 1e-4, "atol": 1e-4}
            torch.testing.assert_close(model(ids, mask).logits[row], alone[0], **close)
    save_trained(model, tokenizer, tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert_same(before, told(loaded))
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)
    assert loaded.config.grown_from == [VOCAB, VOCAB + 3]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 70), st.lists(st.integers(1, 300), min_size=2, max_size=4), st.integers(1, 9999)
)
def test_scores_of_a_part_do_not_depend_on_the_parts_behind_it(rows, width, sizes, chunk):
    generator = torch.Generator().manual_seed(rows)
    vectors = torch.randn(rows, width, generator=generator)
    catalogue = torch.randn(sum(sizes), width, generator=generator)
    ends = np.cumsum(sizes).tolist()

    def scores(end):
        parts = catalogue[:end].clone().tensor_split([border for border in ends if border < end])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "SCORES_AT_A_TIME", chunk)
            chunks = list(score_chunks(vectors, parts))
        assert [first for first, _ in chunks] == [0, *np.cumsum([part.shape[1] for _, part in chunks])[:-1]]
        assert all(part.numel() <= max(chunk, rows) for _, part in chunks)
        return catalogue_scores(vectors, parts), torch.cat([part for _, part in chunks], dim=1)

    whole = scores(ends[-1])
    for end in ends[:-1]:
        for grown, before in zip(whole, scores(end), strict=True):
            assert torch.equal(grown[:, :end], before)
    torch.testing.assert_close(whole[0], vectors @ catalogue.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole[1], whole[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["tied", "sasrec"])
def test_where_vectors_score_new_items_score_as_if_they_had_always_been_there(kind, make, item_tokenizer):
    model, ids = make(kind), torch.tensor([[5, 6, 7], [0, 8, 9]])
    vectors = new_vectors(3)
    grown, fit = add_items(model, item_tokenizer, NEW_IDS, vectors.numpy())
    assert fit is None
    histories = grown([["item 3", NEW_IDS[1]], ["item 9", "item 1"]], is_split_into_words=True, return_tensors="pt")
    assert histories["input_ids"].tolist() == [[5, VOCAB + 1], [11, 3]]
    for batch in (ids, histories["input_ids"]):
        known, n_items = model.known_histories(batch, None)
        expected = model.history_vectors(known, n_items) @ torch.cat([model.item_embeddings.weight[:VOCAB], vectors]).T
        torch.testing.assert_close(model(batch).logits, expected, rtol=1e-5, atol=1e-5)


def test_rows_of_a_linear_head_equal_those_of_numpy(make, item_tokenizer):
    model, vectors = make("linear"), new_vectors(3)
    remove_items(model, item_tokenizer, ["item 4"])
    trained = [item for item in range(2, VOCAB) if item != 6]
    table, head = model.item_embeddings.weight.double().numpy(), model.score.weight.detach().double().numpy()

    def plain(new):
        design = np.hstack([table[trained], np.ones((len(trained), 1))])
        weight = np.linalg.lstsq(design, head[trained], rcond=None)[0]
        return np.hstack([new.double().numpy(), np.ones((len(new), 1))]) @ weight

    grown, fit = add_items(model, item_tokenizer, NEW_IDS, vectors)
    np.testing.assert_allclose(model.score.weight[VOCAB:].detach(), plain(vectors), rtol=1e-4, atol=1e-6)
    assert fit.n_items == len(trained)
    assert 0 < fit.r2 < 1
    assert fit.r2_held_out < fit.r2  # the head of a fresh model knows nothing of the vectors
    with torch.no_grad():  # rows that were fitted, or have moved since, are not fitted to
        model.score.weight[VOCAB:] += 100
    _, again = add_items(model, grown, ["one more"], vectors[:1] + 1)
    np.testing.assert_allclose(model.score.weight[-1:].detach(), plain(vectors[:1] + 1), rtol=1e-4, atol=1e-6)
    assert again == fit


def test_a_head_made_of_item_vectors_is_fitted_exactly(make_model, item_tokenizer):
    model, vectors = make_model(projection_init="orthogonal"), new_vectors(3)
    fit = add_items(model, item_tokenizer, NEW_IDS, vectors).fit
    assert min(fit.r2, fit.r2_held_out, fit.cosine, fit.cosine_held_out) > 1 - 1e-9
    torch.testing.assert_close(
        model.score.weight[VOCAB:], vectors @ model.input_proj.weight.T, rtol=1e-5, atol=1e-5
    )  # as they would have started


def test_fewer_items_than_dimensions_are_warned_of(make, item_tokenizer, propagating, caplog):
    model = make("linear")
    remove_items(model, item_tokenizer, [f"item {number}" for number in range(20)])
    fit = add_items(model, item_tokenizer, ["a"], new_vectors(1)).fit
    assert np.isnan(fit.r2_held_out)
    assert "fitted to 10 items with vectors of 12 dimensions: any rows would fit" in caplog.text


def test_the_tokenizer_of_a_grown_catalogue_is_the_one_of_all_its_items(raw_ids, tmp_path):
    tokenizer = build_item_tokenizer(raw_ids, max_history=7)
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=4))
    grown = add_items(model, tokenizer, NEW_IDS, torch.zeros(3, 4)).tokenizer
    assert len(tokenizer) == VOCAB
    grown.save_pretrained(tmp_path / "grown")
    build_item_tokenizer(raw_ids + NEW_IDS, max_history=7).save_pretrained(tmp_path / "built")
    for file in (tmp_path / "built").iterdir():
        assert (tmp_path / "grown" / file.name).read_text() == file.read_text()
    again = AutoTokenizer.from_pretrained(tmp_path / "grown")
    again = add_items(model, again, ["после сохранения"], torch.zeros(1, 4)).tokenizer
    assert again([*NEW_IDS, "после сохранения"], is_split_into_words=True)["input_ids"] == [32, 33, 34, 35]


@pytest.mark.parametrize(
    ("wanted", "vectors", "message"),
    [
        (["a", "b", "a"], new_vectors(3), r"1 item id\(s\) occur more than once: 'a'"),
        (["a", "item 3"], new_vectors(2), r"1 item id\(s\) are in the catalogue already: 'item 3'"),
        (["[UNK]"], new_vectors(1), r"are special tokens: '\[UNK\]'"),
        (["a", ""], new_vectors(2), "are empty or blank: ''"),
        (["a", 7], new_vectors(2), r"are not strings \(convert them with str\(\)\): 7"),
        (["item 4"], new_vectors(1), "are retired, restore_items brings them back as they were: 'item 4'"),
        ([], new_vectors(0), "raw_ids is empty"),
        ("abc", new_vectors(3), "must be a list of ids; this is one id: 'abc'"),
        (["a", "b"], new_vectors(3), r"shape \(3, 12\), but 2 new item\(s\) in an item table 12 wide need \(2, 12\)"),
        (["a"], new_vectors(1)[:, :5], r"shape \(1, 5\)"),
        (["a", "b"], new_vectors(2).log(), "hold NaN or infinity in 2 of 2 rows, the first is row 0"),
    ],
)
def test_what_cannot_be_added_changes_nothing(wanted, vectors, message, make, item_tokenizer):
    model = make("linear")
    remove_items(model, item_tokenizer, ["item 4"])
    weights, config = state_of(model)
    with pytest.raises(ValueError, match=message):
        add_items(model, item_tokenizer, wanted, vectors)
    after, config_after = state_of(model)
    assert config_after == config
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert len(item_tokenizer) == VOCAB


def test_a_head_that_cannot_be_fitted_to_changes_nothing(make, item_tokenizer):
    model = make("linear")
    with torch.no_grad():
        model.score.weight[7, 3] = torch.nan
    with pytest.raises(ValueError, match="hold NaN or infinity: nothing can be fitted to them"):
        add_items(model, item_tokenizer, NEW_IDS, new_vectors(3))
    assert len(model.item_embeddings.weight) == len(model.score.weight) == model.config.vocab_size == VOCAB


def test_a_tokenizer_or_model_that_does_not_belong_here_is_refused(make, item_tokenizer):
    model = make("tied")
    add_items(model, item_tokenizer, NEW_IDS, new_vectors(3))
    for change in (
        lambda: add_items(model, item_tokenizer, ["b"], new_vectors(1)),
        lambda: remove_items(model, item_tokenizer, ["item 3"]),
    ):
        with pytest.raises(ValueError, match=r"32 tokens.*item table of 35 rows: they do not belong together"):
            change()
    with pytest.raises(TypeError, match="must be an E4SRecModel or a SASRecModel of this package"):
        add_items(SimpleNamespace(config=model.config), item_tokenizer, ["b"], new_vectors(1))


@pytest.mark.parametrize("kind", KINDS)
def test_retired_items_are_never_recommended_and_all_others_as_before(kind, make, item_tokenizer, monkeypatch):
    model = make(kind)
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    before = model.recommend(ids, top_k=VOCAB - 2)
    logits = model(ids).logits
    retired = sorted({*before.item_ids[:, 0].tolist(), 6})
    remove_items(model, item_tokenizer, item_tokenizer.convert_ids_to_tokens(retired[:1]))
    remove_items(model, item_tokenizer, item_tokenizer.convert_ids_to_tokens(retired[1:]))
    assert model.config.retired_items == retired
    assert torch.equal(model(ids).logits, logits)  # raw, and 6 is still read
    for chunk in (2**24, 8):
        monkeypatch.setattr(ranking, "SCORES_AT_A_TIME", chunk)
        after = model.recommend(ids, top_k=VOCAB - 2)
        for row in range(2):
            kept = [item for item in before.item_ids[row].tolist() if item and item not in retired]
            assert after.item_ids[row].tolist() == kept + [0] * (VOCAB - 2 - len(kept))
        kept = [item for item in range(20, VOCAB) if item not in retired][:2]
        among = model.recommend(ids, top_k=3, candidates=[*retired, *kept], exclude_seen=False)
        assert [set(row) for row in among.item_ids.tolist()] == [{*kept, 0}] * 2
    restore_items(model, item_tokenizer, item_tokenizer.convert_ids_to_tokens(retired))
    monkeypatch.setattr(ranking, "SCORES_AT_A_TIME", 2**24)
    assert_same(before, model.recommend(ids, top_k=VOCAB - 2))


def test_items_that_were_added_can_be_retired_and_come_back(make, item_tokenizer, tmp_path):
    model = make("linear")
    ids = torch.tensor([[5, 6, 7]])
    grown = add_items(model, item_tokenizer, NEW_IDS, new_vectors(3)).tokenizer
    before = model.recommend(ids, top_k=VOCAB)
    remove_items(model, grown, [NEW_IDS[1], "item 2"])
    save_trained(model, grown, tmp_path)
    loaded, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.config.retired_items == [4, VOCAB + 1]
    assert not {4, VOCAB + 1} & set(loaded.recommend(ids, top_k=VOCAB).item_ids[0].tolist())
    restore_items(loaded, tokenizer, [NEW_IDS[1], "item 2"])
    assert_same(before, loaded.recommend(ids, top_k=VOCAB))
    assert loaded.config.to_dict()["format_version"] == 1


@pytest.mark.parametrize(
    ("change", "wanted", "message"),
    [
        (remove_items, ["item 3", "nobody"], r"1 item id\(s\) are not in the catalogue: 'nobody'"),
        (remove_items, ["[PAD]"], r"are not in the catalogue: '\[PAD\]'"),
        (remove_items, ["item 3", "item 4"], r"1 item id\(s\) are retired already: 'item 4'"),
        (remove_items, [f"item {n}" for n in range(30) if n != 4], "Nothing would be left to recommend"),
        (remove_items, [3], r"are not strings \(convert them with str\(\)\): 3"),
        (remove_items, "item 3", "must be a list of ids"),
        (restore_items, ["item 4", "item 3"], r"1 item id\(s\) are not retired: 'item 3'"),
        (restore_items, ["nobody"], "are not in the catalogue: 'nobody'"),
    ],
)
def test_what_cannot_be_retired_or_restored_changes_nothing(change, wanted, message, make, item_tokenizer):
    model = make("sasrec")
    remove_items(model, item_tokenizer, ["item 4"])
    with pytest.raises(ValueError, match=message):
        change(model, item_tokenizer, wanted)
    assert model.config.retired_items == [6]


def test_a_retired_target_is_a_miss_and_retired_items_stand_before_nobody(make, item_tokenizer):
    model = make("linear")
    rows = {"user_id": [f"u{n}" for n in range(8)], "item_ids": [[f"item {n}", f"item {n + 9}"] for n in range(8)]}
    whole = Dataset.from_dict(rows)
    few = whole.add_column("candidates", [[f"item {n}" for n in range(18, 30)]] * 8)
    before = {data: evaluate_ranking(model, data, item_tokenizer).ranks for data in (whole, few)}
    retired = [f"item {n}" for n in (10, 16, 20, 21, 22, 29)]
    remove_items(model, item_tokenizer, retired)
    gone = item_tokenizer.convert_tokens_to_ids(retired)
    for data, among in ((whole, "the whole catalogue"), (few, "12 sampled negatives")):
        report = evaluate_ranking(model, data, item_tokenizer, batch_size=3)
        assert f"ranked among {among} without 6 retired item(s), seen items hidden, 8 users" in report.protocol
        for n in range(8):
            scores = model(torch.tensor([[n + 2]])).logits[0]
            rivals = range(2, VOCAB) if data is whole else range(20, 32)
            ahead = [item for item in gone if item in rivals and scores[item] >= scores[n + 11]]
            expected = np.inf if n + 11 in gone else before[data][n] - len(ahead)
            assert report.ranks[n] == expected
    popularity = PopularityModel(rows["item_ids"], item_tokenizer, model.config.retired_items)
    report = evaluate_ranking(popularity, whole, item_tokenizer)
    assert "the whole catalogue without 6 retired item(s)" in report.protocol
    assert np.isinf(report.ranks).tolist() == [n + 11 in gone for n in range(8)]
    assert item_catalogue(item_tokenizer, retired_items=gone) == [f"item {n}" for n in range(30) if n + 2 not in gone]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "tied", "full", "sasrec"])
def test_a_grown_model_trains_on_and_resumes(kind, make, item_tokenizer, tmp_path):
    rows = {"user_id": list("abcdef"), "item_ids": [[f"item {n}", NEW_IDS[n % 3], f"item {n + 7}"] for n in range(6)]}

    def grown():
        torch.manual_seed(0)
        model = make(kind)
        return model, add_items(model, item_tokenizer, NEW_IDS, new_vectors(3)).tokenizer

    def trainer(steps, resume=None):
        model, tokenizer = grown()
        options = arguments(
            tmp_path / kind,
            max_steps=steps,
            save_strategy="steps",
            save_steps=2,
            seed=3,
            eval_strategy="no",
            load_best_model_at_end=False,
            save_total_limit=None,
        )
        RankingTrainer(model, options, tokenizer=tokenizer, train_dataset=Dataset.from_dict(rows)).train(
            resume_from_checkpoint=resume
        )
        return model.eval()

    before, _ = grown()
    trained = trainer(4)
    resumed = trainer(4, resume=str(tmp_path / kind / "checkpoint-2"))
    ids = torch.tensor([[5, VOCAB]])
    assert torch.equal(resumed(ids).logits, trained(ids).logits)
    names = dict(trained.named_parameters())
    part = "score.weight" if kind in ("linear", "full") else "item_embeddings.weight"
    moved = not torch.equal(names[part][VOCAB:], dict(before.named_parameters())[part][VOCAB:])
    assert moved == (kind != "tied")  # whose item table is frozen
    assert not torch.equal(trained(ids).logits, before(ids).logits)


def test_a_grown_model_folds_its_lora_and_takes_it_out_again(make, item_tokenizer):
    model, ids = make("linear"), torch.tensor([[5, 6, 7]])
    merge_adapter(model)
    add_items(model, item_tokenizer, NEW_IDS, new_vectors(3))
    merged = model(ids).logits
    unmerge_adapter(model)
    torch.testing.assert_close(model(ids).logits, merged, rtol=1e-4, atol=1e-4)
    assert merged.shape == (1, VOCAB + 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "sasrec"])
def test_a_changed_catalogue_loads_without_the_package(kind, make, item_tokenizer, tmp_path):
    model = make(kind)
    grown = add_items(model, item_tokenizer, NEW_IDS, new_vectors(3)).tokenizer
    remove_items(model, grown, ["item 3", NEW_IDS[0]])
    save_trained(model, grown, tmp_path / "model")
    ids = torch.tensor([[7, 8, VOCAB + 1]])
    best = model.recommend(ids, top_k=VOCAB)
    expected = {"logits": model(ids).logits.detach(), "scores": best.scores, "item_ids": best.item_ids}
    torch.save({"ids": ids, **expected}, tmp_path / "expected.pt")
    script = textwrap.dedent(
        """
        import sys
        import torch
        from transformers import AutoModel, AutoTokenizer
        directory, expected = sys.argv[1:]
        data = torch.load(expected)
        model = AutoModel.from_pretrained(directory, trust_remote_code=True)
        items = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
        ids = items([["item 5", "item 6", "новая книга"]], is_split_into_words=True, return_tensors="pt")["input_ids"]
        assert torch.equal(ids, data["ids"])
        assert torch.equal(model(ids).logits, data["logits"])
        best = model.recommend(ids, top_k=data["item_ids"].shape[1])
        assert torch.equal(best.scores, data["scores"]) and torch.equal(best.item_ids, data["item_ids"])
        """
    )
    run_without_package(script, tmp_path / "model", tmp_path / "expected.pt", folder=tmp_path)
