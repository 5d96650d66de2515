"""The code that travels stands alone."""

import ast
import sys
from pathlib import Path

import e4srec_hf.modeling


def test_the_code_that_travels_imports_nothing_of_the_package():
    allowed = {"torch", "transformers", "peft", "safetensors", "huggingface_hub", *sys.stdlib_module_names}
    for file in Path(e4srec_hf.modeling.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.partition(".")[0] in allowed, file
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, file
