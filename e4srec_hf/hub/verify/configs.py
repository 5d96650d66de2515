"""Check ``config.json``. It is parsed as JSON; code that it names is not run."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from ...modeling import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel
from ...modeling.bases import HARMLESS_STARTS
from .bases import NEEDS_CODE, check_base_config, check_base_name, check_numbers_of_parts, model_type_of
from .files import has_auto_map
from .findings import Finding, failed
from .sources import Source

MODELS = {"e4srec": (E4SRecConfig, E4SRecModel), "sasrec": (SASRecConfig, SASRecModel)}
#: Fields that transformers writes for any model and that refer to no file, repo or code.
GENERAL = {
    *("architectures", "auto_map", "dtype", "model_type", "transformers_version", "torch_dtype"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "use_cache", "return_dict", "tie_word_embeddings"),
    *("output_hidden_states", "output_attentions", "is_encoder_decoder", "chunk_size_feed_forward"),
    *("id2label", "label2id", "problem_type"),
}
#: Fields of `peft.LoraConfig` that are plain settings. Others read files (``corda_config``), import modules
#: (``megatron_core``) or change the base.
LORA = {
    *("r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "bias", "lora_bias", "use_rslora"),
    *("use_dora", "init_lora_weights", "fan_in_fan_out", "layers_to_transform", "layers_pattern", "rank_pattern"),
    *("alpha_pattern", "modules_to_save", "target_parameters", "task_type", "inference_mode"),
}
DTYPES = ("float32", "bfloat16", "float16")


def own_fields(model_type: str) -> set[str]:
    """The fields that the config class of a model defines."""
    return set(inspect.signature(MODELS[model_type][0]).parameters) - {"kwargs"}


def dtype_of(content: dict[str, Any]) -> Any:
    """The dtype in the parsed config of a model."""
    return content.get("dtype") or content.get("torch_dtype") or "float32"


def check_config(content: Any) -> Iterator[Finding]:
    """Compare ``config.json`` with what a release writes."""
    if (found := model_type_of(content)) not in MODELS:
        yield failed("config.json", f"has the model type {found!r}", f"A release writes one of {', '.join(MODELS)}.")
        return
    config_class, model_class = MODELS[content["model_type"]]
    expected = {
        "auto_map": {
            "AutoConfig": f"{config_class.__module__.rpartition('.')[2]}.{config_class.__name__}",
            "AutoModel": f"{model_class.__module__.rpartition('.')[2]}.{model_class.__name__}",
        },
        "architectures": [model_class.__name__],
    }
    for name, value in expected.items():
        if (found := content.get(name)) != value:
            why = "It names the code that runs while loading." if name == "auto_map" else "It names the model to build."
            yield failed("config.json", f"{name} is {found}; a release writes {value}", why)
    for name in sorted(content.keys() - own_fields(content["model_type"]) - GENERAL):
        yield failed(
            "config.json",
            f"has a field {name!r} that no release writes",
            "Such fields can refer to other files, repos or code.",
        )
    if (dtype := dtype_of(content)) not in DTYPES:
        yield failed("config.json", f"has the dtype {dtype!r}", f"It must be one of {', '.join(DTYPES)}.")
    lora = content.get("lora") or {}
    for name in sorted(lora.keys() - LORA) if isinstance(lora, dict) else ("not a dictionary",):
        yield failed(
            "config.json", f"lora has {name!r}", "Such fields can read files, import modules or change the base."
        )
    if isinstance(lora, dict) and (
        lora.get("bias", "none") != "none" or lora.get("init_lora_weights", True) not in HARMLESS_STARTS
    ):
        yield failed("config.json", "lora changes weights of the base", "It would affect other adapters on that base.")
    yield from check_numbers_of_parts("config.json", content)
    if content.get("base_config") is not None:
        yield from check_base_config("config.json: base_config", content["base_config"])
    if has_auto_map(content.get("base_config")):
        yield failed("config.json: base_config", "has an auto_map", NEEDS_CODE)


def build_config(content: dict[str, Any]) -> PreTrainedConfig:
    """Build the config with the class of the installed package, from the fields that the class defines.

    Raises:
        Exception: Any error the config class raises for invalid values.
    """
    model_type = content["model_type"]
    return MODELS[model_type][0](**{name: content[name] for name in own_fields(model_type) if name in content})


def read_config(source: Source, documents: Mapping[str, Any]) -> tuple[PreTrainedConfig | None, list[Finding]]:
    """Check ``config.json``; return the config, or ``None`` if a check fails, and the findings."""
    if "config.json" not in documents:
        if "config.json" in source.files:
            return None, []  # it is not valid JSON, which read_documents reports
        return None, [failed("config.json", "is missing", "Without it no model can be built.")]
    content = documents["config.json"]
    findings = list(check_config(content))
    if model_type_of(content) == "e4srec":
        findings += check_base_name(content)
    if any(finding.kind == "failed" for finding in findings):
        return None, findings
    try:
        return build_config(content), findings
    except Exception as error:  # any error means that the file is invalid
        findings.append(failed("config.json", f"no model can be built from it: {error}", "Loading fails too."))
        return None, findings
