"""E4SRec: a language model that reads item vectors between two pieces of prompt and scores the whole catalogue.

    [instruction tokens] [item 1] [item 2] … [item n] [response tokens]
                                                             └── last hidden state → scores over the catalogue

Source: arXiv 2312.02443. Trained are the LoRA weights, the lifting layer and the scoring head; they and the item table
are all that is saved.
"""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import cached_file, logging

from .bases import (
    check_hidden_size,
    check_prompt,
    default_target_modules,
    find_tokenizer,
    full_path,
    is_causal,
    open_base,
    recorded_base,
    single_device,
    text_embeddings,
    tokenize_prompt,
    tune_base,
)
from .configuration_e4srec import E4SRecConfig
from .histories import (
    IGNORE_INDEX,
    check_item_ids,
    columns_before_last_target,
    known_items,
    last_items,
    one_row_per_target,
    pack_right_padded,
    target_positions,
)
from .ranking import RecommendMixin, cross_entropy_of_targets, scoring_precision
from .saving import WEIGHTS_NAME, AtomicSaveMixin, load_strictly, make_trained_weights_float32

#: Arguments of `from_pretrained` and `from_base` that go to the base.
BASE_ARGUMENTS = ("dtype", "device_map", "quantization_config", "attn_implementation")
#: Arguments of `from_pretrained` that say where files come from.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
#: Of these, what the base is fetched with as well. Never the adapter's revision, never its trust in remote code.
SHARED_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "token")
#: What `AutoModel` passes on that must not reach the base.
NOT_FOR_THE_BASE = ("trust_remote_code", "adapter_kwargs", "_from_auto", "_commit_hash", "code_revision")
#: What the Trainer and accelerate read off a model about its quantization and placement.
OUTER_ATTRIBUTES = (
    "is_quantized",
    "hf_quantizer",
    "quantization_method",
    "is_loaded_in_4bit",
    "is_loaded_in_8bit",
    "hf_device_map",
)

logger = logging.get_logger(__name__)


class E4SRecModel(RecommendMixin, AtomicSaveMixin):
    """A base language model with an item table, a lifting layer, a scoring head and, for ``tuning="lora"``, LoRA.

    Make one with [`from_base`], load one with [`from_pretrained`].

    Args:
        config: The adapter's configuration.
        base: The bare base model. It is changed in place: LoRA layers go in, or all its weights become trainable.
            May be left out for ``tuning="full"``; a base with random weights is then made.
    """

    config_class = E4SRecConfig
    supports_gradient_checkpointing = True
    # The base decides which of these it can do; the shell has no attention of its own.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    config: E4SRecConfig
    base: PreTrainedModel
    instruction_ids: Tensor
    response_ids: Tensor
    _hf_peft_config_loaded: bool

    def __init__(self, config: E4SRecConfig, base: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if base is None:
            if config.tuning == "lora" or config.base_config is None:
                raise ValueError(
                    "An E4SRec model stands on a base: make one with E4SRecModel.from_base(base_model, item_embeddings)"
                    " or load one with E4SRecModel.from_pretrained(...)."
                )
            base_config = AutoConfig.for_model(**config.base_config)
            base = AutoModel.from_config(base_config, attn_implementation=config._attn_implementation)
        check_prompt(config, base)
        tune_base(base, config)
        tokens = text_embeddings(base)
        hidden, device = tokens.embedding_dim, tokens.weight.device
        self.base = base
        self.item_embeddings = nn.Embedding(config.vocab_size, config.item_embedding_dim, device=device)
        self.item_embeddings.weight.requires_grad_(config.train_item_embeddings)
        self.input_proj = nn.Linear(config.item_embedding_dim, hidden, device=device)
        scored_width = config.vocab_size if config.head == "linear" else config.item_embedding_dim
        self.score = nn.Linear(hidden, scored_width, bias=False, device=device)
        for name in ("instruction_ids", "response_ids"):
            ids = torch.tensor(getattr(config, name), dtype=torch.long, device=device)
            self.register_buffer(name, ids, persistent=False)
        for module in self.modules():  # all are initialised: post_init must not do it again
            module._is_hf_initialized = True  # type: ignore[assignment]
        self.post_init()
        make_trained_weights_float32(self)
        self._base_is_causal: bool | None = None  # found out when it first matters
        # the Trainer expects just these to be absent when it resumes
        self._keys_to_ignore_on_save = set(self.state_dict()) - set(self.saved_keys())
        # the Trainer looks for quantization and placement on the outer model only
        for name in OUTER_ATTRIBUTES:
            if hasattr(base, name):
                setattr(self, name, getattr(base, name))
        self._hf_peft_config_loaded = getattr(base, "is_quantized", False)

    @classmethod
    def from_base(
        cls,
        base_model: str | os.PathLike[str] | PreTrainedModel,
        item_embeddings: Any,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **config: Any,
    ) -> "E4SRecModel":
        """Make a fresh model to train.

        Args:
            base_model: Hub id, folder, or a loaded model, which is then changed in place (a copy with a
                language-modelling head lends its body).
            item_embeddings: ``(vocab, item dimension)`` item vectors in the order of the item tokenizer, ``[PAD]`` and
                ``[UNK]`` first: a tensor, or an array.
            tokenizer: The text tokenizer of the base, for the prompt. Found beside the base where it has a name.
            config: Fields of [`E4SRecConfig`], ``dtype``, ``device_map``, ``quantization_config`` and
                ``attn_implementation`` of the base, and where to fetch it from (``cache_dir``, ``token``, …).

        Returns:
            A model in training mode: LoRA starts as the identity, the lifting layer and the head at random.

        Raises:
            ValueError: If the item vectors hold NaN or do not have ``vocab_size`` rows, if the base has no decoder of
                its own, or if there is a prompt but no tokenizer to read it.
            TypeError: If an argument is not known.
            OSError: If the base cannot be found.
        """
        base_arguments = {name: config.pop(name) for name in BASE_ARGUMENTS if name in config}
        hub_arguments = {name: config.pop(name) for name in SHARED_HUB_ARGUMENTS if name in config}
        if unknown := sorted(set(config) - set(inspect.signature(cls.config_class.__init__).parameters)):
            raise TypeError(f"E4SRecModel.from_base() does not know the argument(s) {', '.join(unknown)}")
        table = torch.as_tensor(item_embeddings).detach().to("cpu", torch.float32)
        check_item_table(table, config.pop("vocab_size", None), config.pop("item_embedding_dim", None))
        revision = config.pop("base_model_revision", None)
        base, name = open_base(base_model, revision, **base_arguments, **hub_arguments)
        settings = cls.config_class(
            base_model_name_or_path=None if name is None else full_path(name),
            base_model_revision=revision,
            vocab_size=table.shape[0],
            item_embedding_dim=table.shape[1],
            **config,
        )
        if "target_modules" not in (config.get("lora") or {}):
            settings.lora["target_modules"] = default_target_modules(base)
        if settings.tuning == "full":
            settings.base_config = {k: v for k, v in base.config.to_dict().items() if k != "_name_or_path"}
            settings.base_model_name_or_path = settings.base_model_revision = None
        if settings.instruction or settings.response:
            if tokenizer is None:
                if name is None:
                    raise ValueError(
                        "The base was made in memory, so its tokenizer is not known: pass tokenizer=, or a prompt "
                        'without text (instruction="", response="").'
                    )
                tokenizer = AutoTokenizer.from_pretrained(
                    name, revision=revision, trust_remote_code=False, **hub_arguments
                )
            tokenize_prompt(settings, tokenizer)
        model = cls(settings, base)
        with torch.no_grad():
            model.item_embeddings.weight.copy_(table)
        return model.train()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: E4SRecConfig | None = None,
        base_model: str | os.PathLike[str] | PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **kwargs: Any,
    ) -> "E4SRecModel":
        """Load an adapter onto its base, or onto another one that fits.

        Args:
            pretrained_model_name_or_path: Hub id or folder of the adapter.
            config: The adapter's configuration, where it has been read already.
            base_model: Hub id, folder, or a loaded model to use instead of the recorded base. A loaded model is
                changed in place.
            tokenizer: Text tokenizer of ``base_model``. The prompt is put into tokens again with it, or with the one
                that stands beside ``base_model`` where that is a name. A loaded model without it gets the tokens
                recorded for the original base.
            kwargs: ``dtype``, ``device_map``, ``quantization_config`` and ``attn_implementation`` go to the base;
                ``revision``, ``token``, ``cache_dir``, … say which adapter; anything else overrides the config.

        Returns:
            The model, in evaluation mode.

        Raises:
            OSError: If the adapter or its base cannot be found.
            ValueError: If the base does not fit the adapter, or the file lacks a tensor, has one too many, or one of
                another shape; every one is named.
            TypeError: If an argument is not known.
        """
        hub_arguments = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
        shared_arguments = {name: hub_arguments[name] for name in SHARED_HUB_ARGUMENTS if name in hub_arguments}
        if "torch_dtype" in kwargs:  # the older name
            kwargs.setdefault("dtype", kwargs.pop("torch_dtype"))
        base_arguments = {name: kwargs.pop(name) for name in BASE_ARGUMENTS if kwargs.get(name) is not None}
        kwargs = {name: value for name, value in kwargs.items() if name not in NOT_FOR_THE_BASE}
        if config is None:
            config, kwargs = cls.config_class.from_pretrained(
                pretrained_model_name_or_path, return_unused_kwargs=True, **hub_arguments, **kwargs
            )
        if kwargs:
            raise TypeError(f"E4SRecModel.from_pretrained() does not know the argument(s) {', '.join(sorted(kwargs))}")
        # AutoConfig may have taken these in; a recorded dtype is the one that the base had when it was saved
        dtype = base_arguments.get("dtype") or config.dtype or "auto"
        base_arguments["dtype"] = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
        config._attn_implementation = base_arguments.setdefault("attn_implementation", config._attn_implementation)
        weights_file = str(cached_file(pretrained_model_name_or_path, WEIGHTS_NAME, **hub_arguments))

        base = None
        if config.tuning == "full" and (base_model is not None or "quantization_config" in base_arguments):
            raise ValueError(
                'A model with tuning="full" brings its base along, in float32: leave out base_model and '
                "quantization_config."
            )
        if config.tuning == "lora" and base_model is None:
            name = recorded_base(config, pretrained_model_name_or_path)
            base, _ = open_base(name, config.base_model_revision, **base_arguments, **shared_arguments)
            check_hidden_size(base, name, weights_file)
            config.base_model_name_or_path = full_path(name)
        elif base_model is not None:
            base, other = open_base(base_model, **base_arguments, **shared_arguments)
            check_hidden_size(base, other, weights_file)
            config.base_model_name_or_path = None if other is None else full_path(other)
            config.base_model_revision = None
            if tokenizer is None and not isinstance(base_model, PreTrainedModel):
                tokenizer = find_tokenizer(str(base_model), **shared_arguments)
            if tokenizer is not None:
                tokenize_prompt(config, tokenizer)
        model = cls(config, base)
        tensors = model.state_dict()
        load_strictly(model, weights_file, {key: tensors[key] for key in model.saved_keys()})
        if config.tuning == "full" and base_arguments["dtype"] != "auto":
            model.base.to(base_arguments["dtype"])
        if config.tuning == "full" and "device_map" in base_arguments:
            model.to(single_device(base_arguments["device_map"]))  # type: ignore[arg-type]
        return model.eval()

    def saved_keys(self) -> list[str]:
        """Names of the tensors in the file: all that is ours, and of the base only what is trained."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return [
            name
            for name in self.state_dict()
            if not name.startswith("base.") or name in trained or ".lora_" in name or self.config.tuning == "full"
        ]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As [`AtomicSaveMixin.save_pretrained`]. A base inside ``save_directory`` is recorded relative to it."""
        recorded = self.config.base_model_name_or_path
        if self.config.tuning == "lora" and recorded is None:
            logger.warning("The base has no name: this adapter will load only with from_pretrained(..., base_model=…).")
        if recorded is not None and os.path.isabs(recorded):
            inside = os.path.relpath(recorded, Path(save_directory).absolute())
            if not inside.startswith(".."):
                self.config.base_model_name_or_path = f"./{Path(inside).as_posix()}"
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.config.base_model_name_or_path = recorded

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base; what is trained is float32 besides."""
        return self.base.dtype

    @property
    def scores_first_item(self) -> bool:
        """Whether there is a prompt to predict the first item of a row from."""
        return bool(self.config.instruction_ids or self.config.response_ids)

    def get_input_embeddings(self) -> nn.Embedding:
        """The item table, ``(vocab, item dimension)``."""
        return self.item_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Score the catalogue for each target, or without labels for what follows the whole history.

        Args:
            input_ids: ``(batch, seq)`` item ids. Special tokens and what the mask hides are passed over.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            labels: ``(batch, seq)`` unshifted: the item at a position is predicted from the prompt and the last
                ``max_history`` items before it. -100 where nothing is to be predicted.
            num_items_in_batch: Number of targets to divide the loss by; the `Trainer` gives it when it accumulates.
            kwargs: Ignored; the `Trainer` passes what other models use.

        Returns:
            ``logits``: ``(targets, vocab)`` in row-major order, ``(batch, vocab)`` without labels; ``loss``.

        Raises:
            ValueError: If an id is outside the vocabulary, or there is neither a prompt nor an item to read.
        """
        check_item_ids(input_ids, self.config.vocab_size, "input_ids")
        known = known_items(input_ids, attention_mask)
        if labels is None:
            return CausalLMOutput(logits=self._score(self._read(input_ids, known)))
        check_item_ids(labels, self.config.vocab_size, "labels", ignore_index=IGNORE_INDEX)
        rows, columns = target_positions(input_ids, labels)
        preceding = (known.cumsum(1) - known.long())[rows, columns]  # (targets,) known items before each
        if self._one_pass_serves(preceding):
            before_last_target = columns_before_last_target(rows, columns, known.shape)
            states, _ = self._run(*pack_right_padded(input_ids, known & before_last_target))
            hidden = states[rows, len(self.instruction_ids) + preceding - 1]  # (targets, hidden)
        else:
            hidden = self._read(*one_row_per_target(input_ids, known, rows, columns))  # (targets, hidden)
        logits = self._score(hidden)  # (targets, vocab)
        loss = cross_entropy_of_targets(logits, labels[rows, columns], num_items_in_batch)
        return CausalLMOutput(loss=loss, logits=logits)

    def _one_pass_serves(self, preceding: Tensor) -> bool:
        """Whether one row a user gives the states of all its targets, exactly.

        It does where nothing stands behind the items, the base looks at nothing that comes later, every history fits
        into ``max_history``, and the first item is predicted from an instruction or not at all.
        """
        if len(self.response_ids) or not len(preceding) or int(preceding.max()) > self.config.max_history:
            return False
        if not len(self.instruction_ids) and int(preceding.min()) == 0:
            return False
        if self._base_is_causal is None:
            self._base_is_causal = is_causal(self.base)
        return self._base_is_causal

    def _read(self, ids: Tensor, known: Tensor) -> Tensor:
        """The last hidden state behind prompt, items and response: ``(rows, seq)`` ids to ``(rows, hidden)``."""
        states, lengths = self._run(*pack_right_padded(ids, last_items(known, self.config.max_history)))
        if len(lengths) and int(lengths.min()) == 0:
            row = int((lengths == 0).nonzero()[0])
            raise ValueError(f"Row {row} has no known item, and the prompt is empty: there is nothing to read.")
        return states[torch.arange(len(states), device=states.device), lengths - 1]

    def _run(self, ids: Tensor, n_items: Tensor) -> tuple[Tensor, Tensor]:
        """Run the base over instruction, items and response.

        Args:
            ids: ``(rows, items)`` right-padded item ids.
            n_items: ``(rows,)`` how many of them count.

        Returns:
            The hidden states ``(rows, seq, hidden)``, right-padded, and the lengths ``(rows,)``.
        """
        prompt = text_embeddings(self.base)
        items = self.input_proj(self.item_embeddings(ids))  # (rows, items, hidden)
        instruction, response = (
            prompt(tokens).to(items.dtype).expand(len(ids), -1, -1)  # (rows, tokens, hidden)
            for tokens in (self.instruction_ids, self.response_ids)
        )
        embeds = torch.cat([instruction, items, response], dim=1)  # (rows, seq, hidden)
        lengths = n_items + len(self.instruction_ids) + len(self.response_ids)
        if not embeds.shape[0] or not embeds.shape[1]:
            return embeds, lengths
        positions = torch.arange(embeds.shape[1], device=ids.device)
        if len(self.response_ids):  # close the gap between the items of a short history and the response
            behind_items = len(self.instruction_ids) + ids.shape[1]
            is_token = (positions < len(self.instruction_ids) + n_items[:, None]) | (positions >= behind_items)
            embeds, _ = pack_right_padded(embeds, is_token)
            positions = positions[: embeds.shape[1]]
        mask = (positions < lengths[:, None]).long()
        outputs = self.base(inputs_embeds=embeds.to(prompt.weight.dtype), attention_mask=mask, use_cache=False)
        return outputs.last_hidden_state, lengths

    def _score(self, hidden: Tensor) -> Tensor:
        """``(rows, hidden)`` to ``(rows, vocab)``; in float32 when ranking, for half precision makes ties."""
        with scoring_precision(self.training, hidden.device):
            scored = self.score(hidden.to(self.score.weight.dtype))
            return scored if self.config.head == "linear" else scored @ self.item_embeddings.weight.T


def check_item_table(table: Tensor, vocab_size: int | None, item_embedding_dim: int | None) -> None:
    """Refuse item vectors that no model can be built on.

    Raises:
        ValueError: If the table is no matrix, holds NaN or infinity, or has not the size that was asked for.
    """
    if table.dim() != 2:
        raise ValueError(f"item_embeddings must have the shape (vocab, item dimension), not {tuple(table.shape)}")
    broken = ~table.isfinite().all(dim=1)
    if broken.any():
        raise ValueError(
            f"item_embeddings hold NaN or infinity in {int(broken.sum())} of {len(table)} rows, "
            f"the first is row {int(broken.nonzero()[0])}."
        )
    if vocab_size is not None and len(table) != vocab_size:
        raise ValueError(
            f"item_embeddings have {len(table)} rows, but vocab_size is {vocab_size}: "
            "one row a token of the item tokenizer is needed, [PAD] and [UNK] first."
        )
    if item_embedding_dim is not None and table.shape[1] != item_embedding_dim:
        raise ValueError(f"item_embeddings are {table.shape[1]} wide, but item_embedding_dim is {item_embedding_dim}.")


E4SRecModel.register_for_auto_class("AutoModel")
