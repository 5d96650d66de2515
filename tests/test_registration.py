"""The installed code wins over remote code, whatever is imported in which order."""

import subprocess
import sys
import threading
from importlib.abc import Loader
from types import ModuleType

import pytest

from e4srec_hf import SASRecConfig, SASRecModel, registration
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


PAUSE = """
import sys, threading, time
from importlib.abc import MetaPathFinder

class Pause(MetaPathFinder):
    reached = threading.Event()

    def __init__(self, name):
        self.name = name

    def find_spec(self, fullname, path, target=None):
        if fullname == self.name and not self.reached.is_set():
            self.reached.set()
            time.sleep(0.3)  # in which other threads reach what this one is importing

def together(pause, first, *others):
    sys.meta_path.insert(0, Pause(pause))
    errors = []

    def run(code):
        try:
            exec(code, {})
        except BaseException as error:
            errors.append(f"{code}: {error!r}")

    threads = [threading.Thread(target=run, args=[code]) for code in (first, *others)]
    threads[0].start()
    assert Pause.reached.wait(60)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
"""


@pytest.mark.parametrize("code", ["from transformers import AutoModel", "import transformers; transformers.AutoConfig"])
def test_threads_that_import_transformers_at_once_all_get_it(code):
    run(f"{PAUSE}\nimport e4srec_hf\ntogether('transformers.dependency_versions_check', *[{code!r}] * 6)")


def test_auto_classes_that_another_thread_is_importing_are_registered_with(folder):
    run(f"""{PAUSE}
together("transformers.models.auto.auto_factory", "from transformers import AutoModel", "import e4srec_hf")
from transformers import AutoModel
AutoModel.from_pretrained({str(folder)!r})
""")


def test_only_the_thread_that_imports_peft_is_told_that_there_is_no_bitsandbytes():
    watcher = registration._Watcher()
    found = []

    def ask():
        try:
            found.append(watcher.find_spec("bitsandbytes", None))
        except ModuleNotFoundError as error:
            found.append(error.name)

    class Helpers(Loader):
        def exec_module(self, module):
            ask()
            other = threading.Thread(target=ask)
            other.start()
            other.join()

    registration._Loader(Helpers()).exec_module(ModuleType("peft.helpers"))
    ask()
    assert found == ["bitsandbytes", None, None]
