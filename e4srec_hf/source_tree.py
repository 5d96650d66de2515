"""The source folder, where some packages lie beside this one: they are found inside it, as they are installed."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: Packages that are installed inside this one.
BESIDE = ("examples", "hub_cards", "modeling")


def find_packages_beside(package: str, directory: str) -> None:
    """Find the packages beside ``package`` inside it, if its folder does not hold them: it is not installed then."""
    if not Path(directory, BESIDE[0]).is_dir():
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__qualname__ != _Beside.__qualname__]
        sys.meta_path.append(_Beside(package, str(Path(directory).parent)))


class _Beside(MetaPathFinder):
    """Finds the packages in [`BESIDE`], and nothing else that lies there."""

    def __init__(self, package: str, directory: str) -> None:
        self.names = {f"{package}.{name}" for name in BESIDE}
        self.directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of such a package; ``None``, which asks the next finder, for any other module."""
        return PathFinder.find_spec(fullname, [self.directory], target) if fullname in self.names else None
