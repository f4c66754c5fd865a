//! Log records: the wire format of `opentelemetry.proto.logs.v1.LogRecord`.

use crate::attributes::Attributes;
use crate::queue::{Item, Priority};
use crate::wire::{self, AnyValue};

/// Field of `LogRecord` that holds its attributes.
pub const ATTRIBUTES: u8 = 6;
const BODY: u8 = 5;
const FLAGS: u8 = 8;

/// A log record whose parts are in the wire's terms. What is zero or empty is left out, but for the body.
#[derive(Clone, Copy)]
pub struct LogRecord<'a> {
    /// When it happened, nanoseconds since the Unix epoch; 0 for unknown.
    pub time_ns: u64,
    /// When it was seen.
    pub observed_ns: u64,
    /// 1 to 24; 0 for unspecified.
    pub severity: u8,
    pub severity_text: &'a str,
    pub body: AnyValue<'a>,
    /// Made for `ATTRIBUTES`.
    pub attributes: &'a Attributes,
    /// The flags of the span that was current.
    pub flags: u8,
    pub trace_id: u128,
    pub span_id: u64,
    pub event_name: &'a str,
}

/// The least severity of an error, and of what isn't for debugging alone (logs data model, "SeverityNumber").
const SEVERITY_ERROR: u8 = 17;
const SEVERITY_INFO: u8 = 9;

impl Item for LogRecord<'_> {
    /// High from ERROR on, low below INFO; what doesn't say is normal.
    fn priority(&self) -> Priority {
        match self.severity {
            SEVERITY_ERROR.. => Priority::High,
            0 | SEVERITY_INFO.. => Priority::Normal,
            _ => Priority::Low,
        }
    }

    fn message_len(&self) -> usize {
        let text = |text: &str| if text.is_empty() { 0 } else { wire::len_field_len(text.len()) };
        wire::fixed64_field_len(self.time_ns)
            + wire::varint_field_len(u64::from(self.severity))
            + text(self.severity_text)
            + wire::len_field_len(self.body.len())
            + self.attributes.len()
            + wire::varint_field_len(u64::from(self.attributes.dropped()))
            + if self.flags == 0 { 0 } else { 5 }
            + if self.trace_id == 0 { 0 } else { 18 }
            + if self.span_id == 0 { 0 } else { 10 }
            + wire::fixed64_field_len(self.observed_ns)
            + text(self.event_name)
    }

    /// Appends the record as the field `log_records` of a `ScopeLogs`.
    fn write(&self, len: usize, out: &mut Vec<u8>) {
        out.push(wire::len_tag(2));
        wire::varint(out, len as u64);
        let text = |out: &mut Vec<u8>, field, text: &str| {
            if !text.is_empty() {
                wire::len_field(out, field, text.as_bytes());
            }
        };
        wire::fixed64_field(out, 1, self.time_ns);
        wire::varint_field(out, 2, u64::from(self.severity));
        text(out, 3, self.severity_text);
        // Written even when it is the empty value, as the official exporters do.
        out.push(wire::len_tag(BODY));
        wire::varint(out, self.body.len() as u64);
        self.body.write(out);
        self.attributes.write(out);
        wire::varint_field(out, 7, u64::from(self.attributes.dropped()));
        if self.flags != 0 {
            wire::fixed32_field(out, FLAGS, u32::from(self.flags));
        }
        if self.trace_id != 0 {
            wire::len_field(out, 9, &self.trace_id.to_be_bytes());
        }
        if self.span_id != 0 {
            wire::len_field(out, 10, &self.span_id.to_be_bytes());
        }
        wire::fixed64_field(out, 11, self.observed_ns);
        text(out, 12, self.event_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::AttributeLimits;
    use crate::queue::Queue;
    use crate::request::Scope;
    use crate::wire::{Field, Fields};

    static NOTHING: Attributes = Attributes::new(ATTRIBUTES);

    fn empty<'a>(attributes: &'a Attributes) -> LogRecord<'a> {
        LogRecord {
            time_ns: 0,
            observed_ns: 0,
            severity: 0,
            severity_text: "",
            body: AnyValue::Empty,
            attributes,
            flags: 0,
            trace_id: 0,
            span_id: 0,
            event_name: "",
        }
    }

    fn written(record: &LogRecord<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        record.write(record.message_len(), &mut out);
        let Some((2, Field::Len(body))) = Fields(&out).next() else { panic!("no record") };
        assert_eq!(Fields(&out).count(), 1, "the length is the message's");
        assert_eq!(body.len(), record.message_len());
        body.to_vec()
    }

    #[test]
    fn a_full_record_has_every_field_once_in_order() {
        let mut attributes = Attributes::new(ATTRIBUTES);
        attributes.set(&AttributeLimits::default(), "k", &AnyValue::Str("v"));
        attributes.refuse(300);
        let record = LogRecord {
            time_ns: 1,
            observed_ns: 2,
            severity: 24,
            severity_text: "FATAL",
            body: AnyValue::Str("message"),
            flags: 1,
            trace_id: 3,
            span_id: 4,
            event_name: "event",
            ..empty(&attributes)
        };
        let body = written(&record);
        let fields: Vec<_> = Fields(&body).collect();
        let numbers: Vec<u64> = fields.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(fields[0].1, Field::Fixed64(1));
        assert_eq!(fields[3].1, Field::Len(b"\x0a\x07message"));
        assert_eq!(fields[5].1, Field::Varint(300));
        assert_eq!(fields[6].1, Field::Fixed32(1));
        assert_eq!(fields[7].1, Field::Len(&3u128.to_be_bytes()));
        assert_eq!(fields[8].1, Field::Len(&4u64.to_be_bytes()));
    }

    #[test]
    fn an_empty_record_has_an_empty_body() {
        assert_eq!(written(&empty(&NOTHING)), b"\x2a\x00");
    }

    #[test]
    fn bodies_of_every_kind_and_length_say_their_length() {
        let long = "x".repeat(20_000);
        for body in [
            AnyValue::Bool(false),
            AnyValue::Int(-1),
            AnyValue::Double(0.5),
            AnyValue::Str(""),
            AnyValue::Str(&long),
            AnyValue::Bytes(long.as_bytes()),
            AnyValue::Encoded(b"\x2a\x00"),
        ] {
            let mut expected = Vec::new();
            body.write(&mut expected);
            let record = LogRecord { body, ..empty(&NOTHING) };
            let got = written(&record);
            assert_eq!(Fields(&got).collect::<Vec<_>>(), [(5, Field::Len(&expected))]);
        }
    }

    #[test]
    fn records_go_through_the_queue_of_spans() {
        let scopes = [Scope::new("a", "", "", &Attributes::new(3)), Scope::new("b", "", "", &Attributes::new(3))];
        let mut queue = Queue::new(10, 1 << 20);
        for (scope, severity) in [(0, 9), (1, 17), (0, 13)] {
            queue.offer(scope, &LogRecord { severity, ..empty(&NOTHING) });
        }
        let waiting = queue.request(10, 1 << 20, u64::MAX, b"", &scopes).unwrap();
        assert_eq!(waiting.items(), 3);
        let mut request = vec![0; waiting.byte_len()];
        waiting.write(&mut request);
        // resource_logs = 1, scope_logs = 2, log_records = 2: the numbers of resource_spans and what is in it.
        let Some((1, Field::Len(resource_logs))) = Fields(&request).next() else { panic!("no resource") };
        let severities: Vec<Vec<u64>> = Fields(resource_logs)
            .filter_map(|(number, field)| match (number, field) {
                (2, Field::Len(scope_logs)) => Some(scope_logs),
                _ => None,
            })
            .map(|scope_logs| {
                Fields(scope_logs)
                    .filter_map(|(number, field)| match (number, field) {
                        (2, Field::Len(record)) => Fields(record).find_map(|(number, field)| match (number, field) {
                            (2, Field::Varint(severity)) => Some(severity),
                            _ => None,
                        }),
                        _ => None,
                    })
                    .collect()
            })
            .collect();
        assert_eq!(severities, [vec![9, 13], vec![17]]);
    }
}
