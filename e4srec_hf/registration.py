"""Registration of the models with `AutoModel`, once transformers has imported its auto classes and not before.

`import e4srec_hf` must stay light, and must make `AutoModel` use the installed code. So two imports are watched: when
transformers imports its auto classes, our models are imported too; when these have been imported, they are registered.
If it is PEFT that imports the auto classes, our models, which need PEFT, are imported when PEFT is ready.

PEFT imports bitsandbytes whether a base is quantized or not, which takes a second: `peft.helpers` does without it.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

AUTO_CLASSES = "transformers.models.auto.modeling_auto"
PEFT = "peft"
MODELS = "e4srec_hf.modeling"


def register_with_transformers() -> None:
    """Make installed code win over remote code, now or when transformers imports its auto classes."""
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())
    if AUTO_CLASSES in sys.modules:
        import_module(MODELS)


def _register(models: ModuleType) -> None:
    from transformers import AutoConfig, AutoModel

    for name in ("E4SRec", "SASRec"):
        config, model = getattr(models, f"{name}Config"), getattr(models, f"{name}Model")
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)


class _Watcher(MetaPathFinder):
    """Finds the watched modules as Python does, and lets [`_Loader`] execute them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that is watched; ``None``, which asks the next finder, for any other.

        Raises:
            ModuleNotFoundError: If it is `peft.helpers` that asks for bitsandbytes.
        """
        if fullname == "bitsandbytes" and _is_being_imported("peft.helpers"):
            raise ModuleNotFoundError("peft.helpers does without bitsandbytes.", name=fullname)
        if fullname not in (AUTO_CLASSES, MODELS, PEFT):
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            spec = None if finder is self or find_spec is None else find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return PathFinder.find_spec(fullname, path, target)


class _Loader(Loader):
    """The loader of a module, and what follows its execution."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader itself."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then import or register the models."""
        self.loader.exec_module(module)
        if module.__name__ == MODELS:
            _register(module)
        elif (
            AUTO_CLASSES in sys.modules
            and MODELS not in sys.modules
            and (module.__name__ == PEFT or not _is_being_imported(PEFT))
        ):
            import_module(MODELS)


def _is_being_imported(name: str) -> bool:
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)
