"""The workflow file: loading it, checking it, and finding the classes that it names."""

from h5flow.workflow.config import (
    ComponentConfig,
    Flow,
    LoggingConfig,
    MetricsConfig,
    RunConfig,
    RuntimeConfig,
    StageConfig,
    UnusedSection,
    WorkflowConfig,
    check,
    check_all,
)
from h5flow.workflow.discovery import find_class, get_class
from h5flow.workflow.document import Document, load, load_text
from h5flow.workflow.requirements import Requirement, format_requirements

__all__ = [
    "ComponentConfig",
    "Document",
    "Flow",
    "LoggingConfig",
    "MetricsConfig",
    "Requirement",
    "RunConfig",
    "RuntimeConfig",
    "StageConfig",
    "UnusedSection",
    "WorkflowConfig",
    "check",
    "check_all",
    "find_class",
    "format_requirements",
    "get_class",
    "load",
    "load_text",
]
