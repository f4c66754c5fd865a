//! A span while it is recorded, and its OTLP encoding (opentelemetry/proto/trace/v1/trace.proto).

use crate::attributes::{AttributeLimits, Attributes};
use crate::queue::{Item, Priority};
use crate::wire;

/// Limits of a span (trace SDK specification, span limits). None is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanLimits {
    pub attributes: AttributeLimits,
    pub event_attributes: AttributeLimits,
    pub link_attributes: AttributeLimits,
    pub events: Option<usize>,
    pub links: Option<usize>,
}

/// What a span is called by others: never changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanIds {
    pub trace_id: u128,
    pub span_id: u64,
    /// 0 for a root.
    pub parent_span_id: u64,
    pub parent_is_remote: bool,
}

/// Encoded events or links.
#[derive(Default)]
pub struct Items {
    bytes: Vec<u8>,
    count: usize,
    dropped: u32,
}

impl Items {
    /// Whether one more is refused, which it then is, counted.
    pub fn refuse_when_full(&mut self, limit: Option<usize>) -> bool {
        let full = limit.is_some_and(|most| self.count >= most);
        if full {
            self.refuse();
        }
        full
    }

    /// Counts one that can't be kept.
    pub fn refuse(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// The fields, encoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many were refused.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(4096);
        self.count = 0;
        self.dropped = 0;
    }
}

const ATTRIBUTES: u8 = 9;
const EVENTS: u8 = 11;
const LINKS: u8 = 13;
const STATUS: u8 = 15;
const FLAGS: u8 = 16;
/// Field of the attributes in an event.
pub const EVENT_ATTRIBUTES: u8 = 3;
/// Field of the attributes in a link.
pub const LINK_ATTRIBUTES: u8 = 4;

const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// `Status.code` of the wire and of the API.
pub const STATUS_UNSET: u8 = 0;
pub const STATUS_OK: u8 = 1;
pub const STATUS_ERROR: u8 = 2;

/// Everything about a span that may still change. Made for reuse: `clear` keeps its buffers.
pub struct Record {
    pub name: String,
    /// As on the wire: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: u8,
    pub start_ns: u64,
    pub end_ns: u64,
    /// The W3C tracestate header.
    pub trace_state: String,
    pub attributes: Attributes,
    pub events: Items,
    pub links: Items,
    status: u8,
    status_message: String,
}

impl Record {
    pub fn new() -> Self {
        Self {
            name: String::new(),
            kind: 1,
            start_ns: 0,
            end_ns: 0,
            trace_state: String::new(),
            attributes: Attributes::new(ATTRIBUTES),
            events: Items::default(),
            links: Items::default(),
            status: STATUS_UNSET,
            status_message: String::new(),
        }
    }

    /// Makes it ready for the next span.
    pub fn clear(&mut self) {
        self.name.clear();
        self.kind = 1;
        self.start_ns = 0;
        self.end_ns = 0;
        self.trace_state.clear();
        self.attributes.clear();
        self.events.clear();
        self.links.clear();
        self.status = STATUS_UNSET;
        self.status_message.clear();
        self.name.shrink_to(256);
        self.status_message.shrink_to(256);
    }

    /// Status code and message.
    pub fn status(&self) -> (u8, &str) {
        (self.status, &self.status_message)
    }

    /// Sets the status by the rules of the trace API specification: OK is final, UNSET changes nothing, only an error
    /// has a message.
    pub fn set_status(&mut self, code: u8, message: &str) {
        if self.status == STATUS_OK || code == STATUS_UNSET {
            return;
        }
        self.status = code;
        self.status_message.clear();
        if code == STATUS_ERROR {
            self.status_message.push_str(message);
        }
    }

    /// Appends an event. The caller has asked `events.refuse_when_full`.
    pub fn add_event(&mut self, name: &str, time_ns: u64, attributes: &Attributes) {
        let dropped = u64::from(attributes.dropped());
        let len = wire::fixed64_field_len(time_ns)
            + (if name.is_empty() { 0 } else { wire::len_field_len(name.len()) })
            + attributes.len()
            + wire::varint_field_len(dropped);
        let out = &mut self.events.bytes;
        out.push(wire::len_tag(EVENTS));
        wire::varint(out, len as u64);
        wire::fixed64_field(out, 1, time_ns);
        if !name.is_empty() {
            wire::len_field(out, 2, name.as_bytes());
        }
        attributes.write(out);
        wire::varint_field(out, 4, dropped);
        self.events.count += 1;
    }

    /// Appends a link. The caller has asked `links.refuse_when_full`.
    pub fn add_link(
        &mut self,
        trace_id: u128,
        span_id: u64,
        is_remote: bool,
        trace_state: &str,
        attributes: &Attributes,
    ) {
        let dropped = u64::from(attributes.dropped());
        let len = 18
            + 10
            + (if trace_state.is_empty() { 0 } else { wire::len_field_len(trace_state.len()) })
            + attributes.len()
            + wire::varint_field_len(dropped)
            + 5;
        let out = &mut self.links.bytes;
        out.push(wire::len_tag(LINKS));
        wire::varint(out, len as u64);
        wire::len_field(out, 1, &trace_id.to_be_bytes());
        wire::len_field(out, 2, &span_id.to_be_bytes());
        if !trace_state.is_empty() {
            wire::len_field(out, 3, trace_state.as_bytes());
        }
        attributes.write(out);
        wire::varint_field(out, 5, dropped);
        wire::fixed32_field(out, 6, remote_flags(is_remote));
        self.links.count += 1;
    }

    /// Bytes of the span's message.
    fn len(&self, ids: &SpanIds) -> usize {
        let text = |text: &str| if text.is_empty() { 0 } else { wire::len_field_len(text.len()) };
        18 + 10
            + text(&self.trace_state)
            + (if ids.parent_span_id == 0 { 0 } else { 10 })
            + text(&self.name)
            + wire::varint_field_len(u64::from(self.kind))
            + wire::fixed64_field_len(self.start_ns)
            + wire::fixed64_field_len(self.end_ns)
            + self.attributes.len()
            + wire::varint_field_len(u64::from(self.attributes.dropped()))
            + self.events.bytes.len()
            + wire::varint_field_len(u64::from(self.events.dropped))
            + self.links.bytes.len()
            + wire::varint_field_len(u64::from(self.links.dropped))
            + wire::len_field_len(self.status_len())
            + 6
    }

    fn status_len(&self) -> usize {
        (if self.status_message.is_empty() { 0 } else { wire::len_field_len(self.status_message.len()) })
            + wire::varint_field_len(u64::from(self.status))
    }

    /// Appends the span as the field `spans` of a `ScopeSpans`.
    fn write(&self, ids: &SpanIds, len: usize, out: &mut Vec<u8>) {
        out.push(wire::len_tag(2));
        wire::varint(out, len as u64);
        let text = |out: &mut Vec<u8>, field, text: &str| {
            if !text.is_empty() {
                wire::len_field(out, field, text.as_bytes());
            }
        };
        wire::len_field(out, 1, &ids.trace_id.to_be_bytes());
        wire::len_field(out, 2, &ids.span_id.to_be_bytes());
        text(out, 3, &self.trace_state);
        if ids.parent_span_id != 0 {
            wire::len_field(out, 4, &ids.parent_span_id.to_be_bytes());
        }
        text(out, 5, &self.name);
        wire::varint_field(out, 6, u64::from(self.kind));
        wire::fixed64_field(out, 7, self.start_ns);
        wire::fixed64_field(out, 8, self.end_ns);
        self.attributes.write(out);
        wire::varint_field(out, 10, u64::from(self.attributes.dropped()));
        out.extend_from_slice(&self.events.bytes);
        wire::varint_field(out, 12, u64::from(self.events.dropped));
        out.extend_from_slice(&self.links.bytes);
        wire::varint_field(out, 14, u64::from(self.links.dropped));
        // Written even when unset, as the official exporters do.
        out.push(wire::len_tag(STATUS));
        wire::varint(out, self.status_len() as u64);
        text(out, 2, &self.status_message);
        wire::varint_field(out, 3, u64::from(self.status));
        wire::fixed32_field(out, FLAGS, remote_flags(ids.parent_is_remote));
    }
}

/// A span that has ended: errors are of high priority.
pub struct EndedSpan<'a> {
    pub ids: &'a SpanIds,
    pub record: &'a Record,
}

impl Item for EndedSpan<'_> {
    #[inline]
    fn priority(&self) -> Priority {
        if self.record.status == STATUS_ERROR { Priority::High } else { Priority::Normal }
    }

    fn message_len(&self) -> usize {
        self.record.len(self.ids)
    }

    fn write(&self, len: usize, out: &mut Vec<u8>) {
        self.record.write(self.ids, len, out);
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

fn remote_flags(is_remote: bool) -> u32 {
    if is_remote { HAS_IS_REMOTE | IS_REMOTE } else { HAS_IS_REMOTE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AnyValue, Field, Fields};

    fn fields(record: &Record, ids: &SpanIds) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        record.write(ids, record.len(ids), &mut out);
        let Some((2, Field::Len(body))) = Fields(&out).next() else { panic!("no span") };
        assert_eq!(Fields(&out).count(), 1, "the length is the message's");
        Fields(body)
            .map(|(number, field)| {
                (
                    number,
                    match field {
                        Field::Varint(value) | Field::Fixed64(value) => value.to_le_bytes().to_vec(),
                        Field::Fixed32(value) => value.to_le_bytes().to_vec(),
                        Field::Len(bytes) => bytes.to_vec(),
                    },
                )
            })
            .collect()
    }

    #[test]
    fn a_full_span_has_every_field_once_in_order() {
        let mut record = Record::new();
        record.name.push_str("name");
        record.trace_state.push_str("a=1");
        (record.start_ns, record.end_ns) = (1, 2);
        record.attributes.set(&AttributeLimits::default(), "k", &AnyValue::Str("v"));
        record.attributes.refuse(300);
        let none = Attributes::new(EVENT_ATTRIBUTES);
        record.add_event("event", 5, &none);
        assert!(record.events.refuse_when_full(Some(1)));
        record.add_link(7, 8, true, "b=2", &Attributes::new(LINK_ATTRIBUTES));
        assert!(record.links.refuse_when_full(Some(1)));
        record.set_status(STATUS_ERROR, "broken");
        let ids = SpanIds { trace_id: 1, span_id: 2, parent_span_id: 3, parent_is_remote: true };
        let got = fields(&record, &ids);
        let numbers: Vec<u64> = got.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
        assert_eq!(got[15].1, 0x300u32.to_le_bytes());
        assert_eq!(got[14].1, b"\x12\x06broken\x18\x02");

        record.clear();
        let numbers: Vec<u64> = fields(&record, &SpanIds::default()).iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 6, 15, 16]);
    }

    #[test]
    fn status_has_its_precedence() {
        let mut record = Record::new();
        record.set_status(STATUS_ERROR, "one");
        record.set_status(STATUS_UNSET, "");
        assert_eq!(record.status(), (STATUS_ERROR, "one"));
        record.set_status(STATUS_OK, "ignored");
        record.set_status(STATUS_ERROR, "two");
        assert_eq!(record.status(), (STATUS_OK, ""));
    }
}
