"""Many adapters on one base: what they share, that they do not see each other, and that one can go."""

import copy
import gc
import io
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModel, BitsAndBytesConfig, LlamaForCausalLM

from e4srec_hf.serving import merge_adapter, unmerge_adapter
from e4srec_hf.training import prepare_for_training
from tests.conftest import random_batch, stir_lora


@pytest.fixture
def adapters(make_model, base_dir, tmp_path):
    """Folders of two adapters for one base, with other heads, LoRA and dropout, and the batch's logits of each."""
    settings = {
        "beauty": {"head": "linear", "base_dropout": 0.2},
        "toys": {"head": "tied", "lora": {"r": 2, "target_modules": ["q_proj", "o_proj", "up_proj"]}},
    }
    logits = {}
    for name, config in settings.items():
        model = make_model(base_dir, **config)
        model.save_pretrained(tmp_path / name)
        logits[name] = AutoModel.from_pretrained(tmp_path / name)(*random_batch()).logits
    return tmp_path, logits


def bytes_held(*models):
    """Memory of all tensors of some models, each piece of storage once."""
    tensors = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def bytes_of_adapter(model):
    state = model.state_dict()
    return sum(state[name].nbytes for name in model.saved_keys())


@pytest.mark.parametrize("donor", ["bare base", "first adapter"])
def test_two_adapters_score_as_each_does_alone_and_take_one_base_and_two_adapters(donor, adapters, base_dir):
    directory, logits = adapters
    base = AutoModel.from_pretrained(base_dir)
    bare = bytes_held(base)
    before = copy.deepcopy(base.state_dict())
    beauty = AutoModel.from_pretrained(directory / "beauty", base_model=base)
    toys = AutoModel.from_pretrained(directory / "toys", base_model=base if donor == "bare base" else beauty)
    for _ in range(2):  # in turn: nothing is switched
        assert torch.equal(beauty(*random_batch()).logits, logits["beauty"])
        assert torch.equal(toys(*random_batch()).logits, logits["toys"])
    small = 4096  # the prompt's ids
    assert bytes_held(base, beauty, toys) <= bare + bytes_of_adapter(beauty) + bytes_of_adapter(toys) + small
    assert base.state_dict().keys() == before.keys()
    assert all(torch.equal(base.state_dict()[name], tensor) for name, tensor in before.items())


def test_an_adapter_that_is_let_go_leaves_the_others_and_frees_its_memory(adapters):
    directory, logits = adapters
    beauty = AutoModel.from_pretrained(directory / "beauty")
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    gone = weakref.ref(beauty), weakref.ref(beauty.score.weight), weakref.ref(beauty.base)
    del beauty
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]
    assert torch.equal(toys(*random_batch()).logits, logits["toys"])


def as_pickled(model):
    return pickle.loads(pickle.dumps(model))


def as_torch_saves_it(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("take", [lambda model: model, copy.deepcopy, as_pickled, as_torch_saves_it])
def test_merging_one_adapter_changes_no_other_also_of_copies(take, adapters):
    directory, logits = adapters
    beauty = take(AutoModel.from_pretrained(directory / "beauty"))
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    third = take(toys)
    models = {"beauty": [beauty], "toys": [toys, third]}
    for name, some in models.items():
        for merged in some:
            merge_adapter(merged)
            torch.testing.assert_close(merged(*random_batch()).logits, logits[name], rtol=1e-4, atol=1e-4)
            merged_copy = copy.deepcopy(merged)
            for other, others in models.items():
                for model in others:
                    assert model is merged or torch.equal(model(*random_batch()).logits, logits[other])
            for model in (merged, merged_copy):
                unmerge_adapter(model)
                assert torch.equal(model(*random_batch()).logits, logits[name])


def test_base_dropout_of_one_adapter_is_not_that_of_another(adapters):
    directory, _ = adapters
    beauty = prepare_for_training(AutoModel.from_pretrained(directory / "beauty"))
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    for module in toys.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected = toys(ids, mask, labels=labels).loss
    torch.testing.assert_close(toys.train()(ids, mask, labels=labels).loss, expected)


def test_no_adapter_goes_onto_a_base_that_another_is_merged_into(adapters):
    directory, logits = adapters
    beauty = AutoModel.from_pretrained(directory / "beauty")
    merge_adapter(beauty)
    with pytest.raises(
        ValueError, match=r"An adapter is merged into this base: e4srec_hf.serving.unmerge_adapter takes it out"
    ):
        AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    unmerge_adapter(beauty)
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    assert torch.equal(toys(*random_batch()).logits, logits["toys"])


def test_threads_may_ask_different_adapters_at_once(adapters):
    directory, _ = adapters
    beauty = AutoModel.from_pretrained(directory / "beauty")
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    batches = [random_batch(seed=seed) for seed in range(16)]
    expected = [[model.recommend(*batch).scores for batch in batches] for model in (beauty, toys)]
    with ThreadPoolExecutor(4) as pool:
        asked = [[pool.submit(model.recommend, *batch) for batch in batches] for model in (beauty, toys)]
    for of_model, promised in zip(expected, asked, strict=True):
        assert all(
            torch.equal(scores, future.result().scores) for scores, future in zip(of_model, promised, strict=True)
        )


def test_training_one_adapter_leaves_the_other_and_the_base_alone(adapters):
    directory, logits = adapters
    beauty = AutoModel.from_pretrained(directory / "beauty")
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty).train()
    ids, mask = random_batch()
    optimizer = torch.optim.AdamW([weight for weight in toys.parameters() if weight.requires_grad], lr=0.1)
    toys(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    optimizer.step()
    assert not torch.equal(toys.eval()(ids, mask).logits, logits["toys"])
    assert torch.equal(beauty(ids, mask).logits, logits["beauty"])


def test_a_model_with_a_language_modelling_head_lends_its_body_and_stays_as_it_is(make_base, make_model):
    whole = LlamaForCausalLM(make_base("llama").config)
    names = set(whole.state_dict())
    model = make_model(whole)
    assert type(model.base) is type(whole.model)
    assert model.base.embed_tokens.weight is whole.model.embed_tokens.weight
    assert set(whole.state_dict()) == names
    assert whole.generate(torch.tensor([[1, 2]]), max_new_tokens=2).shape == (1, 4)


def test_a_fresh_adapter_is_made_on_the_base_of_another(make_model, base_dir, text_tokenizer, item_table):
    beauty = make_model(base_dir)
    before = beauty(*random_batch()).logits
    toys = stir_lora(type(beauty).from_base(beauty, item_table, instruction="Other: ", lora={"r": 2}))
    assert toys.config.base_model_name_or_path == beauty.config.base_model_name_or_path
    assert toys.base.embed_tokens.weight is beauty.base.embed_tokens.weight
    assert torch.equal(beauty(*random_batch()).logits, before)


def test_a_base_with_lora_of_its_own_or_trained_whole_is_refused(make_model, base_dir, adapters):
    directory, _ = adapters
    beauty = AutoModel.from_pretrained(directory / "beauty")
    with pytest.raises(ValueError, match=r"carries LoRA already: .* pass the E4SRec model around it"):
        AutoModel.from_pretrained(directory / "toys", base_model=beauty.base)
    with pytest.raises(ValueError, match=r'with tuning="full" was trained with it: no adapter fits on it'):
        AutoModel.from_pretrained(directory / "toys", base_model=make_model(base_dir, tuning="full"))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_base_is_shared_too(bits, adapters, base_dir):
    directory, _ = adapters
    how = {
        4: {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32, "bnb_4bit_use_double_quant": True},
        8: {"load_in_8bit": True},
    }
    quantization = BitsAndBytesConfig(**how[bits])
    alone = {
        name: AutoModel.from_pretrained(directory / name, quantization_config=quantization)(*random_batch()).logits
        for name in ("beauty", "toys")
    }
    beauty = AutoModel.from_pretrained(directory / "beauty", quantization_config=quantization)
    toys = AutoModel.from_pretrained(directory / "toys", base_model=beauty)
    assert torch.equal(toys(*random_batch()).logits, alone["toys"])
    assert torch.equal(beauty(*random_batch()).logits, alone["beauty"])
    weights = [model.base.layers[0].self_attn.k_proj.weight for model in (beauty, toys)]
    assert weights[0] is weights[1]
    assert toys.is_quantized


@pytest.mark.parametrize("lora", [{"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}, {"bias": "all"}])
def test_lora_that_would_change_the_base_is_refused(lora, make_model, base_dir):
    beauty = make_model(base_dir)
    before = copy.deepcopy(beauty.base.state_dict())
    with pytest.raises(ValueError, match="lora would change the base, which others may read"):
        type(beauty).from_base(beauty, torch.zeros(9, 4), instruction="", response="", lora=lora)
    assert all(torch.equal(beauty.base.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_base_that_adapters_read_is_copied_to_be_trained_whole(make_model, base_dir):
    base = AutoModel.from_pretrained(base_dir)
    beauty = make_model(base, tuning="lora")
    ids, mask = random_batch()
    before = beauty(ids, mask).logits
    whole = type(beauty).from_base(base, torch.randn(40, 4), instruction="", response="", tuning="full")
    with torch.no_grad():
        for weight in whole.parameters():
            weight.add_(1)
    assert torch.equal(beauty(ids, mask).logits, before)
    of_an_adapter = type(beauty).from_base(beauty, torch.zeros(9, 4), instruction="", response="", tuning="full").base
    assert {name: tensor.tolist() for name, tensor in of_an_adapter.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in base.state_dict().items()
    }
    assert all(weight.requires_grad for weight in of_an_adapter.parameters())
    assert torch.equal(beauty(ids, mask).logits, before)
