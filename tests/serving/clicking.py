"""Clicks, and what a model says after them: by one plain pass of the base, and by the model itself."""

import torch

from e4srec_hf.data import tokenize_histories

#: With items that come again, an unknown one, and more than the models below read.
CLICKS = [f"item {number}" for number in (3, 17, 3, 4, 29, 0, 11, 12, 3, 8, 21, 5)]
CLICKS.insert(4, "no such item")
MAX_HISTORY = 7


def plain_scores(model, tokens):
    """The scores after a history, from one pass over the instruction, the items and the response."""
    words = model.base.get_input_embeddings()
    items = torch.tensor(tokens[-model.config.max_history :], dtype=torch.long)
    vectors = [
        words(model.instruction_ids),
        model.input_proj(model.item_embeddings(items)).to(words.weight.dtype),
        words(model.response_ids),
    ]
    with torch.no_grad():
        hidden = model.base(inputs_embeds=torch.cat(vectors)[None], use_cache=False).last_hidden_state[0, -1].float()
        if model.config.head == "tied":
            return model.item_embeddings.weight @ (model.score.weight @ hidden)
        return model.score.weight @ hidden


def tokens_of(tokenizer, items):
    return [token for token in tokenizer.convert_tokens_to_ids(items) if token > 1]


def asked_anew(model, tokenizer, history, **options):
    if "candidates" in options:
        options["candidates"] = tokenizer.convert_tokens_to_ids(options["candidates"])
    best = model.recommend(**tokenize_histories(tokenizer, [history]), **options)
    kept = [place for place, token in enumerate(best.item_ids[0].tolist()) if token]
    return [tokenizer.convert_ids_to_tokens(best.item_ids[0, place].item()) for place in kept], best.scores[0, kept]


def tokens_read(model):
    """A list that gets the number of tokens of each pass of the model's base."""
    read = []
    model.base.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    return read
