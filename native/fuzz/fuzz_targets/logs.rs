//! Log records, queued and drained: prost must read what was logged.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1 as proto;
use opentelemetry_proto::tonic::resource::v1::Resource;
use otelagent_core::attributes::AttributeLimits;
use otelagent_core::log::{ATTRIBUTES, LogRecord};
use otelagent_core::queue::Queue;
use otelagent_core::request::Scope;
use otelagent_core::wire::AnyValue;
use otelagent_fuzz::{Expected, Pairs, Value, attributes, limit};
use prost::Message;

#[derive(Arbitrary, Debug)]
struct Program<'a> {
    attributes: u8,
    value_length: u8,
    scope: &'a str,
    records: Vec<Record<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Record<'a> {
    time_ns: u64,
    observed_ns: u64,
    severity: u8,
    severity_text: &'a str,
    body: Value<'a>,
    attributes: Pairs<'a>,
    refused: u32,
    flags: u8,
    trace_id: u128,
    span_id: u64,
    event_name: &'a str,
}

fn id(bytes: &[u8]) -> Vec<u8> {
    if bytes.iter().all(|byte| *byte == 0) { Vec::new() } else { bytes.to_vec() }
}

fn expected(record: &Record<'_>, limits: &AttributeLimits) -> proto::LogRecord {
    let kept = Expected::new(limits, &record.attributes);
    proto::LogRecord {
        time_unix_nano: record.time_ns,
        observed_time_unix_nano: record.observed_ns,
        severity_number: i32::from(record.severity),
        severity_text: record.severity_text.to_owned(),
        body: Some(record.body.expected(&AttributeLimits::default())),
        attributes: kept.pairs,
        dropped_attributes_count: kept.dropped.saturating_add(record.refused),
        flags: u32::from(record.flags),
        trace_id: id(&record.trace_id.to_be_bytes()),
        span_id: id(&record.span_id.to_be_bytes()),
        event_name: record.event_name.to_owned(),
    }
}

fuzz_target!(|program: Program<'_>| {
    let limits = AttributeLimits { count: limit(program.attributes), value_length: limit(program.value_length) };
    let none = AttributeLimits::default();
    let scopes = [Scope::new(program.scope, "", "", &attributes(3, &none, &Vec::new()))];
    let mut queue = Queue::new(usize::MAX, usize::MAX);
    for record in &program.records {
        let body = record.body.encoded(&none);
        let mut kept = attributes(ATTRIBUTES, &limits, &record.attributes);
        kept.refuse(record.refused);
        let encoded = LogRecord {
            time_ns: record.time_ns,
            observed_ns: record.observed_ns,
            severity: record.severity,
            severity_text: record.severity_text,
            body: AnyValue::Encoded(&body),
            attributes: &kept,
            flags: record.flags,
            trace_id: record.trace_id,
            span_id: record.span_id,
            event_name: record.event_name,
        };
        queue.offer(0, &encoded);
    }
    let Some(request) = queue.request(usize::MAX, usize::MAX, u64::MAX, b"", &scopes) else {
        assert!(program.records.is_empty());
        return;
    };
    let mut bytes = vec![0; request.byte_len()];
    request.write(&mut bytes);
    assert_eq!(request.take(), program.records.len());
    let scope = InstrumentationScope { name: program.scope.to_owned(), ..Default::default() };
    let want = ExportLogsServiceRequest {
        resource_logs: vec![proto::ResourceLogs {
            resource: Some(Resource::default()),
            scope_logs: vec![proto::ScopeLogs {
                scope: Some(scope),
                log_records: program.records.iter().map(|record| expected(record, &limits)).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    let got = ExportLogsServiceRequest::decode(&bytes[..]).expect("prost reads the request");
    // As bytes, in which a NaN is equal to itself.
    assert!(got.encode_to_vec() == want.encode_to_vec(), "got {got:#?}\nwant {want:#?}");
});
