"""The same on a Hub, of which little is fetched."""

import json
import shutil

import pytest
from transformers import AutoModel

from e4srec_hf import E4SRecModel, __version__
from e4srec_hf.hub.push import push
from e4srec_hf.hub.verify import Verification, verify
from e4srec_hf.hub.verify.sources import check_paths
from e4srec_hf.training.saving import save_trained
from tests.hub.verify.tampering import HOSTILE_CODE, HOSTILE_PICKLE, WEIGHTS, change_json, contents, find, write


@pytest.fixture
def pushed(hub_here, fresh, base_dir):
    """The adapter on a Hub, and its base, pinned, in another repo; returns the commit of the adapter."""
    base = hub_here.commit("org/base", contents(base_dir))
    shutil.rmtree(fresh / "base")
    change_json(fresh / "config.json", base_model_name_or_path="org/base", base_model_revision=base)
    return hub_here.commit("org/model", contents(fresh))


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_push_sends_passes(inside, hub_here, fresh, base_dir, item_table, item_tokenizer):
    if inside:
        write("base/chat_template.jinja", "{{ messages }}")(fresh)
        write("training_args.bin", HOSTILE_PICKLE)(fresh)
        model = E4SRecModel.from_pretrained(fresh)
    else:
        hub_here.commit("org/base", contents(base_dir))
        model = E4SRecModel.from_base("org/base", item_table)
    commit = push(model, "org/model", tokenizer=item_tokenizer, with_base=inside)
    verification = verify("org/model")
    assert verification.passed, str(verification)
    assert verification.revision == commit.oid
    assert [finding.where for finding in verification.findings] == ["base/chat_template.jinja"] * inside


def test_a_fresh_push_passes_and_its_commit_is_named(pushed, hub_here, tmp_path):
    verification = verify("org/model", cache_dir=tmp_path / "cache")
    assert verification == Verification("org/model", pushed, __version__, ())
    assert f"checked commit {pushed}" in str(verification)
    assert {request.method for request in hub_here.requests} <= {"GET", "HEAD"}
    read_of_base = {request.path.rpartition("/")[2] for request in hub_here.requests if "org/base" in request.path}
    assert read_of_base <= {"config.json", "adapter_config.json"}


def test_only_the_header_of_weights_on_a_hub_is_fetched(hub_here, base_dir, item_table, item_tokenizer, tmp_path):
    model = E4SRecModel.from_base(base_dir, item_table, tuning="full")
    save_trained(model, item_tokenizer, tmp_path)
    hub_here.commit("org/full", contents(tmp_path))
    assert verify("org/full").passed
    sent = sum(request.sent for request in hub_here.requests if request.path.endswith(WEIGHTS))
    header = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], "little")
    assert sent <= 8 + (8 + header) + 4096 < (tmp_path / WEIGHTS).stat().st_size / 5


@pytest.mark.parametrize(
    ("files", "where", "what"),
    [
        ({"histories.py": HOSTILE_CODE}, "histories.py", "differs from release"),
        ({"tools/extra.py": HOSTILE_CODE}, "tools/extra.py", "does not contain"),
        ({"training_args.bin": HOSTILE_PICKLE}, "training_args.bin", "unpickled"),
        ({"plot.png": HOSTILE_PICKLE}, "plot.png", "begins like a pickle"),
        ({WEIGHTS: HOSTILE_PICKLE}, WEIGHTS, "is not a complete safetensors file"),
        ({"adapter_config.json": "{}"}, "adapter_config.json", "must not be in"),
        (
            {"config.json": {"base_model_name_or_path": "./base", "base_model_revision": None}},
            "base/config.json",
            "is missing",
        ),
        ({"config.json": {"base_model_name_or_path": "../base"}}, "config.json", "outside the repo"),
        ({"config.json": {"auto_map": {"AutoModel": "evil/x--y.Z"}}}, "config.json", "auto_map is"),
    ],
)
def test_a_tampered_repo_on_a_hub_fails_and_the_commit_before_passes(
    files, where, what, pushed, hub_here, fresh, marker
):
    config = json.loads((fresh / "config.json").read_text())
    files = {
        name: json.dumps(config | content) if isinstance(content, dict) else content for name, content in files.items()
    }
    tampered = hub_here.commit("org/model", files)
    verification = verify("org/model")
    assert verification.revision == tampered
    assert find(verification, where, what), str(verification)
    assert verification.exit_status == 1
    assert verify("org/model", revision=pushed).passed
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"config.json": {"model_type": "evil"}}, "org/base/config.json", "'evil', which is not in transformers"),
        ({"adapter_config.json": {}}, "org/base", "has an adapter_config.json"),
        ({"config.json": {"num_hidden_layers": 10**6}}, "org/base/config.json", "has .*num_hidden_layers"),
    ],
)
def test_a_base_on_a_hub_that_does_not_load_as_it_is_fails(changes, where, what, pushed, hub_here, fresh):
    config = json.loads(hub_here.files("org/base")["config.json"])
    files = {name: json.dumps(config | content) for name, content in changes.items()}
    change_json(fresh / "config.json", base_model_revision=hub_here.commit("org/base", files))
    hub_here.commit("org/model", contents(fresh))
    assert find(verify("org/model"), where, what)


def test_custom_code_of_a_base_that_transformers_has_is_a_note_because_it_is_never_run(pushed, hub_here, fresh, marker):
    config = json.loads(hub_here.files("org/base")["config.json"])
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    commit = hub_here.commit("org/base", {"config.json": json.dumps(config), "evil.py": HOSTILE_CODE})
    change_json(fresh / "config.json", base_model_revision=commit)
    hub_here.commit("org/model", contents(fresh))
    verification = verify("org/model")
    assert verification.passed, str(verification)
    assert "note: org/base/config.json: has an auto_map" in str(verification)
    AutoModel.from_pretrained("org/model")
    assert not marker.exists()


def test_a_hub_that_does_not_answer_could_not_be_checked(pushed, hub_here, tmp_path):
    hub_here.fail("*/histories.py", status=404, times=9)
    assert verify("org/model", cache_dir=tmp_path / "1").exit_status == 2
    hub_here.commit("org/private", {"config.json": "{}"}, private=True)
    assert verify("org/private", token=False).exit_status == 2
    assert verify("org/model", revision="no-such-branch").exit_status == 2


def test_a_path_on_a_hub_that_leads_outside_is_never_fetched():
    assert [finding.where for finding in check_paths(["a/../../b", "/etc/x", "~/x", "C:x", "a/b.md"])] == [
        "a/../../b",
        "/etc/x",
        "~/x",
        "C:x",
    ]
