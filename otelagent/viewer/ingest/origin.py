"""Where items come from: their resource and their instrumentation scope."""

from __future__ import annotations

from typing import Any

from otelagent.viewer.ingest.values import all_of, name_of, to_json
from otelagent.viewer.rows import Batch, Resource, Scope

__all__ = ["add_resource", "add_scope"]


def add_resource(batch: Batch, resource: Any) -> int:
    """Appends a resource, a protobuf message; its position in the batch."""
    attributes = all_of(resource.attributes, resource.dropped_attributes_count)
    service = attributes.get("service.name")
    name = service if isinstance(service, str) and service else "unknown_service"
    batch.resources.append(Resource(name_of(name), to_json(attributes)))
    return len(batch.resources) - 1


def add_scope(batch: Batch, scope: Any) -> int:
    """Appends an instrumentation scope, a protobuf message; its position in the batch."""
    attributes = all_of(scope.attributes, scope.dropped_attributes_count)
    batch.scopes.append(Scope(name_of(scope.name), name_of(scope.version), to_json(attributes)))
    return len(batch.scopes) - 1
