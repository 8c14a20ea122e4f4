"""Plug-ins by name: registered with a decorator, or found in installed packages by their entry points.

    @register("mine")
    class Mine(Method): ...

A package outside connr declares the same by an entry point: `[project.entry-points."connr.methods"] mine = "package.module"`.
Modules of connr's own are imported when a name is first looked up, so adding a file adds a plug-in.
"""

import difflib
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from connr.errors import InputError

PLUGINS = "CONNR_PLUGINS"  # environment variable: files and modules to import, separated as in PATH
T = TypeVar("T")
Registered = TypeVar("Registered", bound=type)


class Registry(Generic[T]):
    """The plug-ins of one kind.

    Args:
        kind: what they are, in messages: "method".
        package: whose modules are imported at the first look-up; also the entry-point group: "connr.methods".
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._found: dict[str, T] = {}
        self._complete, self._lock = False, RLock()

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """A class decorator that adds the class under `name`.

        Raises:
            ValueError: another class has that name already.
        """

        def add(plugin: Registered) -> Registered:
            known: Any = self._found.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (plugin.__module__, plugin.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is registered already, by {known.__module__}.{known.__qualname__}.")
            self._found[name] = plugin  # type: ignore[assignment]
            return plugin

        return add

    def __getitem__(self, name: str) -> T:
        """The plug-in of that name.

        Raises:
            InputError: there is none; the message names the nearest ones.
        """
        if name not in self._found:
            self._load()
        if name not in self._found:
            near = difflib.get_close_matches(name, self._found, n=2, cutoff=0.5)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise InputError(f"{self.kind} {name!r} is not one of: {', '.join(self)}.{meant}")
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        """All names, sorted."""
        self._load()
        return iter(sorted(self._found))

    def items(self) -> Iterator[tuple[str, T]]:
        """All names with their plug-ins, sorted by name."""
        return ((name, self._found[name]) for name in self)

    def _load(self) -> None:
        with self._lock:
            if self._complete:
                return
            home = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(home.__path__, f"{self.package}."):
                importlib.import_module(module.name)
            for place in places_in_environment():
                import_plugin(place)
            for point in entry_points(group=self.package):
                try:
                    point.load()
                except Exception as fault:
                    package = point.dist.name if point.dist else "?"
                    raise InputError(
                        f"the {self.kind} {point.name!r} of package {package} cannot be imported ({fault!r}); "
                        "repair or uninstall that package."
                    ) from fault
            self._complete = True


def import_plugin(place: str) -> None:
    """Imports a Python file, or a module by name, whose decorators register plug-ins.

    Args:
        place: `folder/my_method.py`, or `package.module`.

    Raises:
        InputError: it is not there, or fails on import.
    """
    name = module_of_file(place) if place.endswith(".py") else place
    PluginFiles.places[name] = place
    try:
        importlib.import_module(name)
    except Exception as fault:
        raise InputError(f"the plug-in {place} cannot be imported: {fault!r}.") from fault


def module_of_file(place: str) -> str:
    """The name of the module that a plug-in's file becomes; files of one name in two folders become two modules."""
    path = Path(place).resolve()
    return f"connr_plugin_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


class PluginFiles(MetaPathFinder):
    """Finds the modules of plug-in files by name, so that what a plug-in defines can be pickled to another process."""

    places: ClassVar[dict[str, str]] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith("connr_plugin_"):
            return None
        named = {module_of_file(place): place for place in places_in_environment() if place.endswith(".py")}
        place = (self.places | named).get(fullname)
        return importlib.util.spec_from_file_location(fullname, place) if place else None


def places_in_environment() -> list[str]:
    """The files and modules that the environment variable names."""
    return [place for place in os.environ.get(PLUGINS, "").split(os.pathsep) if place]


sys.meta_path.append(PluginFiles())


class Plugged:
    """For a field of a config: `Annotated[Base, Plugged(registry)]` takes any registered plug-in's config, chosen by `name`.

    Args:
        registry: of config classes, or of classes that have theirs as `Config`.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            partial(self._validate, base=source),
            serialization=core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True),
        )

    def config(self, name: str) -> Any:
        """The config class of that name."""
        found = self.registry[name]
        return getattr(found, "Config", found)

    def _validate(self, value: Any, base: type) -> Any:
        if isinstance(value, base):
            return value
        if isinstance(value, str):
            value = {"name": value}
        fitting = [name for name in self.registry if issubclass(self.config(name), base)]
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"should be a section with a name, one of: {', '.join(fitting)}")
        config = self.config(value["name"])
        if not issubclass(config, base):
            raise ValueError(f"{self.registry.kind} {value['name']!r} does not serve here; use one of: {', '.join(fitting)}")
        return config.model_validate(value)


def _dump(value: Any, info: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = value.model_dump(mode=info.mode)
    return dumped


METHODS: Registry[Any] = Registry("method", "connr.methods")
NEIGHBOURHOODS: Registry[Any] = Registry("neighbourhood", "connr.neighbours")
ANCHOR_FILTERS: Registry[Any] = Registry("anchor filter", "connr.clustering")
BACKBONES: Registry[Any] = Registry("backbone", "connr.networks")
SOURCES: Registry[Any] = Registry("data source", "connr.data")

__all__ = ["ANCHOR_FILTERS", "BACKBONES", "METHODS", "NEIGHBOURHOODS", "SOURCES", "Plugged", "Registry"]
