"""The model card: what an adapter is, how to use it, and its figures with their protocol."""

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoTokenizer

from .evaluation import RankingReport, results_table
from .modeling import E4SRecConfig
from .modeling.histories import FIRST_ITEM_ID
from .modeling.saving import staged_directory

#: Metrics of the table on the card.
CARD_METRICS = ("hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr")


def write_model_card(
    directory: str | os.PathLike[str],
    config: E4SRecConfig,
    reports: Mapping[str, Mapping[str, RankingReport]] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    random_base: bool = False,
) -> None:
    """Write ``README.md`` for a saved adapter and, where there are figures, ``evaluation.json`` with all of them.

    Args:
        directory: Folder of the adapter; its item tokenizer lies there.
        config: The adapter's configuration.
        reports: Kind of evaluation to model name to report. Without it the card says that there are no figures.
        settings: Names and values for the table of settings.
        repo_id: How the example calls the repo; by default the folder.
        random_base: Say that the base was made on the spot, with random weights.
    """
    reports, settings = reports or {}, settings or {}
    items = AutoTokenizer.from_pretrained(directory).convert_ids_to_tokens(
        list(range(FIRST_ITEM_ID, min(FIRST_ITEM_ID + 3, config.vocab_size)))
    )
    data = ModelCardData(library_name="transformers", tags=["e4srec", "sequential-recommendation", "recommendation"])
    base = config.base_model_name_or_path
    if base is not None and not base.startswith("./") and not os.path.isdir(base):
        data["base_model"], data["base_model_relation"] = base, "adapter"
    template = resources.files("e4srec_hf.hub_cards").joinpath("model_card.md")
    card = ModelCard.from_template(
        data,
        template_str=template.read_text(encoding="utf-8"),
        title=Path(directory).name,
        repo_id=repo_id or str(directory),
        contents="the whole model, its base included"
        if config.tuning == "full"
        else "what was trained: LoRA weights, the lifting layer and the scoring head, with the item vectors",
        example_history=repr([items]),
        random_base=random_base,
        results=[
            {"protocol": next(iter(table.values())).protocol, "table": results_table(table, CARD_METRICS)}
            for table in reports.values()
        ],
        settings={name: str(value).replace("\n", "\\n").replace("|", "\\|") for name, value in settings.items()},
        n_items=config.vocab_size - FIRST_ITEM_ID,
        n_added=config.vocab_size - config.grown_from[0] if config.grown_from else 0,
        n_retired=len(config.retired_items),
    )
    with staged_directory(directory) as stage:
        card.save(stage / "README.md")
        if reports:
            content = {
                kind: {name: report.to_dict() for name, report in table.items()} for kind, table in reports.items()
            }
            (stage / "evaluation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
