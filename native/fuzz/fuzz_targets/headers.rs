//! The parsers of propagation headers on any bytes, against the grammars of the specifications.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use otelagent_core::b3;
use otelagent_core::trace_context::{
    MAX_MEMBERS, MAX_PARENT_BYTES, MAX_STATE_BYTES, Parent, format_parent, format_state, parse_parent, parse_state,
};
use regex::bytes::{Captures, Regex};

fn grammar(pattern: &str) -> Regex {
    Regex::new(&format!("(?-u)^(?:{pattern})$")).expect("a regular expression")
}

// https://www.w3.org/TR/trace-context-2/#traceparent-header-field-values
static PARENT: LazyLock<Regex> =
    LazyLock::new(|| grammar(r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\t -~]*)?[ \t]*"));
// https://www.w3.org/TR/trace-context-2/#list
static MEMBER: LazyLock<Regex> = LazyLock::new(|| {
    grammar(r"([a-z0-9][a-z0-9_*/@-]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])")
});
// https://github.com/openzipkin/b3-propagation
static SINGLE: LazyLock<Regex> = LazyLock::new(|| {
    grammar(r"([0-9a-fA-F]{16}|[0-9a-fA-F]{32})-([0-9a-fA-F]{16})(?:-([\x00-,.-\x7f]*)(?:-[\x00-,.-\x7f]*)?)?")
});
static ID: LazyLock<Regex> = LazyLock::new(|| grammar(r"[0-9a-fA-F]{16}|[0-9a-fA-F]{32}"));

fn number(digits: &[u8]) -> u128 {
    u128::from_str_radix(str::from_utf8(digits).expect("digits"), 16).expect("digits")
}

fn parent(trace_id: &[u8], span_id: &[u8], flags: u8) -> Option<Parent> {
    let parent = Parent { trace_id: number(trace_id), span_id: number(span_id) as u64, flags };
    (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
}

fn part<'a>(captures: &Captures<'a>, group: usize) -> Option<&'a [u8]> {
    captures.get(group).map(|found| found.as_bytes())
}

fn expected_parent(header: &[u8]) -> Option<Parent> {
    let captures = PARENT.captures(header).filter(|_| header.len() <= MAX_PARENT_BYTES)?;
    let version = number(part(&captures, 1)?);
    if version == 0xff || (version == 0 && part(&captures, 5).is_some()) {
        return None;
    }
    parent(part(&captures, 2)?, part(&captures, 3)?, number(part(&captures, 4)?) as u8 & 3)
}

fn expected_state(headers: &[&[u8]]) -> Vec<(String, String)> {
    let mut members: Vec<(String, String)> = Vec::new();
    let whole = headers.join(&b","[..]);
    if whole.len() > MAX_STATE_BYTES {
        return Vec::new();
    }
    for member in whole.split(|byte| *byte == b',') {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = member.iter().position(|byte| !blank(byte)).unwrap_or(member.len());
        let end = member.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        if start == end {
            continue;
        }
        let Some(captures) = MEMBER.captures(&member[start..end]) else { return Vec::new() };
        let [key, value] =
            [1, 2].map(|group| String::from_utf8(part(&captures, group).unwrap_or_default().to_vec()).expect("ASCII"));
        if members.iter().all(|(known, _)| *known != key) {
            members.push((key, value));
        }
    }
    if members.len() > MAX_MEMBERS { Vec::new() } else { members }
}

fn samples(state: &[u8]) -> bool {
    [&b"1"[..], b"d", b"true", b"True"].contains(&state)
}

fn expected_single(header: &[u8]) -> Option<Parent> {
    let captures = SINGLE.captures(header).filter(|_| header.len() <= b3::MAX_HEADER_BYTES)?;
    parent(part(&captures, 1)?, part(&captures, 2)?, part(&captures, 3).is_none_or(samples).into())
}

fn expected_multi(trace_id: &[u8], span_id: &[u8], sampled: &[u8], flags: &[u8]) -> Option<Parent> {
    if !ID.is_match(trace_id) || span_id.len() != 16 || !ID.is_match(span_id) {
        return None;
    }
    parent(trace_id, span_id, (samples(sampled) || flags == b"1").into())
}

// Each parser sees all of the input; those that take several headers get its lines.
fuzz_target!(|bytes: &[u8]| {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let line = |index: usize| lines.get(index).copied().unwrap_or_default();

    let got = parse_parent(bytes);
    assert_eq!(got, expected_parent(bytes));
    if let Some(parent) = got {
        assert_eq!(parse_parent(&format_parent(&parent)), Some(parent));
    }

    let got = parse_state(&lines);
    let want = expected_state(&lines);
    assert!(
        got.iter().copied().eq(want.iter().map(|(key, value)| (&key[..], &value[..]))),
        "got {got:?} want {want:?}"
    );
    assert_eq!(parse_state(&[format_state(&got).as_bytes()]), got);

    let got = b3::parse_single(bytes);
    assert_eq!(got, expected_single(bytes));
    if let Some(parent) = got {
        assert_eq!(b3::parse_single(&b3::format_single(&parent)), Some(parent));
    }

    let got = b3::parse_multi(line(0), line(1), line(2), line(3));
    assert_eq!(got, expected_multi(line(0), line(1), line(2), line(3)));
});
