"""What quality.py compares: a row of the table for each model, and the settings that it is trained with."""

from dataclasses import dataclass, field
from typing import Any, Literal

from e4srec_hf.modeling.configuration_e4srec import PAPER_INSTRUCTION, PAPER_RESPONSE

AS_IN_THE_PAPER = {
    "instruction": PAPER_INSTRUCTION,
    "response": PAPER_RESPONSE,
    "tuning": "lora",
    "head": "linear",
    "train_item_embeddings": False,
    "projection_init": "random",
    "shuffle_histories": None,
    "all_targets": None,
    "item_dropout": 0.0,
    "base_dropout": 0.0,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.1,
    "warmup_steps": 100,
    "num_train_epochs": 3,
    "max_history": 50,
    "per_device_train_batch_size": 2,  # users: of Amazon Beauty about as many targets as the paper's 16
    "sasrec_hidden_size": 64,
    "sasrec_dropout": 0.2,
    "sasrec_shuffle_histories": None,
}
#: What the paper has other on a data set.
IN_THE_PAPER_FOR = {"yelp": {"warmup_steps": 300, "num_train_epochs": 5}}
FROZEN = {"tuning": "lora", "head": "linear", "learning_rate": 1e-3, "item_dropout": 0.2, "base_dropout": 0.0}


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Attributes:
        label: What it is, in words; ``{base}`` is the name of the pretrained base.
        changes: How its settings differ from the recipe's. ``None`` is the default of train.py, whatever the recipe
            says.
        base: ``given`` stands on the pretrained base, ``twin`` on one of its config with random weights, another for
            each seed; both have the recipe for pretrained bases. ``made`` has the small base that train.py makes.
        trained: Whether it takes a training run.
        recipe: Whether it has the recipe of the data set, or nothing is set at all.
    """

    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    base: Literal["made", "given", "twin"] = "made"
    trained: bool = True
    recipe: bool = True


MODELS = {
    "popularity": Model("popularity", trained=False),
    "ease": Model("EASE", trained=False),
    "item-transitions": Model("item-transition graph", trained=False),
    "sasrec-bce": Model(
        "SASRec, one negative (BCE)",
        {
            "model": "sasrec",
            "sasrec_loss": "bce",
            "sasrec_shuffle_histories": None,
            "sasrec_num_negatives": 1,
            "sasrec_learning_rate": 1e-3,
            "sasrec_epochs": 60,
            "sasrec_patience": 5,
        },
    ),
    "sasrec-ss": Model(
        "SASRec, sampled softmax (256 negatives)",
        {"model": "sasrec", "sasrec_loss": "sampled_softmax", "sasrec_num_negatives": 256},
    ),
    "sasrec-best": Model("SASRec, the recipe's (full cross-entropy)", {"model": "sasrec"}),
    "e4srec-paper": Model("E4SRec with the paper's settings: frozen base, LoRA, linear head", AS_IN_THE_PAPER),
    "e4srec-frozen": Model("E4SRec, frozen base, LoRA, linear head", FROZEN),
    "e4srec-tied": Model("E4SRec, base trained whole, tied head", {"head": "tied"}),
    "e4srec-best": Model("E4SRec, the recipe's (base trained whole, linear head)"),
    "e4srec-twin": Model("E4SRec on the architecture of {base} with random weights", base="twin"),
    "e4srec-pretrained": Model("E4SRec on {base}", base="given"),
    "in-order": Model(
        "… trained on histories in their order alone", {"shuffle_histories": None, "sasrec_shuffle_histories": None}
    ),
    "no-prompt": Model("… without a prompt", {"instruction": "", "response": ""}),
    "no-base": Model(
        "… without a base: projection straight into the head", {"made_base_layers": 0, "base_dropout": 0.0}
    ),
    "random-vectors": Model("… with random item vectors instead of SASRec's", {"item_embeddings": "random"}),
    "sasrec-default": Model("SASRec, nothing set", {"model": "sasrec"}, recipe=False),
    "e4srec-default": Model("E4SRec, nothing set (a small base is made and trained whole)", recipe=False),
    "e4srec-default-pretrained": Model("E4SRec on {base}, nothing set", base="given", recipe=False),
}
