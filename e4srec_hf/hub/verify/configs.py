"""Check ``config.json``. It is parsed as JSON; code that it names is not run."""

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from ...modeling import E4SRecConfig, E4SRecModel, SASRecConfig, SASRecModel
from .base_fields import check_numbers
from .bases import NEEDS_CODE, check_base_config, check_base_name, model_type_of, places_of
from .fields import check_fields, check_lora, own_fields
from .findings import Finding, failed
from .json_files import has_auto_map
from .sources import Source

MODELS = {"e4srec": (E4SRecConfig, E4SRecModel), "sasrec": (SASRecConfig, SASRecModel)}
DTYPES = ("float32", "bfloat16", "float16")


def dtype_of(content: Mapping[str, Any]) -> Any:
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
    if (dtype := dtype_of(content)) not in DTYPES:
        yield failed("config.json", f"has the dtype {dtype!r}", f"It must be one of {', '.join(DTYPES)}.")
    yield from check_fields(content)
    if content["model_type"] == "e4srec":
        yield from check_lora(content.get("lora"))
    yield from check_numbers("config.json", content)
    if content.get("base_config") is not None:
        yield from check_base_config("config.json: base_config", content["base_config"], places_of(content))
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
        config = build_config(content)
        if (version := getattr(config, "format_version", None)) != content.get("format_version"):
            findings.append(failed("config.json", f"format_version is not {version}", "Other code would misread it."))
        return config, findings
    except Exception as error:  # any error means that the file is invalid
        findings.append(failed("config.json", f"no model can be built from it: {error}", "Loading fails too."))
        return None, findings
