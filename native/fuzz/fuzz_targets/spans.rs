//! A program of spans, recorded and drained: prost must read of it what a plain model of the rules says.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use otelagent_core::attributes::AttributeLimits;
use otelagent_core::queue::{Item, Queue};
use otelagent_core::request::Scope;
use otelagent_core::span::{
    EVENT_ATTRIBUTES, EndedSpan, LINK_ATTRIBUTES, Record, STATUS_ERROR, STATUS_OK, STATUS_UNSET, SpanIds, SpanLimits,
};
use otelagent_fuzz::{Expected, Pairs, Value, attributes, limit, set};
use prost::Message;

#[derive(Arbitrary, Debug)]
struct Program<'a> {
    attributes: u8,
    value_length: u8,
    events: u8,
    links: u8,
    event_attributes: u8,
    link_attributes: u8,
    max_queue: u8,
    max_queue_bytes: u16,
    resource: Pairs<'a>,
    scopes: Vec<(&'a str, &'a str, &'a str, Pairs<'a>)>,
    steps: Vec<Step<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Span(Box<Span<'a>>),
    SampledOut(u8),
    Mark,
    Drain { max_items: u8, max_bytes: u16, until_mark: bool },
    Discard,
    Forget,
    Close,
}

#[derive(Arbitrary, Debug)]
struct Span<'a> {
    scope: u8,
    trace_id: u128,
    span_id: u64,
    parent_span_id: u64,
    parent_is_remote: bool,
    kind: u8,
    trace_state: &'a str,
    start_ns: u64,
    end_ns: u64,
    name: &'a str,
    calls: Vec<Call<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Call<'a> {
    Attribute(&'a str, Value<'a>),
    /// The same key many times: what replaced values leave behind is tidied up.
    Again(&'a str, u8, u16),
    Refuse(u32),
    Event(&'a str, u64, Pairs<'a>),
    Link(u128, u64, bool, &'a str, Pairs<'a>),
    Status(u8, &'a str),
    Name(&'a str),
}

fn flags(is_remote: bool) -> u32 {
    if is_remote { 0x300 } else { 0x100 }
}

/// Records a span, and says what it must be on the wire.
fn play(span: &Span<'_>, limits: &SpanLimits, record: &mut Record) -> (SpanIds, proto::Span) {
    record.clear();
    record.kind = 1 + span.kind % 5;
    (record.start_ns, record.end_ns) = (span.start_ns, span.end_ns);
    record.name.push_str(span.name);
    record.trace_state.push_str(span.trace_state);
    let ids = SpanIds {
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: span.parent_span_id,
        parent_is_remote: span.parent_is_remote,
    };
    let mut expected = proto::Span {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.span_id.to_be_bytes().to_vec(),
        trace_state: span.trace_state.to_owned(),
        parent_span_id: if span.parent_span_id == 0 { vec![] } else { span.parent_span_id.to_be_bytes().to_vec() },
        flags: flags(span.parent_is_remote),
        name: span.name.to_owned(),
        kind: i32::from(record.kind),
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        ..Default::default()
    };
    let mut kept = Expected::default();
    let mut status = proto::Status::default();
    for call in &span.calls {
        match call {
            Call::Attribute(key, value) => {
                set(&mut record.attributes, &limits.attributes, key, value);
                kept.set(&limits.attributes, key, value);
            }
            Call::Again(key, times, len) => {
                for round in 0..*times {
                    let value = Value::Long(len.wrapping_add(u16::from(round)) % 1024);
                    set(&mut record.attributes, &limits.attributes, key, &value);
                    kept.set(&limits.attributes, key, &value);
                }
            }
            Call::Refuse(count) => {
                record.attributes.refuse(*count);
                kept.dropped = kept.dropped.saturating_add(*count);
            }
            Call::Event(name, time_ns, pairs) => {
                let full = limits.events.is_some_and(|most| expected.events.len() >= most);
                assert_eq!(record.events.refuse_when_full(limits.events), full);
                if full {
                    expected.dropped_events_count += 1;
                    continue;
                }
                record.add_event(name, *time_ns, &attributes(EVENT_ATTRIBUTES, &limits.event_attributes, pairs));
                let kept = Expected::new(&limits.event_attributes, pairs);
                expected.events.push(proto::span::Event {
                    time_unix_nano: *time_ns,
                    name: (*name).to_owned(),
                    attributes: kept.pairs,
                    dropped_attributes_count: kept.dropped,
                });
            }
            Call::Link(trace_id, span_id, is_remote, trace_state, pairs) => {
                let full = limits.links.is_some_and(|most| expected.links.len() >= most);
                assert_eq!(record.links.refuse_when_full(limits.links), full);
                if full {
                    expected.dropped_links_count += 1;
                    continue;
                }
                let encoded = attributes(LINK_ATTRIBUTES, &limits.link_attributes, pairs);
                record.add_link(*trace_id, *span_id, *is_remote, trace_state, &encoded);
                let kept = Expected::new(&limits.link_attributes, pairs);
                expected.links.push(proto::span::Link {
                    trace_id: trace_id.to_be_bytes().to_vec(),
                    span_id: span_id.to_be_bytes().to_vec(),
                    trace_state: (*trace_state).to_owned(),
                    attributes: kept.pairs,
                    dropped_attributes_count: kept.dropped,
                    flags: flags(*is_remote),
                });
            }
            Call::Status(code, message) => {
                let code = code % 3;
                record.set_status(code, message);
                if status.code != i32::from(STATUS_OK) && code != STATUS_UNSET {
                    let message = if code == STATUS_ERROR { (*message).to_owned() } else { String::new() };
                    status = proto::Status { code: i32::from(code), message };
                }
            }
            Call::Name(name) => {
                record.name.clear();
                record.name.push_str(name);
                expected.name = (*name).to_owned();
            }
        }
    }
    expected.attributes = kept.pairs;
    expected.dropped_attributes_count = kept.dropped;
    expected.status = Some(status);
    (ids, expected)
}

/// A span in the model's queue; `len` is what the queue was given, which counts for the bytes of a request.
struct Waiting {
    number: usize,
    scope: usize,
    len: usize,
    span: proto::Span,
}

impl Waiting {
    fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == i32::from(STATUS_ERROR))
    }
}

/// What the model's queue does with a span: whom it drops for it, the span itself or others.
fn make_room(waiting: &mut Vec<Waiting>, span: &Waiting, max_items: usize, max_bytes: usize) -> (bool, usize) {
    let fits = |others: &[&Waiting]| {
        others.len() < max_items && others.iter().map(|other| other.len).sum::<usize>() + span.len <= max_bytes
    };
    let others: Vec<&Waiting> = waiting.iter().filter(|other| span.is_error() && !other.is_error()).collect();
    for shed in 0..=others.len() {
        let gone: Vec<usize> = others[..shed].iter().map(|other| other.number).collect();
        let rest: Vec<&Waiting> = waiting.iter().filter(|other| !gone.contains(&other.number)).collect();
        if fits(&rest) {
            waiting.retain(|other| !gone.contains(&other.number));
            return (true, shed);
        }
    }
    (false, 1)
}

/// The request for the oldest spans that wait, errors first, taken out of the model's queue.
fn expected_request(
    waiting: &mut Vec<Waiting>,
    max_items: usize,
    max_bytes: usize,
    until: usize,
    resource: &Resource,
    scopes: &[(Option<InstrumentationScope>, String)],
) -> Option<(ExportTraceServiceRequest, usize)> {
    let (mut taken, mut bytes): (Vec<Waiting>, usize) = (Vec::new(), 0);
    waiting.sort_by_key(|span| !span.is_error()); // stable
    while let Some(place) = waiting.iter().position(|span| span.number < until) {
        let len = waiting[place].len;
        if taken.len() == max_items || (!taken.is_empty() && bytes + len > max_bytes) {
            break;
        }
        bytes += len;
        taken.push(waiting.remove(place));
    }
    taken.sort_by_key(|span| span.number);
    let items = taken.len();
    let mut groups: Vec<(usize, Vec<proto::Span>)> = Vec::new();
    for Waiting { scope, span, .. } in taken {
        match groups.iter_mut().find(|(known, _)| *known == scope) {
            Some((_, spans)) => spans.push(span),
            None => groups.push((scope, vec![span])),
        }
    }
    let scope_spans = groups
        .into_iter()
        .map(|(index, spans)| {
            let (scope, schema_url) = scopes.get(index).cloned().unwrap_or_default();
            proto::ScopeSpans { scope, spans, schema_url }
        })
        .collect();
    let resource_spans =
        vec![proto::ResourceSpans { resource: Some(resource.clone()), scope_spans, ..Default::default() }];
    (items > 0).then_some((ExportTraceServiceRequest { resource_spans }, items))
}

fuzz_target!(|program: Program<'_>| {
    let value_length = limit(program.value_length);
    let of = |count: u8| AttributeLimits { count: limit(count), value_length };
    let limits = SpanLimits {
        attributes: of(program.attributes),
        event_attributes: of(program.event_attributes),
        link_attributes: of(program.link_attributes),
        events: limit(program.events),
        links: limit(program.links),
    };
    let none = AttributeLimits::default();

    let mut resource_body = Vec::new();
    attributes(1, &none, &program.resource).write(&mut resource_body);
    let resource = Resource { attributes: Expected::new(&none, &program.resource).pairs, ..Default::default() };
    let mut scopes = Vec::new();
    let mut expected_scopes = Vec::new();
    for (name, version, schema_url, pairs) in &program.scopes {
        scopes.push(Scope::new(name, version, schema_url, &attributes(3, &none, pairs)));
        let scope = InstrumentationScope {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            attributes: Expected::new(&none, pairs).pairs,
            ..Default::default()
        };
        expected_scopes.push((Some(scope), (*schema_url).to_owned()));
    }

    let max_queue = usize::from(program.max_queue);
    let max_bytes = usize::from(program.max_queue_bytes);
    let mut queue = Queue::new(max_queue, max_bytes);
    let mut record = Record::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut mark: Option<(u64, usize)> = None;
    let mut number = 0;
    let (mut ended, mut sampled_out, mut closed) = (0, 0, false);
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    let drain = |queue: &mut Queue, waiting: &mut Vec<_>, max_items, max_bytes, mark: Option<(u64, usize)>| {
        let until = mark.map_or(usize::MAX, |(_, until)| until);
        if let Some((mark, until)) = mark {
            assert_eq!(queue.waits(mark), waiting.iter().any(|span: &Waiting| span.number < until));
        }
        let got = queue
            .request(max_items, max_bytes, mark.map_or(u64::MAX, |(mark, _)| mark), &resource_body, &scopes)
            .map(|request| {
                let mut bytes = vec![0; request.byte_len()];
                request.write(&mut bytes);
                (bytes, request.take())
            });
        let want = expected_request(waiting, max_items, max_bytes, until, &resource, &expected_scopes);
        assert_eq!(got.as_ref().map(|(_, count)| *count), want.as_ref().map(|(_, count)| *count));
        if let (Some((bytes, _)), Some((want, _))) = (got, want) {
            let got = ExportTraceServiceRequest::decode(&bytes[..]).expect("prost reads the request");
            // As bytes, in which a NaN is equal to itself.
            assert!(got.encode_to_vec() == want.encode_to_vec(), "got {got:#?}\nwant {want:#?}");
        }
    };
    for step in &program.steps {
        match step {
            Step::Span(span) => {
                let scope = if scopes.is_empty() { 0 } else { usize::from(span.scope) % scopes.len() };
                let (ids, expected) = play(span, &limits, &mut record);
                ended += 1;
                let item = EndedSpan { ids: &ids, record: &record };
                let mut bytes = Vec::new();
                item.write(item.message_len(), &mut bytes);
                let span = Waiting { number, scope, len: bytes.len(), span: expected };
                number += 1;
                let mut count = |reason: &str, items: usize| {
                    if items > 0 {
                        *dropped.entry(reason.to_owned()).or_default() += items as u64;
                    }
                };
                let mut taken = false;
                if closed {
                    count("shutdown", 1);
                } else if span.len > max_bytes {
                    count("too_large", 1);
                } else {
                    let (fits, shed) = make_room(&mut waiting, &span, max_queue, max_bytes);
                    taken = fits;
                    count("queue_full", shed);
                }
                if taken {
                    waiting.push(span);
                }
                let pending = queue.offer(scope as u32, &item);
                assert_eq!(pending, if taken { waiting.len() } else { 0 });
            }
            Step::SampledOut(count) => {
                queue.sampled_out(u64::from(*count));
                ended += u64::from(*count);
                sampled_out += u64::from(*count);
            }
            Step::Mark => mark = Some((queue.mark(), number)),
            Step::Drain { max_items, max_bytes, until_mark } => {
                let until = mark.filter(|_| *until_mark);
                drain(&mut queue, &mut waiting, usize::from(*max_items), usize::from(*max_bytes), until);
            }
            Step::Discard => {
                queue.discard("shutdown_timeout");
                if !waiting.is_empty() {
                    *dropped.entry("shutdown_timeout".to_owned()).or_default() += waiting.len() as u64;
                }
                waiting.clear();
            }
            Step::Forget => {
                queue.forget();
                waiting.clear();
                (ended, sampled_out) = (0, 0);
                dropped.clear();
            }
            Step::Close => {
                queue.close();
                closed = true;
            }
        }
        assert_eq!(queue.pending(), waiting.len());
        assert_eq!(queue.bytes(), waiting.iter().map(|span| span.len).sum::<usize>());
        assert_eq!((queue.counts.ended, queue.counts.sampled_out), (ended, sampled_out));
        assert_eq!(queue.counts.dropped, dropped);
    }
    while !waiting.is_empty() {
        drain(&mut queue, &mut waiting, 3, 4096, None);
    }
    assert!(queue.request(usize::MAX, usize::MAX, u64::MAX, &resource_body, &scopes).is_none());
});
