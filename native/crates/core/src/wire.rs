//! The protobuf wire format, as much of it as OTLP needs: <https://protobuf.dev/programming-guides/encoding/>.

/// A value of `opentelemetry.proto.common.v1.AnyValue`.
#[derive(Clone, Copy, Debug)]
pub enum AnyValue<'a> {
    Empty,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// The body of an `AnyValue` that is encoded already: an array or a map.
    Encoded(&'a [u8]),
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

/// The tag of a length-delimited field, for field numbers below 16.
pub const fn len_tag(field: u8) -> u8 {
    field << 3 | LEN
}

/// Bytes that a varint takes.
pub const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a varint.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a length-delimited field with a one-byte tag takes.
pub const fn len_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Appends a length-delimited field; `field` below 16.
pub fn len_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(len_tag(field));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint field, left out when zero as proto3 has it; `field` below 16.
pub fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3 | VARINT);
        varint(out, value);
    }
}

/// Bytes that `varint_field` takes.
pub const fn varint_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Appends a fixed64 field, left out when zero; `field` below 16.
pub fn fixed64_field(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3 | FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Bytes that `fixed64_field` takes.
pub const fn fixed64_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

/// Appends a fixed32 field whose number is 16 (a two-byte tag): `Span.flags` and `Link.flags` differ in it.
pub fn fixed32_field(out: &mut Vec<u8>, field: u8, value: u32) {
    varint(out, u64::from(field) << 3 | u64::from(FIXED32));
    out.extend_from_slice(&value.to_le_bytes());
}

impl AnyValue<'_> {
    /// Bytes of the message's body.
    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bool(_) => 2,
            Self::Int(value) => 1 + varint_len(*value as u64),
            Self::Double(_) => 9,
            Self::Str(text) => len_field_len(text.len()),
            Self::Bytes(bytes) => len_field_len(bytes.len()),
            Self::Encoded(body) => body.len(),
        }
    }

    /// Whether the body has no bytes: the empty value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the message's body.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            // A member of a oneof is written even when it is its type's zero.
            Self::Bool(value) => out.extend_from_slice(&[2 << 3 | VARINT, u8::from(*value)]),
            Self::Int(value) => {
                out.push(3 << 3 | VARINT);
                varint(out, *value as u64);
            }
            Self::Double(value) => {
                out.push(4 << 3 | FIXED64);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Str(text) => len_field(out, 1, text.as_bytes()),
            Self::Bytes(bytes) => len_field(out, 7, bytes),
            Self::Encoded(body) => out.extend_from_slice(body),
        }
    }
}

/// Field of `AnyValue` that holds an `ArrayValue`.
pub const ARRAY_VALUE: u8 = 5;
/// Field of `AnyValue` that holds a `KeyValueList`.
pub const KVLIST_VALUE: u8 = 6;

/// Appends an item of an `ArrayValue`, or any other field 1 that holds an `AnyValue`.
pub fn array_item(out: &mut Vec<u8>, value: &AnyValue<'_>) {
    out.push(len_tag(1));
    varint(out, value.len() as u64);
    value.write(out);
}

/// Appends a `KeyValue` under `tag`, a one-byte tag of a length-delimited field.
///
/// Returns where in `out` the key begins.
pub fn key_value(out: &mut Vec<u8>, tag: u8, key: &str, value: &AnyValue<'_>) -> usize {
    let value_len = value.len();
    let len = key.len() + value_len + 4;
    if len < 0x80 {
        // Every length takes one byte: the usual attribute, in two pieces and its value.
        out.reserve(len + 2);
        out.extend_from_slice(&[tag, len as u8, len_tag(1), key.len() as u8]);
        let key_start = out.len();
        out.extend_from_slice(key.as_bytes());
        if let AnyValue::Str(text) = value {
            out.extend_from_slice(&[len_tag(2), value_len as u8, len_tag(1), text.len() as u8]);
            out.extend_from_slice(text.as_bytes());
        } else {
            out.extend_from_slice(&[len_tag(2), value_len as u8]);
            value.write(out);
        }
        return key_start;
    }
    out.push(tag);
    varint(out, (len_field_len(key.len()) + len_field_len(value_len)) as u64);
    out.push(len_tag(1));
    varint(out, key.len() as u64);
    let key_start = out.len();
    out.extend_from_slice(key.as_bytes());
    out.push(len_tag(2));
    varint(out, value_len as u64);
    value.write(out);
    key_start
}

/// One field of a message that is read back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Len(&'a [u8]),
}

/// Reads a message field by field; ends at the first byte that is none of ours.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let field = match tag as u8 & 7 {
            VARINT => Field::Varint(self.varint()?),
            FIXED64 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            LEN => {
                let len = self.varint()? as usize;
                Field::Len(self.take(len)?)
            }
            FIXED32 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_take_what_they_say() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(Fields(&out).varint(), Some(value));
        }
    }

    #[test]
    fn values_take_what_they_say() {
        let text = "x".repeat(300);
        for value in [
            AnyValue::Empty,
            AnyValue::Bool(false),
            AnyValue::Int(0),
            AnyValue::Int(-1),
            AnyValue::Int(i64::MIN),
            AnyValue::Double(0.0),
            AnyValue::Str(""),
            AnyValue::Str(&text),
            AnyValue::Bytes(b"\0"),
        ] {
            let mut out = Vec::new();
            value.write(&mut out);
            assert_eq!(out.len(), value.len(), "{value:?}");
        }
    }

    #[test]
    fn a_key_value_is_the_official_encoders() {
        let mut out = Vec::new();
        key_value(&mut out, len_tag(9), "a", &AnyValue::Int(1));
        assert_eq!(out, b"\x4a\x07\x0a\x01a\x12\x02\x18\x01");
    }

    #[test]
    fn short_and_long_key_values_say_their_length() {
        for len in 0..300 {
            let text = "x".repeat(len);
            for value in [AnyValue::Str(&text), AnyValue::Bytes(text.as_bytes())] {
                let mut out = Vec::new();
                let key = key_value(&mut out, len_tag(9), &text, &value);
                assert_eq!(&out[key..key + len], text.as_bytes());
                let Some((9, Field::Len(pair))) = Fields(&out).next() else { panic!("no field") };
                assert_eq!(Fields(&out).count(), 1);
                let fields: Vec<_> = Fields(pair).collect();
                let mut any = Vec::new();
                value.write(&mut any);
                assert_eq!(fields, [(1, Field::Len(text.as_bytes())), (2, Field::Len(&any))]);
            }
        }
    }

    #[test]
    fn broken_bytes_end_the_reading() {
        for bytes in
            [&b"\x80"[..], b"\x0a\x05ab", b"\x0f", b"\x09\x01", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert_eq!(Fields(bytes).count(), 0);
        }
    }
}
