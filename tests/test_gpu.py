"""What only an accelerator can show."""

import pytest
import torch
from transformers import AutoModel

from e4srec_hf.training import prepare_for_training
from e4srec_hf.training.packed_reading import ReferenceReader, packing_of
from tests.conftest import BASE_CONFIGS, random_batch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("head", ["linear", "tied"])
def test_a_gpu_scores_like_a_cpu(head, make_model):
    model = make_model(head=head)
    ids, mask = random_batch()
    expected = model(ids, mask).logits
    best = model.recommend(ids, mask)
    model.to("cuda")
    torch.testing.assert_close(model(ids.cuda(), mask.cuda()).logits.cpu(), expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(model.recommend(ids.cuda(), mask.cuda()).item_ids.cpu(), best.item_ids)


def test_a_bfloat16_base_on_a_gpu_trains_float32_weights(make_model, base_dir, tmp_path):
    model = make_model(base_dir)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="cuda").train()
    ids, mask = (tensor.cuda() for tensor in random_batch())
    with torch.autocast("cuda", torch.bfloat16):
        loss = loaded(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss
    loss.backward()
    assert loaded.dtype == torch.bfloat16
    assert {p.grad.dtype for p in loaded.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_packed_rows_equal_one_row_a_target_on_a_gpu(kind, attention, make_base, make_model):
    model = make_model(make_base(kind, attn_implementation=attention), lora={"r": 4, "lora_dropout": 0.0}).to("cuda")
    prepare_for_training(model)
    ids, mask = (tensor.cuda() for tensor in random_batch(rows=6, width=14))
    labels = ids.masked_fill(mask == 0, -100)
    assert packing_of(model).passed, packing_of(model).reason
    found = []
    for reader in (model.reader, ReferenceReader()):
        model.reader = reader
        model.zero_grad()
        loss = model(ids, mask, labels=labels).loss
        loss.backward()
        found.append((loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (loss, gradients), (expected_loss, expected) = found
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    noise = 1e-6 * max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-4 * scale + noise, msg=name)


def test_what_is_kept_moves_with_the_model(make_model):
    model = make_model()
    ids, mask = random_batch()
    expected = model.recommend(ids, mask)
    model.to("cuda")
    assert torch.equal(model.recommend(ids.cuda(), mask.cuda()).item_ids.cpu(), expected.item_ids)
    model.to("cpu")
    assert torch.equal(model.recommend(ids, mask).item_ids, expected.item_ids)
