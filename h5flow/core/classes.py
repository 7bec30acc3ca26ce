"""The classes of a workflow's components: finding them, and that they are what they are used as."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from h5flow.core.component import Component
from h5flow.core.h5_flow_generator import H5FlowGenerator
from h5flow.core.h5_flow_resource import H5FlowResource
from h5flow.core.h5_flow_stage import H5FlowStage
from h5flow.errors import DiscoveryError
from h5flow.workflow import WorkflowConfig, get_class

if TYPE_CHECKING:
    from h5flow.workflow import ComponentConfig

C = TypeVar("C", bound=Component)
S = TypeVar("S", bound="ComponentConfig")

#: What components are, by what they are made of.
ROLES = {H5FlowResource: "resource", H5FlowGenerator: "generator", H5FlowStage: "stage"}


def sections(config: WorkflowConfig) -> Iterator[tuple[ComponentConfig, type[Component]]]:
    """Yield the components of a workflow, and what each of them has to be."""
    for resource in config.resources:
        yield resource, H5FlowResource
    if config.generator is not None:
        yield config.generator, H5FlowGenerator
    for stage in config.stages:
        yield stage, H5FlowStage


def class_of(section: ComponentConfig, base: type[C]) -> type[C]:
    """Find the class of a component; raises `DiscoveryError` where there is none, or it isn't what it is used as."""
    try:
        found = get_class(section.classname, section.path)
    except DiscoveryError as error:
        raise DiscoveryError(f"{section.place}: {error}") from error
    if not issubclass(found, base):
        raise DiscoveryError(
            f"{section.place}: '{section.classname}' is used as a {ROLES[base]} but is no {base.__name__}"
        )
    return found


def with_found_classes(config: WorkflowConfig) -> WorkflowConfig:
    """Find and import a workflow's classes, so that none is searched for again; raises `DiscoveryError`."""
    generator = config.generator
    return msgspec.structs.replace(
        config,
        generator=None if generator is None else _with_found_class(generator, H5FlowGenerator),
        stages=tuple(_with_found_class(section, H5FlowStage) for section in config.stages),
        resources=tuple(_with_found_class(section, H5FlowResource) for section in config.resources),
    )


def _with_found_class(section: S, base: type[Component]) -> S:
    found = class_of(section, base)
    module = sys.modules.get(found.__module__)
    if section.path is not None or getattr(module, section.classname, None) is not found:
        return section
    return msgspec.structs.replace(section, path=found.__module__)
