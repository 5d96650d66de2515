"""Registration of the models with the auto classes of transformers, when transformers imports these and not before.

`import e4srec_hf` must stay light, and must make `AutoModel` use the installed code. So some imports are watched, and
something short happens after each: our configurations and models are registered, the models by stand-ins that import
them when one is loaded.

Packages of transformers replace themselves in `sys.modules` while they are imported. A thread that asked for one in the
meantime keeps the module that was replaced, which has nothing in it; it is made to ask the new one.

PEFT imports bitsandbytes whether a base is quantized or not, which takes a second. It is imported here for quantized
bases alone: `peft.helpers` does without it, and LoRA asks for it once something else has imported it, as a quantized
base does.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: The models by the ``model_type`` of their configuration.
MODELS = {"e4srec": "E4SRec", "sasrec": "SASRec"}


def register_with_transformers() -> None:
    """Make installed code win over remote code, now or when transformers imports its auto classes."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__qualname__ != _Watcher.__qualname__]
    sys.meta_path.insert(0, _Watcher())
    for name, follow in AFTER_IMPORT.items():
        if name not in sys.modules:
            continue
        module = import_module(name)  # another thread may be importing it: this waits for it
        if not _is_being_imported(name):
            follow(module)


def _configuration(model_type: str) -> Any:
    module = import_module(f"e4srec_hf.modeling.configuration_{model_type}")
    return getattr(module, f"{MODELS[model_type]}Config")


def _register_configurations(auto: ModuleType) -> None:
    for model_type in MODELS:
        auto.AutoConfig.register(model_type, _configuration(model_type), exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    for model_type in MODELS:
        config = _configuration(model_type)
        auto.AutoModel.register(config, _stand_in(model_type, config), exist_ok=True)


def _stand_in(model_type: str, config: Any) -> type:
    """A class that loads the model when it is asked to: `AutoModel` asks nothing else of it."""

    def model() -> Any:
        return getattr(import_module(f"e4srec_hf.modeling.modeling_{model_type}"), f"{MODELS[model_type]}Model")

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        return model().from_pretrained(*args, **kwargs)

    def from_config(*args: Any, **kwargs: Any) -> Any:
        return model()._from_config(*args, **kwargs)

    methods = {"from_pretrained": staticmethod(from_pretrained), "_from_config": staticmethod(from_config)}
    return type(f"{MODELS[model_type]}Model", (), {"config_class": config, "__module__": __name__, **methods})


def _ask_for_bitsandbytes_late(lora: ModuleType) -> None:
    for name in ("is_bnb_available", "is_bnb_4bit_available"):
        is_available = getattr(lora, name, None)
        if is_available is not None:
            setattr(lora, name, lambda ask=is_available: "bitsandbytes" in sys.modules and ask())


def _ask_what_replaced_it(package: ModuleType) -> None:
    lazy = sys.modules[package.__name__]
    if lazy is not package:
        package.__getattr__ = lambda name: getattr(lazy, name)  # type: ignore[method-assign]


def _nothing(module: ModuleType) -> None:
    pass


#: What follows the import of a module.
AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "transformers": _ask_what_replaced_it,
    "transformers.models": _ask_what_replaced_it,
    "transformers.models.auto": _ask_what_replaced_it,
    "transformers.models.auto.configuration_auto": _register_configurations,
    "transformers.models.auto.modeling_auto": _register_models,
    "peft.helpers": _nothing,  # while it is imported, there is no bitsandbytes
    "peft.tuners.lora.model": _ask_for_bitsandbytes_late,
}


class _Watcher(MetaPathFinder):
    """Finds the watched modules as Python does, and lets [`_Loader`] execute them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that is watched; ``None``, which asks the next finder, for any other.

        Raises:
            ModuleNotFoundError: If it is `peft.helpers` that asks for bitsandbytes.
        """
        if fullname == "bitsandbytes" and "peft.helpers" in _executed_here():
            raise ModuleNotFoundError("peft.helpers does without bitsandbytes.", name=fullname)
        if fullname not in AFTER_IMPORT:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            spec = None if find_spec is None else find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return None


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
        """Execute the module, then do what follows."""
        executed = _executed_here()
        executed.append(module.__name__)
        try:
            self.loader.exec_module(module)
        finally:
            executed.remove(module.__name__)
        AFTER_IMPORT[module.__name__](module)


_thread = threading.local()


def _executed_here() -> list[str]:
    """The watched modules that this thread is executing."""
    return vars(_thread).setdefault("executed", [])


def _is_being_imported(name: str) -> bool:
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)
