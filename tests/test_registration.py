"""The installed code wins over remote code, whatever is imported in which order."""

import subprocess
import sys

import pytest

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer

ORDERS = [
    "import e4srec_hf",
    "import e4srec_hf; import peft",
    "import e4srec_hf; from transformers import Trainer",
    "import e4srec_hf; from transformers import AutoModel, AutoTokenizer",
    "import e4srec_hf, importlib; importlib.reload(e4srec_hf); import peft",
    "import sys, e4srec_hf; [sys.modules.pop(name) for name in list(sys.modules) if name.startswith('e4srec_hf')]; "
    "import e4srec_hf, peft",
    "import peft; import e4srec_hf",
    "from transformers import Trainer; import e4srec_hf",
    "from transformers import AutoModel; import e4srec_hf",
    "from e4srec_hf import E4SRecModel",
    "from e4srec_hf import RankingTrainer",
    "from e4srec_hf import load_sequences",
    "import e4srec_hf.preparation",
]
USES = {
    "AutoConfig": "AutoConfig.from_pretrained(folder)",
    "AutoTokenizer": "AutoTokenizer.from_pretrained(folder)",
    "AutoModel": "AutoModel.from_pretrained(folder)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "sasrec"
    items = build_item_tokenizer(["a", "b"])
    SASRecModel(SASRecConfig(vocab_size=len(items), hidden_size=4)).save_pretrained(folder, tokenizer=items)
    return folder


def run(script):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_whatever_is_imported_first_the_models_are_those_of_the_package(order, folder):
    done = run(f"""{order}
from transformers import AutoConfig, AutoModel
model, by_config = AutoModel.from_pretrained({str(folder)!r}), AutoModel.from_config(AutoConfig.for_model("sasrec"))
print(*(type(it).__module__ for it in (model, by_config, model.config)))
""")
    assert done.stdout.split() == ["e4srec_hf.modeling.modeling_sasrec"] * 2 + [
        "e4srec_hf.modeling.configuration_sasrec"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("auto", list(USES))
def test_each_auto_class_alone_knows_the_models(auto, folder):
    done = run(f"import e4srec_hf\nfrom transformers import {auto}\nfolder = {str(folder)!r}\n{USES[auto]}")
    assert "trust_remote_code" not in done.stderr
    assert "instantiate a model of type" not in done.stderr


@pytest.mark.slow
def test_bitsandbytes_is_imported_when_it_is_asked_for_and_not_before(base_dir):
    done = run(f"""
import sys, torch
from e4srec_hf import E4SRecModel
from peft.tuners.lora import model as lora
E4SRecModel.from_base({str(base_dir)!r}, torch.randn(9, 4))
print("bitsandbytes" in sys.modules, lora.is_bnb_available())
import bitsandbytes
print(lora.is_bnb_available(), lora.is_bnb_4bit_available())
""")
    assert done.stdout.split() == ["False", "False", "True", "True"]
