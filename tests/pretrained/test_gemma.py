"""What holds for tiny random bases holds for a pretrained one: exactness, saving, sharing, verification."""

import os

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from e4srec_hf import E4SRecModel
from e4srec_hf.hub.verify import verify
from e4srec_hf.modeling.bases import open_base
from e4srec_hf.training import prepare_for_training, save_trained
from e4srec_hf.training.packed_reading import packing_of
from tests.conftest import random_batch, stir_lora

PROMPT = {"instruction": "Readers of books.\n", "response": "\nNext:"}


@pytest.fixture
def make(gemma, words, item_table):
    def make(base=gemma.folder, base_layers=6, **config):
        torch.manual_seed(1)
        settings = PROMPT | {"base_layers": base_layers, "lora": {"r": 4, "lora_dropout": 0.0}} | config
        return stir_lora(E4SRecModel.from_base(base, item_table, tokenizer=words, **settings)).eval()

    return make


@torch.no_grad()
def test_the_file_and_the_safetensors_are_one_base_that_knows_english(gemma, base, words):
    from_file = open_base(gemma.file, tuning="lora")
    stored = {name: t for file in sorted(gemma.folder.glob("*.safetensors")) for name, t in load_file(file).items()}
    assert len(list(gemma.folder.glob("*.safetensors"))) > 1  # sharded, with an index
    for name, tensor in from_file.state_dict().items():
        assert torch.equal(tensor, stored[name])
        assert torch.equal(tensor, base.state_dict()[name])
    assert not getattr(from_file, "is_quantized", False)
    assert "quantization_config" not in from_file.config.to_dict()
    ids = words("The children went to the park to play with their friends.", return_tensors="pt").input_ids
    assert ids[0, 0] == words.bos_token_id
    scores = base(ids).last_hidden_state[0, :-1] @ base.embed_tokens.weight.T  # the head is tied
    assert cross_entropy(scores, ids[0, 1:]) < 4  # one that knows nothing has log(262,144), 12.5


@torch.no_grad()
def test_the_prompt_enters_as_its_tokens_would_and_without_a_beginning(base, make, words):
    model = make(base, base_layers=2)
    ids = model.instruction_ids
    assert ids.tolist() == words(PROMPT["instruction"], add_special_tokens=False)["input_ids"]
    assert words.bos_token_id not in [*ids.tolist(), *model.response_ids.tolist()]
    vectors = model.reading_task().prompt[0]
    expected = base.embed_tokens.weight[ids] * base.config.hidden_size**0.5
    torch.testing.assert_close(vectors, expected)
    by_ids, by_vectors = base(ids[None]).last_hidden_state, base(inputs_embeds=vectors[None]).last_hidden_state
    assert torch.equal(by_ids, by_vectors)


def test_packed_equals_plain(make):
    ids, mask = random_batch(rows=4)
    labels = ids.masked_fill(mask == 0, -100)
    plain, packed = make(), prepare_for_training(make())
    losses, gradients = [], []
    for model in (plain, packed):
        loss = model(ids, mask, labels=labels).loss
        loss.backward()
        losses.append(loss)
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert packing_of(packed).passed
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def test_what_is_saved_is_small_verified_and_loaded_bit_for_bit(gemma, make, item_tokenizer):
    model = make()
    before = model(*random_batch()).logits
    save_trained(model, item_tokenizer, gemma.adapter)
    of_base = sum(file.stat().st_size for file in gemma.folder.glob("*.safetensors"))
    assert os.path.getsize(gemma.adapter / "model.safetensors") < of_base / 500
    assert torch.equal(AutoModel.from_pretrained(gemma.adapter)(*random_batch()).logits, before)
    problems = [finding for finding in verify(gemma.adapter).findings if finding.kind == "failed"]
    assert not [finding for finding in problems if not finding.where.endswith(".py")]


def test_two_adapters_of_different_depths_share_one_base(base, make):
    alone = {depth: make(base_layers=depth)(*random_batch()).logits for depth in (1, 3)}
    deep, shallow = make(base, base_layers=3), make(base, base_layers=1)
    for _ in range(2):
        assert torch.equal(deep(*random_batch()).logits, alone[3])
        assert torch.equal(shallow(*random_batch()).logits, alone[1])
    tensors = [tensor for model in (base, deep, shallow) for tensor in (*model.parameters(), *model.buffers())]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    own = sum(model.state_dict()[name].nbytes for model in (deep, shallow) for name in model.saved_keys())
    of_base = sum(tensor.nbytes for tensor in (*base.parameters(), *base.buffers()))
    assert sum(storages.values()) <= of_base + own + 4096
    assert len(base.layers) == 18
