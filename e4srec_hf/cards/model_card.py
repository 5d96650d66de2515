"""The model card: what a model is, how to use it, its code, and its metrics, all from the files beside it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from ..data.description import is_hub_id
from ..data.item_tokenizer import load_item_tokenizer
from ..data.splits import LEAVE_ONE_OUT, describe_split
from ..evaluation.reports import RankingReport, load_evaluation, results_table
from ..files import (
    BASE_FOLDER,
    CARD_NAME,
    CONFIG_NAME,
    CURVES_NAME,
    EVALUATION_NAME,
    TRAINING_NAME,
    code_files,
    count_lines,
    read_json,
)
from ..modeling.histories import FIRST_ITEM_ID
from ..modeling.saving import TOKENIZER_FILES, AtomicSaveMixin, staged_directory
from .curves import METRIC, draw_learning_curves
from .facts import load_facts
from .markdown import duration, name_value_table, plain, python_literal, table
from .metadata import read_metadata

#: Metrics of the table on the card and of its metadata.
CARD_METRICS = ("hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr")
#: ``model_type`` to the name of the model in ``evaluation.json`` and ``training.json``.
MODEL_NAMES = {"e4srec": "E4SRec", "sasrec": "SASRec"}
#: Metadata that a person writes into a card. A new card keeps it.
LICENCE_FIELDS = ("license", "license_name", "license_link")


def refresh_model_card(
    directory: str | os.PathLike[str],
    repo_id: str | None = None,
    *,
    license: str | None = None,  # noqa: A002 - as ModelCardData calls it
    model: AtomicSaveMixin | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write ``README.md`` from the files in the folder of a model, and draw the learning curves.

    Metrics come from ``evaluation.json`` (`save_reports`) if it belongs to the model, facts of the training from
    ``training.json`` (`CardCallback`). If one is missing, the card says so.

    Args:
        directory: Folder of an `E4SRecModel` or a `SASRecModel`.
        repo_id: The repo that the example loads; by default the folder.
        license: Licence of the model, as the Hub names licences; by default the one on the present card is kept.
        model: The model, if it is not saved in the folder yet.
        tokenizer: The item tokenizer, if it is not saved in the folder yet.

    Raises:
        FileNotFoundError: If there is no ``config.json`` in the folder.
        ValueError: If one of the files cannot be read; it is named.
    """
    config = _load_config(directory) if model is None else model.config
    if tokenizer is None and Path(directory, TOKENIZER_FILES[0]).is_file():
        tokenizer = load_item_tokenizer(directory)
    facts, evaluation = load_facts(directory), load_evaluation(directory, model)
    title = (repo_id or Path(directory).absolute().name).rsplit("/", 1)[-1]
    with staged_directory(directory) as stage:
        with _naming(Path(directory, TRAINING_NAME), "the facts of a training"):
            drawn = draw_learning_curves(facts.get("stages", {}), stage / CURVES_NAME)
            told = _training(facts)
        with _naming(Path(directory, EVALUATION_NAME), "the popularity bias"):
            told |= _skew(evaluation.popularity_skew)
        data = _metadata(config, facts, evaluation.reports, title)
        for field, value in ({"license": license} if license is not None else kept_licence(directory)).items():
            data[field] = value
        card = ModelCard.from_template(
            data,
            template_str=template("model_card.md"),
            title=plain(title),
            kind=_kind(config),
            base=data.base_model,
            base_inside=_base_inside(config, directory),
            base_revision=plain(getattr(config, "base_model_revision", None) or ""),
            base_layers=getattr(config, "base_layers", None),
            random_base=facts.get("random_base", False),
            repo_id=python_literal(repo_id or os.fspath(directory)),
            warnings=[plain(warning) for warning in evaluation.warnings],
            results=_results(evaluation.reports),
            picture=CURVES_NAME if drawn or Path(directory, CURVES_NAME).is_file() else None,
            n_items=config.vocab_size - FIRST_ITEM_ID,
            n_added=config.vocab_size - config.grown_from[0] if config.grown_from else 0,
            n_retired=len(config.retired_items),
            **_example(tokenizer),
            **_code(config.model_type, directory if model is None else None),
            **told,
        )
        card.save(stage / CARD_NAME)


@contextmanager
def _naming(path: Path, content: str) -> Iterator[None]:
    """Name the file if its content is not what it should be."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold {content} ({error!r}): remove it.") from error


def _load_config(directory: str | os.PathLike[str]) -> PreTrainedConfig:
    if not Path(directory, CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{directory} holds no config.json: a model card is made in the folder of a model.")
    read_json(Path(directory, CONFIG_NAME))  # it names the file that is no JSON object
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    if config.model_type not in MODEL_NAMES:
        raise ValueError(
            f"{directory} holds a model of the type {config.model_type!r}; cards are made for "
            f"{' and '.join(MODEL_NAMES)}."
        )
    return config


def template(name: str) -> str:
    """A template of ``hub_cards``."""
    return resources.files("e4srec_hf.hub_cards").joinpath(name).read_text(encoding="utf-8")


def kept_licence(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The licence in the metadata of the card in a folder, which a new card keeps.

    Raises:
        ValueError: If there is a card whose metadata cannot be read.
    """
    path = Path(directory, CARD_NAME)
    if not path.is_file():
        return {}
    try:
        data = read_metadata(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"The metadata of {path} cannot be read ({error}): fix or remove that card.") from error
    return {field: data[field] for field in LICENCE_FIELDS if data.get(field)}


def _kind(config: PreTrainedConfig) -> str:
    """The kind of a repo: ``sasrec``, or the tuning of an E4SRec, ``lora`` or ``full``."""
    return config.tuning if config.model_type == "e4srec" else "sasrec"


def _metadata(
    config: PreTrainedConfig,
    facts: Mapping[str, Any],
    reports: Mapping[str, Mapping[str, RankingReport]],
    title: str,
) -> ModelCardData:
    """The metadata, with the metrics of this model only; base and data set are named if they are on the Hub."""
    source = facts.get("data") or {}
    name = MODEL_NAMES[config.model_type]
    own = [rows[name] for rows in reports.values() if name in rows]
    data = ModelCardData(
        library_name="transformers",
        tags=[config.model_type, "sequential-recommendation", "recommendation"],
        datasets=[source["hub_id"]] if source.get("hub_id") else None,
        metrics=list(CARD_METRICS) if own else None,
        model_name=title if own else None,
        eval_results=[
            EvalResult(
                task_type="sequential-recommendation",
                task_name="Sequential recommendation",
                dataset_type=source.get("hub_id") or source.get("name") or "unnamed",
                dataset_name=source.get("name") or "unnamed",
                dataset_split="test",
                metric_type=metric,
                metric_name=f"{metric.upper()}, {report.protocol}",
                metric_value=report.metrics[metric].value,
                metric_args={
                    "candidates": report.candidates,
                    "exclude_seen": report.exclude_seen,
                    "protocol": report.rules,
                },
            )
            for report in own
            for metric in CARD_METRICS
        ]
        or None,
    )
    base = getattr(config, "base_model_name_or_path", None)
    if _kind(config) == "lora" and base is not None and (is_hub_id(base) or _is_hub_name(base)):
        data["base_model"], data["base_model_relation"] = base, "adapter"
    return data


def _base_inside(config: PreTrainedConfig, directory: str | os.PathLike) -> bool:
    """Whether the base lies in the folder of the model; a config that was loaded has its absolute path."""
    base = getattr(config, "base_model_name_or_path", None)
    return base is not None and os.path.abspath(os.path.join(directory, base)) == os.path.abspath(
        os.path.join(directory, BASE_FOLDER)
    )


def _is_hub_name(base: str) -> bool:
    """Whether a base has one of the Hub's old names without a namespace, and is not a file or folder."""
    return is_hub_id(f"namespace/{base}") and not os.path.exists(base)


def _example(tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any]:
    """A history made of the first items of the catalogue, as Python code."""
    if tokenizer is None:
        return {"history": None}
    n_items = len(tokenizer) - FIRST_ITEM_ID
    first = tokenizer.convert_ids_to_tokens([FIRST_ITEM_ID + item for item in range(min(3, n_items))])
    return {"history": python_literal([first]), "top_k": min(10, n_items)}


def _code(model_type: str, directory: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Number of lines and names of the Python files that are saved with the model."""
    files = code_files(model_type, directory)
    return {"code_lines": f"{count_lines(files):,}", "code_files": [file.name for file in files]}


def _results(reports: Mapping[str, Mapping[str, RankingReport]]) -> list[dict[str, str]]:
    """Each kind of ranking: its protocol and its table."""
    return [
        {
            "protocol": _sentence_case(plain(next(iter(rows.values())).protocol)),
            "table": results_table({plain(model): report for model, report in rows.items()}, CARD_METRICS),
            "remark": plain(next(iter(rows.values())).remark),
        }
        for rows in reports.values()
        if rows
    ]


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _training(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Tables and sentences from ``training.json``; ``None`` or empty if it does not have the facts for them."""
    data, hardware, stages = facts.get("data"), facts.get("hardware"), facts.get("stages", {})
    return {
        "data": data and _data_table(data),
        "protocol": describe_split((data or {}).get("split", LEAVE_ONE_OUT)),
        "stages": [_stage(name, stage) for name, stage in stages.items()],
        "selected": any(stage.get("selected") for stage in stages.values()),
        "curves": any(stage.get("curve") for stage in stages.values()),
        "settings": facts.get("settings") and name_value_table(("setting", "value"), facts["settings"]),
        "seeds": ", ".join(
            f"{name} {plain(seed)}" for name, seed in facts.get("seeds", {}).items() if seed is not None
        ),
        "hardware": hardware and _hardware(hardware),
        "versions": ", ".join(f"{package} {version}" for package, version in facts.get("versions", {}).items()),
    }


def _data_table(data: Mapping[str, Any]) -> str:
    counts = {name: f"{data[name]:,}" for name in ("users", "items", "interactions")}
    titles = {"titles of the items": data["titles_from"]} if "titles_from" in data else {}
    return name_value_table(("data", "value"), {"name": data["name"], **counts, "SHA-256": data["sha256"], **titles})


def _stage(name: str, stage: Mapping[str, Any]) -> str:
    """One line on one training."""
    line = f"{name}: {duration(stage['seconds']) if 'seconds' in stage else 'time unknown'}"
    if (selected := stage.get("selected")) is not None:
        line += f", epoch {selected['epoch']:g} selected"
        line += f" with NDCG@10 {selected[METRIC]:.4f} on validation" if METRIC in selected else ""
    return line


def _hardware(hardware: Mapping[str, Any]) -> str:
    parts = [plain(hardware["device"]), f"processes: {hardware['processes']}"]
    return ", ".join([*parts, f"threads of each: {hardware['threads']}"] if "threads" in hardware else parts)


def _skew(skew: Mapping[str, Any] | None) -> dict[str, Any]:
    """The popularity bias of the recommendations."""
    if skew is None:
        return {"skew": None}
    heads = skew["heads"]
    header = ["items", *(f"{head} most popular ({size:,} items)" for head, size in heads.items()), "coverage", "Gini"]
    rows = [
        [
            f"{name} ({row['count']:,})",
            *(f"{100 * row[head]:.1f}%" for head in heads),
            f"{100 * row['coverage']:.1f}%",
            f"{row['gini']:.3f}",
        ]
        for name, row in skew["rows"].items()
    ]
    users = f"{skew['n_users']:,} of {skew['of_users']:,} test users"
    return {
        "skew": table(header, rows),
        "skew_users": users + (", drawn at random" if skew["n_users"] < skew["of_users"] else ""),
        "skew_top_k": skew["top_k"],
        "skew_seen": "hidden" if skew["exclude_seen"] else "kept",
    }
