"""Names that users give: a file or folder here, or a repo on the Hub."""

import pytest

from e4srec_hf.paths import check_exists, check_folder, looks_like_path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "demo").mkdir(parents=True)
    (tmp_path / "log.txt").write_text("u a\n")


@pytest.mark.parametrize(
    "name", ["./demo", "/demo", "~/demo", "a/b/c", "outputs/dmo", "log.csv", "demo/", "..\\demo", "it.safetensors"]
)
def test_what_looks_like_a_path(name):
    assert looks_like_path(name)


@pytest.mark.parametrize("name", ["org/e4srec-demo", "org/model.v2", "gpt2", "meta-llama/Llama-3.2-1B"])
def test_what_may_be_on_the_hub(name):
    assert not looks_like_path(name)
    check_exists(name, bare_names=True)


@pytest.mark.parametrize("name", ["outputs/demo", "outputs", "log.txt", "./log.txt"])
def test_what_is_here_passes(name):
    check_exists(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outputs/dmo", "no such folder: outputs/dmo; did you mean outputs/demo?"),
        ("log.tx", "no such folder: log.tx; did you mean log.txt?"),
        ("lgo.txt", "no such file: lgo.txt; did you mean log.txt?"),
        ("nothing/like/it", "no such folder: nothing/like/it"),
        ("demo", "no such folder: demo (on the Hub, a name is org/name)"),
    ],
)
def test_what_is_missing_is_named_with_what_may_have_been_meant(name, message):
    with pytest.raises(FileNotFoundError) as found:
        check_exists(name)
    assert str(found.value) == message


def test_a_folder_is_a_folder():
    check_folder("outputs")
    with pytest.raises(FileNotFoundError, match=r"no such folder: output; did you mean outputs\?"):
        check_folder("output")
    with pytest.raises(NotADirectoryError, match=r"log\.txt is a file"):
        check_folder("log.txt")
