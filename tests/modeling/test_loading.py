"""Loading takes what users of the Hub pass, and gives the same scores in any process."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel
from tests.conftest import VOCAB, random_batch


@pytest.fixture(scope="module", params=["e4srec", "sasrec"])
def saved(request, tmp_path_factory, base_dir, item_table):
    """A folder, and the logits of the model that was saved there."""
    directory = tmp_path_factory.mktemp("saved") / request.param
    torch.manual_seed(0)
    if request.param == "e4srec":
        model = E4SRecModel.from_base(base_dir, item_table)
    else:
        model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8))
    model.eval().save_pretrained(directory)
    return directory, model(*batch()).logits


def batch():
    ids, mask = random_batch()
    return ids[2:], mask[2:]  # SASRec cannot score without a history


@pytest.mark.parametrize(
    "options",
    [
        {"low_cpu_mem_usage": True},
        {"low_cpu_mem_usage": False},
        {"use_safetensors": True},
        {"weights_only": True},
        {"device_map": "cpu"},
        {"device_map": "auto", "max_memory": {"cpu": "1GiB"}, "offload_folder": "offload"},
        {"torch_dtype": torch.float32},
    ],
    ids=str,
)
def test_options_of_from_pretrained_do_what_they_do_elsewhere(options, saved, tmp_path, monkeypatch):
    directory, logits = saved
    monkeypatch.chdir(tmp_path)
    assert torch.equal(AutoModel.from_pretrained(directory, **options)(*batch()).logits, logits)


def test_loading_info_names_nothing_that_is_missing_or_too_much(saved):
    directory, logits = saved
    model, info = AutoModel.from_pretrained(directory, output_loading_info=True)
    assert torch.equal(model(*batch()).logits, logits)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("option", [{"use_safetensors": False}, {"weights_only": False}], ids=str)
def test_nothing_is_unpickled_even_on_request(option, base_dir, item_table, tmp_path):
    E4SRecModel.from_base(base_dir, item_table).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModel.from_pretrained(tmp_path, **option)


def test_the_item_tokenizer_goes_along_whichever_class_loads(base_dir, item_table, item_tokenizer, tmp_path):
    E4SRecModel.from_base(base_dir, item_table).save_pretrained(tmp_path / "first", tokenizer=item_tokenizer)
    for loads in (AutoModel, E4SRecModel):
        loads.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / loads.__name__)
        names = ("tokenizer.json", "tokenizer_config.json")
        for name in names:
            assert (tmp_path / loads.__name__ / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_a_model_whose_folder_is_gone_is_saved_elsewhere(saved, tmp_path):
    directory, logits = saved
    model = AutoModel.from_pretrained(shutil.copytree(directory, tmp_path / "first"))
    shutil.rmtree(tmp_path / "first")
    model.save_pretrained(tmp_path / "second")
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "second")(*batch()).logits, logits)


def test_a_mistyped_option_is_an_error(saved):
    directory, _ = saved
    with pytest.raises(TypeError, match="atn_implementation"):
        AutoModel.from_pretrained(directory, atn_implementation="eager")
    model = AutoModel.from_pretrained(directory)
    with pytest.raises(TypeError, match="max_shards"):
        model.save_pretrained(directory, max_shards=2)


@pytest.fixture(params=[torch.float64, torch.bfloat16, torch.float16], ids=str)
def default_dtype(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_another_default_dtype_gives_the_same_scores(saved, default_dtype):
    directory, logits = saved
    model = AutoModel.from_pretrained(directory)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model(*batch()).logits, logits)


def test_another_default_dtype_trains_and_recommends(base_dir, item_table, default_dtype):
    model = E4SRecModel.from_base(base_dir, item_table)
    ids, mask = random_batch()
    model(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert torch.equal(model.item_embeddings.weight, item_table)
    assert model.recommend(ids, mask).scores.isfinite().all()


@pytest.fixture(scope="module")
def causal_base_dir(base_dir, tmp_path_factory):
    """A base with the language-modelling head that published ones have."""
    folder = tmp_path_factory.mktemp("causal") / "base"
    shutil.copytree(base_dir, folder)
    AutoModelForCausalLM.from_pretrained(base_dir).save_pretrained(folder)
    return folder


def change_base(base_dir, folder, change):
    """A copy of the base with other weights."""
    shutil.copytree(base_dir, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.norm.weight"), "missing: norm.weight"),
        (lambda w: w.update({"model.norm.weight": torch.ones(3)}), "misshapen: norm.weight"),
        (
            lambda w: w.update({"model.layers.2.mlp.up_proj.weight": w["model.layers.1.mlp.up_proj.weight"].clone()}),
            "surplus: model.layers.2.mlp.up_proj.weight",
        ),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}),
            "surplus: model.layers.0.self_attn.q_proj.bias",
        ),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}),
            "surplus: model.layers.0.self_attn.q_norm.weight",
        ),
        (lambda w: [w.pop(name) for name in list(w) if ".layers.1." in name], "…"),
    ],
    ids=["missing", "misshapen", "surplus layer", "surplus bias", "surplus norm", "a whole layer"],
)
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_base_is_loaded_strictly(tuning, change, message, causal_base_dir, item_table, tmp_path):
    base = change_base(causal_base_dir, tmp_path / "base", change)
    with pytest.raises(ValueError, match=rf"base model .*base' do not fit its config.json:[^§]*{re.escape(message)}"):
        E4SRecModel.from_base(base, item_table, tuning=tuning)


def test_a_base_may_bring_a_head_and_buffers_that_models_compute(causal_base_dir, item_table, tmp_path):
    surplus = {"lm_head.weight": torch.ones(4, 32), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    base = change_base(causal_base_dir, tmp_path / "base", lambda weights: weights.update(surplus))
    ids, mask = random_batch()
    models = [E4SRecModel.from_base(folder, item_table).eval() for folder in (base, causal_base_dir)]
    models[1].load_state_dict(models[0].state_dict())
    assert torch.equal(*(model(ids, mask).logits for model in models))
