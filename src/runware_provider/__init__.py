"""Durable, queue-based image generation on Runware's API: charged once, and every image kept.

Every exported function takes a `Context` first and one args model second. Names are loaded when they are first used:
importing the package alone costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runware_provider.api import create_app
    from runware_provider.context import Context
    from runware_provider.create import GenerationFailed, Image, create_generation, generate, get_generation
    from runware_provider.errors import (
        ConfigurationError,
        DataDirInUse,
        GenerationNotFound,
        IdempotencyConflict,
        InvalidArgs,
        OutputNotFound,
        OverBudget,
        ProjectionUnavailable,
        RunwareProviderError,
        RunwareRefused,
        RunwareUnavailable,
        StateTooNew,
        StateUnavailable,
        TooManyInFlight,
    )
    from runware_provider.model_search import ModelPage, SearchModelsArgs, search_models
    from runware_provider.reconcile import ReconcileArgs, Reconciled, ReplayArgs, reconcile, replay
    from runware_provider.settings import Settings, load_settings
    from runware_provider.stub import GenerationStub, get_generation_stub
    from runware_provider.types import CreateArgs, GenerationArgs, GenerationState, ListArgs, OutputArgs, Page
    from runware_provider.webhook import webhook

_ROOMS = {
    "create_app": "api",
    "Context": "context",
    "GenerationFailed": "create",
    "Image": "create",
    "create_generation": "create",
    "generate": "create",
    "get_generation": "create",
    "ConfigurationError": "errors",
    "DataDirInUse": "errors",
    "GenerationNotFound": "errors",
    "IdempotencyConflict": "errors",
    "InvalidArgs": "errors",
    "OutputNotFound": "errors",
    "OverBudget": "errors",
    "ProjectionUnavailable": "errors",
    "RunwareProviderError": "errors",
    "RunwareRefused": "errors",
    "RunwareUnavailable": "errors",
    "StateTooNew": "errors",
    "StateUnavailable": "errors",
    "TooManyInFlight": "errors",
    "ModelPage": "model_search",
    "SearchModelsArgs": "model_search",
    "search_models": "model_search",
    "ReconcileArgs": "reconcile",
    "Reconciled": "reconcile",
    "ReplayArgs": "reconcile",
    "reconcile": "reconcile",
    "replay": "reconcile",
    "Settings": "settings",
    "load_settings": "settings",
    "GenerationStub": "stub",
    "get_generation_stub": "stub",
    "CreateArgs": "types",
    "GenerationArgs": "types",
    "GenerationState": "types",
    "ListArgs": "types",
    "OutputArgs": "types",
    "Page": "types",
    "webhook": "webhook",
}

__all__ = [
    "ConfigurationError",
    "Context",
    "CreateArgs",
    "DataDirInUse",
    "GenerationArgs",
    "GenerationFailed",
    "GenerationNotFound",
    "GenerationState",
    "GenerationStub",
    "IdempotencyConflict",
    "Image",
    "InvalidArgs",
    "ListArgs",
    "ModelPage",
    "OutputArgs",
    "OutputNotFound",
    "OverBudget",
    "Page",
    "ProjectionUnavailable",
    "ReconcileArgs",
    "Reconciled",
    "ReplayArgs",
    "RunwareProviderError",
    "RunwareRefused",
    "RunwareUnavailable",
    "SearchModelsArgs",
    "Settings",
    "StateTooNew",
    "StateUnavailable",
    "TooManyInFlight",
    "create_app",
    "create_generation",
    "generate",
    "get_generation",
    "get_generation_stub",
    "load_settings",
    "reconcile",
    "replay",
    "search_models",
    "webhook",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'runware_provider' has no attribute {name!r}")
    value = getattr(import_module(f"runware_provider.{_ROOMS[name]}"), name)
    globals()[name] = value  # the next use finds it at once
    return value


class _Package(ModuleType):
    """Some rooms are called as what they export. Importing such a room must not hide its function behind its module."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)
