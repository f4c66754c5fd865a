"""The messages of traces, read only as deep as every span needs: what is below stays bytes.

An attribute costs the protobuf library more than the rest of its span, and most attributes come again and again. Left
as bytes, each is read once and then found by them. Field numbers and types are those of ``trace.proto``; a message
inside a message and a field of bytes are the same on the wire.

Source: protocol buffers encoding, "Length-Delimited Records"; opentelemetry-proto 1, ``trace.proto``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["Request"]

_ONE, _MANY = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
_BYTES, _STRING, _INT32, _UINT32 = Field.TYPE_BYTES, Field.TYPE_STRING, Field.TYPE_INT32, Field.TYPE_UINT32
_TIME = Field.TYPE_FIXED64

_MESSAGES: dict[str, tuple[tuple[int, str, Any, Any], ...]] = {
    "Request": ((1, "resource_spans", _MANY, "ResourceSpans"),),
    "ResourceSpans": ((1, "resource", _ONE, _BYTES), (2, "scope_spans", _MANY, "ScopeSpans")),
    "ScopeSpans": ((1, "scope", _ONE, _BYTES), (2, "spans", _MANY, "Span")),
    "Span": (
        (1, "trace_id", _ONE, _BYTES),
        (2, "span_id", _ONE, _BYTES),
        (3, "trace_state", _ONE, _STRING),
        (4, "parent_span_id", _ONE, _BYTES),
        (5, "name", _ONE, _STRING),
        (6, "kind", _ONE, _INT32),
        (7, "start_time_unix_nano", _ONE, _TIME),
        (8, "end_time_unix_nano", _ONE, _TIME),
        (9, "attributes", _MANY, _BYTES),
        (10, "dropped_attributes_count", _ONE, _UINT32),
        (11, "events", _MANY, _BYTES),
        (12, "dropped_events_count", _ONE, _UINT32),
        (13, "links", _MANY, _BYTES),
        (14, "dropped_links_count", _ONE, _UINT32),
        (15, "status", _ONE, _BYTES),
    ),
}


def _request() -> Any:
    package = "otelagent.viewer"
    file = FileDescriptorProto(name="otelagent/viewer/shallow.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, label, kind in fields:
            if isinstance(kind, str):
                inner = f".{package}.{kind}"
                message.field.add(name=field, number=number, label=label, type=Field.TYPE_MESSAGE, type_name=inner)
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{package}.Request"))


Request = _request()
"""As an ``ExportTraceServiceRequest`` or a ``TracesData``."""
