"""Benchmarks as modules and as commands."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(script):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(script, BENCHMARKS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))  # as when it is run as a script
    sys.modules[script] = module
    spec.loader.exec_module(module)
    return module


def run(script, *flags, results):
    """What a benchmark writes."""
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--results", str(results), *map(str, flags)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = results.glob("*.json")
    return json.loads(found.read_text())
