"""E4SRec: a language model reads item vectors between two pieces of prompt and scores the whole catalogue at once.

    [instruction tokens] [item 1] [item 2] … [item n] [response tokens]
                                                             └── last hidden state → scores over the catalogue

Source: arXiv 2312.02443. Trained are LoRA, the input projection and the head; they and the item table are saved.

The files of this repo, in reading order:

- ``modeling_e4srec.py`` (this one): the model, how it is made, loaded and run.
- ``configuration_e4srec.py``: every setting. ``item_config.py``: what it shares with SASRec's.
- ``recommender.py``: loss, scores and recommendations. ``ranking.py``: the best items. ``pipeline.py``: for raw ids.
- ``histories.py``: which items of a history count. ``reading.py``: how the base reads them.
- ``bases.py``: finding or sharing the base, LoRA, the prompt. ``saving.py``: what is written, and strict loading.
"""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import cached_file, logging

from .bases import (
    SHARED_HUB_ARGUMENTS,
    base_of_adapter,
    check_prompt,
    default_target_modules,
    hub_commit,
    open_base,
    origin,
    single_device,
    text_embeddings,
    text_tokenizer,
    tokenize_prompt,
    tune_base,
)
from .configuration_e4srec import E4SRecConfig
from .histories import IGNORE_INDEX, UNK_ID, check_item_ids, known_items, pack_right_padded, target_positions
from .item_config import check_item_table
from .ranking import catalogue_scores
from .reading import KeptInstruction, PlainReader, ReadingTask
from .recommender import Recommender
from .saving import WEIGHTS_NAME, check_saved, load_strictly

#: Arguments of `from_pretrained` and `from_base` that go to the base.
BASE_ARGUMENTS = (
    *("dtype", "device_map", "quantization_config", "attn_implementation"),
    *("max_memory", "offload_folder", "low_cpu_mem_usage"),
)
#: Arguments of `from_pretrained` that say where files come from.
HUB_ARGUMENTS = (*SHARED_HUB_ARGUMENTS, "revision", "subfolder")
#: What `AutoModel` passes on that must not reach the base, and what is always so here: safetensors, nothing pickled.
NOT_FOR_THE_BASE = (
    *("trust_remote_code", "adapter_kwargs", "_from_auto", "_commit_hash", "code_revision"),
    *("use_safetensors", "weights_only"),
)
#: What the Trainer and accelerate read off the outer model about its quantization and placement.
OUTER_ATTRIBUTES: tuple[str, ...] = ("hf_device_map", "is_quantized", "hf_quantizer", "quantization_method")
OUTER_ATTRIBUTES += ("is_loaded_in_4bit", "is_loaded_in_8bit")

logger = logging.get_logger(__name__)


class E4SRecModel(Recommender):
    """A base language model with an item table, an input projection, a scoring head and, for ``tuning="lora"``, LoRA.

    Make one with [`from_base`], load one with [`from_pretrained`]. Its ``reader`` reads the histories: a
    [`PlainReader`], or another object with the same ``read``.

    Args:
        config: The adapter's configuration.
        base: The bare base model, which is changed in place. May be left out for ``tuning="full"``: the base is then
            randomly initialised.
    """

    config_class = E4SRecConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # the base decides: attention is in it alone
    config: E4SRecConfig
    base: PreTrainedModel
    instruction_ids: Tensor
    response_ids: Tensor

    def __init__(self, config: E4SRecConfig, base: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if base is None:
            if config.tuning == "lora" or config.base_config is None:
                raise ValueError("An E4SRec model needs a base: use E4SRecModel.from_base(…) or from_pretrained(…).")
            base_config = AutoConfig.for_model(**config.base_config)
            base = AutoModel.from_config(base_config, attn_implementation=config._attn_implementation)
        check_prompt(config, base)
        tune_base(base, config)
        tokens = text_embeddings(base)
        hidden, own = tokens.embedding_dim, dict[str, Any](device=tokens.weight.device, dtype=torch.float32)
        self.base = base
        self.item_embeddings = nn.Embedding(config.vocab_size, config.item_embedding_dim, **own)
        self.item_embeddings.weight.requires_grad_(config.train_item_embeddings)
        self.input_proj = nn.Linear(config.item_embedding_dim, hidden, **own)
        scored_width = config.vocab_size if config.head == "linear" else config.item_embedding_dim
        self.score = nn.Linear(hidden, scored_width, bias=False, **own)
        for name, ids in (("instruction_ids", config.instruction_ids), ("response_ids", config.response_ids)):
            self.register_buffer(name, torch.tensor(ids, dtype=torch.long, device=own["device"]), persistent=False)
        for module in self.modules():  # all are: post_init must not do it again
            module._is_hf_initialized = True  # type: ignore[assignment]
        self.post_init()
        for parameter in self.parameters():
            if parameter.requires_grad:  # off the mapped file, too, whose alignment changes the last bit of a product
                parameter.data = parameter.data.to(torch.float32, copy=True)
        self.reader: Any = PlainReader()
        self.has_base_dropout = False  # set by the training code, which puts it in
        self.unmerged_weights: dict[str, Tensor] = {}  # of the layers that LoRA is merged into
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
        """Make a fresh model, in training mode.

        Args:
            base_model: Hub id, folder, GGUF file, or a loaded model, which is frozen: its weights are shared with any
                number of adapters; with ``tuning="full"`` a copy of it is trained.
            item_embeddings: ``(vocab, item dimension)`` item vectors in the order of the item tokenizer, ``[PAD]`` and
                ``[UNK]`` first: a tensor, or an array.
            tokenizer: The text tokenizer of the base, for the prompt. By default the one beside the base.
            config: Fields of [`E4SRecConfig`]; ``dtype``, ``device_map``, ``quantization_config``, … of the base; and
                where to fetch it from (``cache_dir``, ``token``, …).

        Raises:
            ValueError: If the item vectors are not finite, the base is no decoder, or the prompt has no tokenizer.
            TypeError: If an argument is not known.
            OSError: If the base cannot be found.
        """
        base_arguments = {name: config.pop(name) for name in BASE_ARGUMENTS if name in config}
        hub_arguments = {name: config.pop(name) for name in SHARED_HUB_ARGUMENTS if name in config}
        if unknown := sorted(set(config) - set(inspect.signature(cls.config_class.__init__).parameters)):
            raise TypeError(f"E4SRecModel.from_base() does not know the argument(s) {', '.join(unknown)}")
        table = torch.as_tensor(item_embeddings).detach().to("cpu", torch.float32)
        check_item_table(table, config.pop("vocab_size", None), config.pop("item_embedding_dim", None))
        revision, tuning = config.pop("base_model_revision", None), config.get("tuning", "lora")
        base = open_base(base_model, revision, tuning=tuning, **base_arguments, **hub_arguments)
        name, commit = origin(base)
        config.setdefault("base_layers", getattr(base, "kept_layers", None))  # of a model that reads only these
        config |= {"vocab_size": table.shape[0], "item_embedding_dim": table.shape[1]}
        settings = cls.config_class(base_model_name_or_path=name, base_model_revision=commit or revision, **config)
        if "target_modules" not in (config.get("lora") or {}):
            settings.lora["target_modules"] = default_target_modules(base)
        if settings.instruction or settings.response:
            if tokenizer is None:
                if name is None:
                    raise ValueError('The base is from memory: pass its tokenizer=, or instruction="", response="".')
                tokenizer = text_tokenizer(name, commit or revision, **hub_arguments)
            tokenize_prompt(settings, tokenizer)
        model = cls(settings, base)
        if settings.tuning == "full":
            described = base.config.to_dict().items()  # without remote code that a Hub repo may name: it was not run
            settings.base_config = {k: v for k, v in described if k not in ("_name_or_path", "auto_map")}
            settings.base_model_name_or_path = settings.base_model_revision = None
        with torch.no_grad():
            model.item_embeddings.weight.copy_(table)
            if settings.projection_init == "orthogonal":  # the head inverts the input projection
                nn.init.orthogonal_(model.input_proj.weight)  # (hidden, item dimension)
                nn.init.zeros_(model.input_proj.bias)
                back = model.input_proj.weight.T
                model.score.weight.copy_(table.to(back) @ back if settings.head == "linear" else back)
        return model.train()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: E4SRecConfig | None = None,
        base_model: str | os.PathLike[str] | PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load an adapter onto its base, or onto another one that fits, in evaluation mode.

        Args:
            pretrained_model_name_or_path: Hub id or folder of the adapter.
            config: The adapter's configuration, where it has been read already.
            base_model: Hub id, folder, GGUF file, or a loaded model to use instead of the recorded base. The weights of
                a loaded model, or of the base of a loaded E4SRec model, are shared by any number of adapters.
            tokenizer: Text tokenizer of ``base_model``, for the prompt; by default the one beside it. A base created
                in memory gets the token ids recorded for the original base.
            output_loading_info: Return the info of `PreTrainedModel.from_pretrained` too; loading is strict.
            kwargs: ``dtype``, ``device_map``, ``quantization_config``, ``attn_implementation``, ``max_memory``, … go
                to the base; ``revision``, ``token``, ``cache_dir``, … say which adapter; others override the config.

        Raises:
            OSError: If the adapter or its base cannot be found.
            ValueError: If the base does not fit, or a tensor is missing, surplus or misshapen; every one is named.
            TypeError: If an argument is not known.
        """
        hub_arguments = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
        if (commit := hub_commit(str(pretrained_model_name_or_path), **hub_arguments)) is not None:
            hub_arguments["revision"] = commit  # all files of one commit, whatever is pushed meanwhile
        if "torch_dtype" in kwargs:  # the older name
            kwargs.setdefault("dtype", kwargs.pop("torch_dtype"))
        base_arguments = {name: found for name in BASE_ARGUMENTS if (found := kwargs.pop(name, None)) is not None}
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
        config._commit_hash, config.name_or_path = commit, str(pretrained_model_name_or_path)
        weights_file = str(cached_file(pretrained_model_name_or_path, WEIGHTS_NAME, **hub_arguments))
        base = None
        if config.tuning == "full" and (base_model is not None or "quantization_config" in base_arguments):
            raise ValueError('tuning="full" brings its base along, in float32: leave out base_model and quantization.')
        if config.tuning == "lora":
            hub_arguments.pop("subfolder", None)
            base = base_of_adapter(
                config, pretrained_model_name_or_path, base_model, tokenizer, base_arguments, hub_arguments
            )
        model = cls(config, base)
        tensors = model.state_dict()
        load_strictly(model, weights_file, {key: tensors[key] for key in model.saved_keys()})
        check_saved(weights_file, getattr(config, "weights_digest", None))
        if config.tuning == "full" and base_arguments["dtype"] != "auto":
            model.base.to(base_arguments["dtype"])
        if config.tuning == "full" and "device_map" in base_arguments:
            model.to(single_device(base_arguments["device_map"]))  # type: ignore[arg-type]
        info: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (model.eval(), info | {"error_msgs": []}) if output_loading_info else model.eval()

    def saved_keys(self) -> list[str]:
        """Names of the tensors in the file: all of this model's own, and of the base only what is trained."""
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

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:  # type: ignore[override]
        """As `PreTrainedModel.push_to_hub`. A base that is a folder or file on this machine is a `ValueError`."""
        if self.config.base_model_name_or_path and os.path.exists(self.config.base_model_name_or_path):
            raise ValueError("Nobody else has the base, a path here: e4srec_hf.hub.push(…, with_base=True) sends it.")
        return super().push_to_hub(repo_id, **kwargs)  # type: ignore[arg-type]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base; the trained weights are float32."""
        return self.base.dtype

    @property
    def scores_first_item(self) -> bool:  # type: ignore[override]
        """Whether there is a prompt to predict the first item of a row from."""
        return bool(self.config.instruction_ids or self.config.response_ids)

    @property
    def scoring_vectors(self) -> Tensor:  # type: ignore[override]
        """``(vocab, width)``: the weights of the linear head, or the item table of the tied one."""
        return self.score.weight if self.config.head == "linear" else self.item_embeddings.weight

    def get_input_embeddings(self) -> nn.Embedding:
        """The item table, ``(vocab, item dimension)``."""
        return self.item_embeddings

    def kept_instruction(self) -> KeptInstruction:
        """Read the instruction once: ``with model.kept_instruction(): …``, while the weights do not change."""
        return KeptInstruction.of(self) or KeptInstruction(self)

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
            input_ids: ``(batch, seq)`` item ids. Special tokens and what the mask hides are ignored.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            labels: ``(batch, seq)`` unshifted: the item at a position is predicted from the prompt and the last
                ``max_history`` items before it. -100 where nothing is to be predicted.
            num_items_in_batch: Number of targets to divide the loss by; the `Trainer` gives it when it accumulates.
            kwargs: Ignored; the `Trainer` passes what other models use.

        Returns:
            ``loss`` and ``logits``, ``(targets, vocab)`` in row-major order or without labels ``(batch, vocab)``.

        Raises:
            ValueError: If an id is outside the vocabulary, or there is neither a prompt nor an item to read.
            RuntimeError: If it is to be trained while its adapter is merged into the base, or without its dropout.
        """
        if labels is None:
            items, n_items = self.known_histories(input_ids, attention_mask)
            if attention_mask is not None and ((input_ids == UNK_ID) & (attention_mask > 0)).any(1)[n_items == 0].any():
                raise ValueError("A row has no known id. Is it text? Use pipeline('sequential-recommendation').")
            vectors = self.history_vectors(items, n_items)
            return CausalLMOutput(logits=catalogue_scores(vectors, self.scoring_parts))  # type: ignore[arg-type]
        if self.training and self.unmerged_weights:
            raise RuntimeError("The adapter is merged: nothing would train it. Call unmerge_adapter(model) first.")
        if self.training and self.config.base_dropout and not self.has_base_dropout:
            raise RuntimeError("base_dropout is for training with e4srec_hf: prepare_for_training(model) puts it in.")
        check_item_ids(input_ids, self.config.vocab_size, "input_ids")
        check_item_ids(labels, self.config.vocab_size, "labels", ignore_index=IGNORE_INDEX)
        known = known_items(input_ids, attention_mask)
        rows, columns = target_positions(input_ids, labels)
        preceding = (known.cumsum(1) - known.long())[rows, columns]  # (targets,) known items before each
        if not self.scores_first_item and (preceding == 0).any():
            row = int(rows[preceding == 0][0])
            raise ValueError(f"Row {row} has a target without a known item before it, and the prompt is empty.")
        vectors = self.target_vectors(pack_right_padded(input_ids, known)[0], rows, preceding)  # (targets, width)
        return self._output(vectors, labels[rows, columns], None, num_items_in_batch)

    def history_vectors(self, items: Tensor, n_items: Tensor) -> Tensor:
        """Vectors of whole histories: ``(rows, items)`` right-padded ids and their numbers to ``(rows, width)``."""
        return self.target_vectors(items, torch.arange(len(items), device=items.device), n_items)

    def target_vectors(self, items: Tensor, rows: Tensor, preceding: Tensor) -> Tensor:
        """``(targets, width)`` vectors of the targets in ``rows`` that follow ``preceding`` of the ``items``."""
        hidden = self.reader.read(self.reading_task(), items, self.project, rows, preceding)  # (targets, hidden)
        hidden = hidden.to(self.score.weight.dtype)
        return hidden if self.config.head == "linear" else self.score(hidden)

    def reading_task(self) -> ReadingTask:
        """What the reader needs to know of this model."""
        tokens = text_embeddings(self.base)
        prompt = tokens(self.instruction_ids), tokens(self.response_ids)  # (tokens, hidden) each
        kept = None if torch.is_grad_enabled() or self.base.training else KeptInstruction.of(self)
        return ReadingTask(self.base, prompt, self.config.max_history, kept)

    def project(self, ids: Tensor) -> Tensor:
        """``(rows, items)`` ids to ``(rows, items, hidden)``."""
        vectors = F.dropout(self.item_embeddings(ids), self.config.item_dropout, self.training)
        return self.input_proj(vectors).to(text_embeddings(self.base).weight.dtype)


E4SRecModel.register_for_auto_class("AutoModel")
