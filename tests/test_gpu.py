"""What only an accelerator can show."""

import pytest
import torch
from transformers import AutoModel

from tests.conftest import random_batch

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
