//! B3, of one header and of several: <https://github.com/openzipkin/b3-propagation>.

use crate::trace_context::{Parent, hex, write_hex};

const SAMPLED: u8 = 1;
/// Longest header that is looked at.
pub const MAX_HEADER_BYTES: usize = 512;

fn ids(trace_id: &[u8], span_id: &[u8], sampled: bool) -> Option<Parent> {
    // 64-bit trace ids are padded on the left.
    if !matches!(trace_id.len(), 16 | 32) || span_id.len() != 16 {
        return None;
    }
    let parent = Parent {
        trace_id: hex(trace_id, true)?,
        span_id: hex(span_id, true)? as u64,
        flags: if sampled { SAMPLED } else { 0 },
    };
    (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
}

fn samples(state: &[u8]) -> bool {
    // `true` is what older senders write, `d` asks for debugging.
    matches!(state, b"1" | b"d" | b"true" | b"True")
}

/// Parses the header `b3`. A sampling state that is left out ("deferred") counts as sampled; a header that has nothing
/// but the state names no parent.
pub fn parse_single(header: &[u8]) -> Option<Parent> {
    if header.len() > MAX_HEADER_BYTES || !header.is_ascii() {
        return None;
    }
    let mut fields = header.split(|byte| *byte == b'-');
    let (trace_id, span_id) = (fields.next()?, fields.next()?);
    let sampled = fields.next().is_none_or(samples);
    let _parent_span_id = fields.next();
    match fields.next() {
        None => ids(trace_id, span_id, sampled),
        Some(_) => None,
    }
}

/// Parses the headers `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`. Without a sampling state the
/// caller hasn't sampled.
pub fn parse_multi(trace_id: &[u8], span_id: &[u8], sampled: &[u8], flags: &[u8]) -> Option<Parent> {
    ids(trace_id, span_id, samples(sampled) || flags == b"1")
}

/// The value of the header `b3`. Of it the first 32 bytes are `x-b3-traceid`, 16 from the 33rd on are `x-b3-spanid`,
/// and the last one is `x-b3-sampled`.
pub fn format_single(parent: &Parent) -> [u8; 51] {
    let mut out = [b'-'; 51];
    write_hex(parent.trace_id, &mut out[..32]);
    write_hex(u128::from(parent.span_id), &mut out[33..49]);
    out[50] = b'0' + (parent.flags & SAMPLED);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Parent =
        Parent { trace_id: 0x80f198ee56343ba864fe8b2a57d3eff7, span_id: 0xe457b5a2e4d86bd1, flags: 1 };
    const TRACE: &[u8] = b"80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &[u8] = b"e457b5a2e4d86bd1";

    #[test]
    fn one_header_is_read_as_it_is_written() {
        assert_eq!(parse_single(&format_single(&PARENT)), Some(PARENT));
        let unsampled = Parent { flags: 0, ..PARENT };
        assert_eq!(parse_single(&format_single(&unsampled)), Some(unsampled));
        for (header, expected) in [
            (&b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1"[..], Some(PARENT)),
            (b"80F198EE56343BA864FE8B2A57D3EFF7-E457B5A2E4D86BD1-d-05e3ac9a4f6e3b90", Some(PARENT)),
            (b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0-05e3ac9a4f6e3b90", Some(unsampled)),
            (b"64fe8b2a57d3eff7-e457b5a2e4d86bd1-1", Some(Parent { trace_id: 0x64fe8b2a57d3eff7, ..PARENT })),
            (b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-1", None),
            (b"80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1", None),
            (b"00000000000000000000000000000000-e457b5a2e4d86bd1-1", None),
            (b"80f198ee56343ba864fe8b2a57d3eff-e457b5a2e4d86bd1-1", None),
            (b"80f198ee56343ba864fe8b2a57d3eff\0-e457b5a2e4d86bd1-1", None),
            (b"0", None),
            (b"1", None),
            (b"", None),
        ] {
            assert_eq!(parse_single(header), expected, "{}", header.escape_ascii());
        }
        assert_eq!(parse_single(&[b'-'; 1 << 20]), None);
    }

    #[test]
    fn several_headers_are_one_parent() {
        let unsampled = Parent { flags: 0, ..PARENT };
        assert_eq!(parse_multi(TRACE, SPAN, b"1", b""), Some(PARENT));
        assert_eq!(parse_multi(TRACE, SPAN, b"", b"1"), Some(PARENT));
        assert_eq!(parse_multi(TRACE, SPAN, b"false", b"0"), Some(unsampled));
        assert_eq!(parse_multi(TRACE, SPAN, b"", b""), Some(unsampled));
        assert_eq!(parse_multi(TRACE, b"", b"1", b""), None);
        assert_eq!(parse_multi(&[b'f'; 1 << 20], SPAN, b"1", b""), None);
    }
}
