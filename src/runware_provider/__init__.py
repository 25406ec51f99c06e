"""Durable, queue-based image generation on Runware's API: charged once, and every image kept.

Every exported function takes a `Context` first and one args model second.
"""

from runware_provider.api import create_app
from runware_provider.context import Context
from runware_provider.create import (
    GenerationFailed,
    Image,
    create_generation,
    generate,
    get_generation,
)
from runware_provider.errors import (
    ConfigurationError,
    DataDirInUse,
    GenerationNotFound,
    IdempotencyConflict,
    InvalidArgs,
    OutputNotFound,
    ProjectionUnavailable,
    RunwareProviderError,
    RunwareRefused,
    RunwareUnavailable,
    StateTooNew,
    StateUnavailable,
    TooManyInFlight,
)
from runware_provider.model_search import ModelPage, SearchModelsArgs, search_models
from runware_provider.reconcile import Reconciled, ReconcileArgs, ReplayArgs, reconcile, replay
from runware_provider.settings import Settings, load_settings
from runware_provider.stub import GenerationStub, get_generation_stub
from runware_provider.types import CreateArgs, GenerationArgs, GenerationState, ListArgs, OutputArgs, Page
from runware_provider.webhook import webhook

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
