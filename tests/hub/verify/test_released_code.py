"""The code of this version is recorded, and releases are told apart."""

import importlib
import json
import runpy
import sys
from hashlib import sha256

from e4srec_hf import SASRecConfig, SASRecModel, __version__
from e4srec_hf.hub.verify import verify
from e4srec_hf.hub.verify.released_code import record, released_code
from e4srec_hf.training.saving import save_trained
from tests.conftest import VOCAB
from tests.hub.verify.tampering import (
    find,
)

CODE = importlib.import_module("e4srec_hf.hub.verify.released_code")


def test_files_of_two_releases_are_told_apart(fresh, monkeypatch):
    now = released_code()[__version__]
    newer = {model: files | {"ranking.py": sha256(b"newer").hexdigest()} for model, files in now.items()}
    newest = {model: files | {"ranking.py": "", "histories.py": ""} for model, files in now.items()}
    monkeypatch.setattr(CODE, "released_code", lambda: {__version__: now, "8.0": newer, "9.0": newest})
    assert verify(fresh).release == __version__
    (fresh / "ranking.py").write_bytes(b"newer")
    assert verify(fresh).release == "8.0"
    (fresh / "histories.py").write_bytes(b"older")
    monkeypatch.setattr(
        CODE, "released_code", lambda: {"0.0": {"e4srec": {"histories.py": sha256(b"older").hexdigest()}}, "8.0": newer}
    )
    verification = verify(fresh)
    assert verification.release is None
    assert find(verification, "histories.py", "is from release 0.0, but most files are from 8.0")


def test_the_code_of_this_version_is_recorded(fresh, tmp_path, item_tokenizer):
    """Fails after a change in modeling/: `make record`, under a new version once this one is published."""
    folder = tmp_path / "sasrec"
    save_trained(SASRecModel(SASRecConfig(vocab_size=VOCAB)), item_tokenizer, folder)
    saved = {
        model: {file.name: sha256(file.read_bytes()).hexdigest() for file in where.glob("*.py")}
        for model, where in (("e4srec", fresh), ("sasrec", folder))
    }
    assert released_code()[__version__] == saved
    record(tmp_path / "code.json")
    assert json.loads((tmp_path / "code.json").read_text()) == {__version__: saved}


def test_recording_keeps_the_releases_before(tmp_path, monkeypatch):
    file = tmp_path / "code.json"
    file.write_text(json.dumps({"0.0": {"e4srec": {"a.py": "1"}}, __version__: {}}))
    monkeypatch.setattr(sys, "argv", ["verify", "--record", str(file)])
    runpy.run_module("e4srec_hf.hub.verify", run_name="__main__")
    releases = json.loads(file.read_text())
    assert list(releases) == ["0.0", __version__]
    assert releases["0.0"] == {"e4srec": {"a.py": "1"}}
    assert releases[__version__] == released_code()[__version__]
