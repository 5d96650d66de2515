"""A tiny, randomly initialised Llama with its own byte-level tokenizer, created offline."""

import os
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..modeling.configuration_e4srec import PAPER_INSTRUCTION, PAPER_RESPONSE
from ..modeling.saving import staged_directory

EOS_TOKEN = "</s>"  # noqa: S105 - a name, not a secret


def train_byte_level_tokenizer(
    texts: Sequence[str] = (PAPER_INSTRUCTION, PAPER_RESPONSE), vocab_size: int = 512
) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer: it reads any text, and ``texts`` in few tokens.

    Args:
        texts: What the merges are learned from; the paper's prompt by default.
        vocab_size: At most so many tokens; 256 of them are the bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=1,
        special_tokens=[EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS_TOKEN, pad_token=EOS_TOKEN)


def make_tiny_base(
    directory: str | os.PathLike[str],
    *,
    hidden_size: int = 128,
    num_hidden_layers: int = 2,
    num_attention_heads: int = 2,
    intermediate_size: int | None = None,
    texts: Sequence[str] = (PAPER_INSTRUCTION, PAPER_RESPONSE),
    seed: int = 0,
) -> str:
    """Write a Llama with random weights, and its tokenizer, to a folder that `AutoModel` loads.

    It knows no language. It replaces a pretrained model where none is available, and cards say so.

    Args:
        directory: Where to write.
        hidden_size: Width of the model.
        num_hidden_layers: Number of layers.
        num_attention_heads: Heads a layer, for queries, keys and values alike.
        intermediate_size: Width of the MLP; by default four times ``hidden_size``.
        texts: What its tokenizer is trained on.
        seed: Seed of the weights; the caller's random state is left as it was.

    Returns:
        ``directory`` as a string.
    """
    tokenizer = train_byte_level_tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size or 4 * hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_attention_heads,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaModel(config)
    with staged_directory(directory) as stage:
        model.save_pretrained(stage)
        tokenizer.save_pretrained(stage)
    return str(directory)
