"""The installed code wins over remote code, whatever is imported in which order."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import e4srec_hf; import peft",
        "import e4srec_hf; from transformers import Trainer",
        "import e4srec_hf; from transformers import AutoModel",
        "import peft; import e4srec_hf",
        "from transformers import Trainer; import e4srec_hf",
    ],
)
def test_auto_classes_know_the_models(code):
    script = f"""{code}
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("sasrec", vocab_size=5, hidden_size=4)
print(type(AutoModel.from_config(config)).__module__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "e4srec_hf.modeling.modeling_sasrec"
    if code.startswith("import e4srec_hf"):
        assert done.stderr == ""
