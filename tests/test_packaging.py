"""What is built: one version, every source file installed, and a source distribution that can run its own tests."""

import importlib
import itertools
import pkgutil
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import files, version
from pathlib import Path

import pytest
import yaml

import e4srec_hf

ROOT = Path(__file__).parents[1]
#: Source folders, and where their files are installed.
SOURCES = {
    "e4srec_hf": "e4srec_hf",
    "modeling": "e4srec_hf/modeling",
    "hub_cards": "e4srec_hf/hub_cards",
    "examples": "e4srec_hf/examples",
}


def source_files(folder: str) -> list[str]:
    """Paths below ``folder`` of this tree, without what Python caches."""
    pattern = "*.py" if folder == "examples" else "*"  # recipes of examples are for those who have the repository
    paths = (path for path in (ROOT / folder).rglob(pattern) if path.is_file() and path.suffix != ".pyc")
    return sorted(path.relative_to(ROOT / folder).as_posix() for path in paths)


def test_the_citation_has_the_version_of_the_package() -> None:
    namespace: dict[str, str] = {}
    exec((ROOT / "e4srec_hf" / "version.py").read_text(encoding="utf-8"), namespace)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == namespace["__version__"] == version("e4srec-hf")


@pytest.mark.parametrize("folder", SOURCES)
def test_every_source_file_is_installed(folder: str) -> None:
    installed = {path.as_posix() for path in files("e4srec-hf") or []}
    assert [name for name in source_files(folder) if f"{SOURCES[folder]}/{name}" not in installed] == []


def test_every_package_folder_can_be_imported_from() -> None:
    folders = {path.parent for path in (ROOT / "e4srec_hf").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the files that git tracks")
def test_the_source_distribution_holds_every_tracked_file(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = {name for name in listed.split("\0") if (ROOT / name).is_file()}
    tree = tmp_path / "tree"
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, check=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked - packed == {".gitattributes", ".gitignore"}


def test_a_walk_through_the_package_meets_each_module_once_and_nothing_of_the_source_folder():
    walk = pkgutil.walk_packages(e4srec_hf.__path__, "e4srec_hf.")
    names = [module.name for module in itertools.islice(walk, 2000)]
    assert len(names) == len(set(names)) < 1000
    assert "e4srec_hf.training.trainer" in names
    assert not [name for name in names if name.split(".")[1] in ("e4srec_hf", "tests", "benchmarks", "docs")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("e4srec_hf.tests")
    assert importlib.import_module("e4srec_hf.examples.train").__name__ == "e4srec_hf.examples.train"
