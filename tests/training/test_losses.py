"""The chunked cross-entropy against the plain one."""

import math

import pytest
import torch
from torch.nn import functional as F

from e4srec_hf.training import losses
from e4srec_hf.training.losses import catalogue_cross_entropy


def plain(vectors, catalogue, targets):
    return F.cross_entropy(vectors @ catalogue.T, targets, reduction="sum")


@pytest.fixture(params=["fused", "checkpointed"])
def way(request, monkeypatch):
    """Both ways of torch, in chunks of seven targets."""
    if request.param == "checkpointed":
        monkeypatch.delattr(F, "linear_cross_entropy", raising=False)
    elif not hasattr(F, "linear_cross_entropy"):
        pytest.skip("this torch has no linear_cross_entropy")
    monkeypatch.setattr(losses, "SCORES_AT_A_TIME", 0)
    monkeypatch.setattr(losses, "LEAST_TARGETS", 7)


@pytest.mark.parametrize("n_targets", [1, 7, 20])
@pytest.mark.parametrize("fixed_catalogue", [False, True])
def test_loss_and_gradients_are_those_of_all_scores_at_once(n_targets, fixed_catalogue, way):
    torch.manual_seed(0)
    vectors, catalogue, targets = torch.randn(n_targets, 5), torch.randn(31, 5), torch.randint(31, (n_targets,))
    results = []
    for loss_of in (catalogue_cross_entropy, plain):
        v, c = vectors.clone().requires_grad_(), catalogue.clone().requires_grad_(not fixed_catalogue)
        loss = loss_of(v, c, targets)
        (loss / 3).backward()
        results.append([loss.detach(), v.grad, *([] if fixed_catalogue else [c.grad])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_no_targets_are_a_zero_with_gradients(way):
    vectors, catalogue = torch.randn(0, 5, requires_grad=True), torch.randn(31, 5, requires_grad=True)
    loss = catalogue_cross_entropy(vectors, catalogue, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert not catalogue.grad.any()


def test_under_autocast_products_are_in_its_dtype_and_sums_in_float32(way):
    torch.manual_seed(0)
    vectors, catalogue = torch.randn(20, 16, requires_grad=True), torch.randn(31, 16, requires_grad=True)
    targets = torch.randint(31, (20,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_cross_entropy(vectors, catalogue, targets)
    loss.backward()
    products = (vectors.detach().bfloat16() @ catalogue.detach().bfloat16().T).float()
    expected = F.cross_entropy(products, targets, reduction="sum")
    assert loss.dtype == vectors.grad.dtype == catalogue.grad.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0)


def test_a_sum_beyond_what_float16_holds_is_finite(way):
    vectors, catalogue = torch.zeros(10_000, 4, dtype=torch.float16), torch.zeros(1000, 4, dtype=torch.float16)
    loss = catalogue_cross_entropy(vectors, catalogue, torch.zeros(10_000, dtype=torch.long))
    assert loss.item() == pytest.approx(10_000 * math.log(1000), rel=1e-5)


def test_no_more_than_a_chunk_of_scores_is_held(way):
    """Every tensor that the loss makes is smaller than all the scores."""
    vectors, catalogue = torch.randn(70, 4, requires_grad=True), torch.randn(5000, 4, requires_grad=True)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        catalogue_cross_entropy(vectors, catalogue, torch.arange(70)).backward()
    largest = max(event.cpu_memory_usage for event in profile.function_events)
    assert largest < 70 * 5000 * 4 / 2
