"""Rows of the head by least squares, against numpy and against a fit for each item left out."""

import math

import numpy as np
import pytest
import torch

from e4srec_hf.catalogue import head_fit
from e4srec_hf.catalogue.head_fit import fit_rows


def plain_fit(vectors, rows, new_vectors):
    with_one = np.hstack([vectors, np.ones((len(vectors), 1))])
    weight = np.linalg.lstsq(with_one, rows, rcond=None)[0]
    return np.hstack([new_vectors, np.ones((len(new_vectors), 1))]) @ weight


def cosine(a, b):
    return ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()


def problem(n_items=40, dim=5, width=7, noise=0.5):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(n_items, dim)) + 3
    rows = vectors @ generator.normal(size=(dim, width)) + generator.normal(size=width)
    rows += noise * generator.normal(size=rows.shape)
    return vectors, rows, generator.normal(size=(3, dim))


@pytest.mark.parametrize("numbers_at_a_time", [1, 100, 2**24])
def test_the_fit_and_its_quality_equal_plain_ones(numbers_at_a_time, monkeypatch):
    monkeypatch.setattr(head_fit, "NUMBERS_AT_A_TIME", numbers_at_a_time)
    vectors, rows, new = problem()
    found, fit = fit_rows(*map(torch.tensor, (vectors, rows, new)))
    np.testing.assert_allclose(found.numpy(), plain_fit(vectors, rows, new), rtol=1e-10)

    others = ~np.eye(len(rows), dtype=bool)
    held_out = np.vstack(
        [plain_fit(vectors[keep], rows[keep], vectors[~keep]) for keep in others]
    )  # each item told by a fit to all others
    told = plain_fit(vectors, rows, vectors)
    variance = ((rows - rows.mean(0)) ** 2).sum()
    assert fit.n_items == 40
    assert fit.r2 == pytest.approx(1 - ((rows - told) ** 2).sum() / variance)
    assert fit.r2_held_out == pytest.approx(1 - ((rows - held_out) ** 2).sum() / variance)
    assert fit.cosine == pytest.approx(cosine(rows, told))
    assert fit.cosine_held_out == pytest.approx(cosine(rows, held_out))
    assert fit.r2_held_out < fit.r2 < 1


def test_vectors_that_tell_nothing_are_seen_through():
    generator = torch.Generator().manual_seed(0)
    _, fit = fit_rows(*(torch.randn(shape, generator=generator) for shape in ((60, 40), (60, 8), (1, 40))))
    assert fit.r2 > 0.5
    assert fit.r2_held_out < 0


def test_with_no_more_items_than_dimensions_nothing_is_held_out():
    vectors, rows, new = map(torch.tensor, problem(n_items=6, dim=5))
    found, fit = fit_rows(vectors, rows, new)
    assert fit.r2 == pytest.approx(1)
    assert math.isnan(fit.r2_held_out)
    assert math.isnan(fit.cosine_held_out)
    assert found.isfinite().all()


def test_directions_that_no_vector_has_count_for_nothing():
    vectors, rows, new = problem()
    flat, flat_new = vectors[:, [0, 1, 2, 3, 4, 0]], new[:, [0, 1, 2, 3, 4, 0]]  # one direction twice
    found, fit = fit_rows(*map(torch.tensor, (flat, rows, flat_new)))
    np.testing.assert_allclose(found.numpy(), plain_fit(vectors, rows, new), rtol=1e-8)
    assert fit.r2_held_out == pytest.approx(fit_rows(*map(torch.tensor, (vectors, rows, new)))[1].r2_held_out)


def test_one_item_gives_its_own_row():
    found, fit = fit_rows(torch.ones(1, 4), torch.full((1, 3), 2.0), torch.zeros(2, 4))
    assert found.tolist() == [[2.0] * 3] * 2
    assert math.isnan(fit.r2)
