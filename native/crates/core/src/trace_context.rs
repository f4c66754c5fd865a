//! W3C Trace Context, level 2: <https://www.w3.org/TR/trace-context-2/>. Parsed from whatever bytes a caller sends:
//! nothing here allocates in proportion to them or looks further than the limits.

/// What one process tells the next of its span, in this format or another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parent {
    pub trace_id: u128,
    pub span_id: u64,
    pub flags: u8,
}

/// Bits of trace-flags with a meaning: sampled, random-trace-id. The others "MUST" be zero when passed on.
const KNOWN_FLAGS: u8 = 3;
/// Longest traceparent. A later version may append to the 55 characters of this one.
pub const MAX_PARENT_BYTES: usize = 512;
/// Longest tracestate, all its headers together. The specification asks for at least 512.
pub const MAX_STATE_BYTES: usize = 8192;
/// Most members of a tracestate.
pub const MAX_MEMBERS: usize = 32;
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 256;

/// Hexadecimal digits as a number; None for anything else among them.
pub fn hex(digits: &[u8], upper_case_too: bool) -> Option<u128> {
    let mut value = 0;
    for digit in digits {
        let four = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' if upper_case_too => digit - b'A' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(four);
    }
    Some(value)
}

/// Writes a number as lower-case hexadecimal digits, as many as there is room for.
pub fn write_hex(mut value: u128, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// A header's value without spaces and tabs around it.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Parses the value of the one traceparent header; None for an invalid one, which is as if it weren't there.
pub fn parse_parent(header: &[u8]) -> Option<Parent> {
    if header.len() > MAX_PARENT_BYTES {
        return None;
    }
    let header = trim(header);
    let (head, rest) = header.split_at_checked(55)?;
    if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
        return None;
    }
    let version = hex(&head[..2], false)?;
    let later = match rest {
        [] => true,
        [b'-', more @ ..] => version != 0 && more.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')),
        _ => false,
    };
    if version == 0xff || !later {
        return None;
    }
    let parent = Parent {
        trace_id: hex(&head[3..35], false)?,
        span_id: hex(&head[36..52], false)? as u64,
        flags: hex(&head[53..], false)? as u8 & KNOWN_FLAGS,
    };
    (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
}

/// The value of a traceparent header.
pub fn format_parent(parent: &Parent) -> [u8; 55] {
    let mut out = [b'-'; 55];
    write_hex(0, &mut out[..2]);
    write_hex(parent.trace_id, &mut out[3..35]);
    write_hex(u128::from(parent.span_id), &mut out[36..52]);
    write_hex(u128::from(parent.flags), &mut out[53..]);
    out
}

/// Key and value.
pub type Member<'a> = (&'a str, &'a str);

fn member(bytes: &[u8]) -> Option<Member<'_>> {
    let equals = bytes.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&bytes[..equals], &bytes[equals + 1..]);
    let first = matches!(key.first()?, b'a'..=b'z' | b'0'..=b'9');
    let known = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let printed = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    let key_holds = first && key.len() <= MAX_KEY_BYTES && key.iter().all(known);
    let value_holds = value.len() <= MAX_VALUE_BYTES && *value.last()? != b' ' && value.iter().all(printed);
    if key_holds && value_holds { Some((str::from_utf8(key).ok()?, str::from_utf8(value).ok()?)) } else { None }
}

/// Parses the values of the tracestate headers, in order, most recent member first.
///
/// Empty when any member is malformed, there are too many, or they are too long together: half a tracestate would break
/// the vendors in the other half. Of members with the same key the first one stays, because a vendor that updates its
/// own moves it to the front.
pub fn parse_state<'a>(headers: &[&'a [u8]]) -> Vec<Member<'a>> {
    let mut members: Vec<Member<'a>> = Vec::new();
    let mut left = MAX_STATE_BYTES + 1;
    for header in headers {
        // A comma joins each with the one before.
        left = match left.checked_sub(header.len() + 1) {
            Some(left) => left,
            None => return Vec::new(),
        };
    }
    for bytes in headers.iter().flat_map(|header| header.split(|byte| *byte == b',')).map(trim) {
        if bytes.is_empty() {
            continue;
        }
        match member(bytes) {
            Some(new) if members.iter().any(|(key, _)| *key == new.0) => {}
            Some(new) if members.len() < MAX_MEMBERS => members.push(new),
            _ => return Vec::new(),
        }
    }
    members
}

/// The value of a tracestate header.
pub fn format_state(members: &[Member<'_>]) -> String {
    let mut out = String::new();
    for (key, value) in members {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend([*key, "=", *value]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const PARENT: Parent =
        Parent { trace_id: 0x0af7651916cd43dd8448eb211c80319c, span_id: 0xb7ad6b7169203331, flags: 1 };

    fn with(start: usize, text: &[u8]) -> Vec<u8> {
        let mut header = HEADER.to_vec();
        header.splice(start..start + text.len(), text.iter().copied());
        header
    }

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        assert_eq!(parse_parent(HEADER), Some(PARENT));
        assert_eq!(format_parent(&PARENT), HEADER);
        assert_eq!(parse_parent(&[b" \t", HEADER, b"\t "].concat()), Some(PARENT));
        assert_eq!(parse_parent(&with(53, b"fe")), Some(Parent { flags: 2, ..PARENT }));
        assert_eq!(parse_parent(&with(0, b"01")), Some(PARENT));
        assert_eq!(parse_parent(&[&with(0, b"cc"), &b"-more of it"[..]].concat()), Some(PARENT));
    }

    #[test]
    fn whatever_else_is_there_is_no_parent() {
        for bytes in [
            with(0, b"ff"),
            with(3, &[b'0'; 32]),
            with(36, &[b'0'; 16]),
            with(5, b"F"),
            with(5, b"\0"),
            with(5, b"+"),
            with(2, b"_"),
            HEADER[..54].to_vec(),
            [HEADER, b"-more"].concat(),
            [&with(0, b"01"), &b".more"[..]].concat(),
            [&with(0, b"01"), &b"-\xff"[..]].concat(),
            [&with(0, b"01"), &b"-"[..], &[b'x'; 500]].concat(),
            [HEADER, b"\n"].concat(),
            [HEADER, b",", HEADER].concat(),
            vec![b' '; MAX_PARENT_BYTES],
            vec![0; 1 << 20],
            Vec::new(),
        ] {
            assert_eq!(parse_parent(&bytes), None, "{}", bytes[..bytes.len().min(80)].escape_ascii());
        }
    }

    #[test]
    fn members_keep_their_order_and_the_first_of_a_key() {
        let members = parse_state(&[b"a=1 ,\t1b@= 2", b"", b",,a=3,c/d=~"]);
        assert_eq!(members, [("a", "1"), ("1b@", " 2"), ("c/d", "~")]);
        assert_eq!(format_state(&members), "a=1,1b@= 2,c/d=~");
    }

    #[test]
    fn one_wrong_member_is_none_at_all() {
        let long = |key: usize, value: usize| [vec![b'k'; key], b"=".to_vec(), vec![b'v'; value]].concat();
        assert_eq!(parse_state(&[&long(256, 256)]).len(), 1);
        let many = |count: usize| (0..count).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(parse_state(&[many(32).as_bytes()]).len(), 32);
        for header in [
            b"a=1,b".to_vec(),
            b"a=1,=2".to_vec(),
            b"a=".to_vec(),
            b"a=b=c".to_vec(),
            b"A=1".to_vec(),
            b"@a=1".to_vec(),
            b"a b=1".to_vec(),
            b"a=\0".to_vec(),
            b"a=\xc3\xbc".to_vec(),
            long(257, 1),
            long(1, 257),
            many(33).into_bytes(),
            vec![b','; 1 << 20],
        ] {
            assert_eq!(parse_state(&[b"z=1", &header]), [], "{}", header[..header.len().min(80)].escape_ascii());
        }
        assert_eq!(parse_state(&[&[b','; MAX_STATE_BYTES - 3], b"a=1"]), []);
        assert_eq!(parse_state(&[&[b','; MAX_STATE_BYTES - 4], b"a=1"]), [("a", "1")]);
        assert_eq!(parse_state(&[&b"a=1"[..]; 10_000]), []);
    }
}
