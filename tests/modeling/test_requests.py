"""A single request pays for little besides its base: what is not in the base is a bounded number of ops."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from e4srec_hf.modeling.reading import PlainReader


class _Counted(TorchDispatchMode):
    """Counts the operations of torch by name."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_single_request_has_few_operations_outside_the_base(make_model):
    model = make_model().eval()
    model.reader = PlainReader()
    ids = torch.tensor([[5, 3, 4, 2]])
    with model.kept_instruction():
        model.recommend(ids)  # the instruction is read, and the base is checked
        forward, in_base = model.base.forward, []

        def counted_forward(*args, **kwargs):
            with _Counted() as inside:
                found = forward(*args, **kwargs)
            in_base.extend(inside.names)
            return found

        model.base.forward = counted_forward
        with _Counted() as everywhere:
            alone = model.recommend(ids)
        del model.base.forward
        several = model.recommend(torch.tensor([[0, 5, 3, 4, 2], [0, 0, 0, 6, 7], [0, 0, 0, 0, 0]]))
    names = Counter(everywhere.names) - Counter(in_base)
    assert names["gather"] == 1  # the known items; there is no padding to leave out
    assert names["cat"] == 1  # items and response
    assert names["topk"] == 1  # one chunk of scores
    assert names.total() <= 105
    torch.testing.assert_close(alone.scores[0], several.scores[0])
    assert torch.equal(alone.item_ids[0], several.item_ids[0])
