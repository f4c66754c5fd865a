//! The reader of messages on any bytes: it ends, stays inside them, and what it read is what it would write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otelagent_core::wire::{Field, Fields};
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// What prost makes of the same field; None where it refuses.
fn official<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let (number, kind) = decode_key(bytes).ok()?;
    let field = match kind {
        WireType::Varint => Field::Varint(decode_varint(bytes).ok()?),
        WireType::SixtyFourBit => Field::Fixed64(bytes.try_get_u64_le().ok()?),
        WireType::ThirtyTwoBit => Field::Fixed32(bytes.try_get_u32_le().ok()?),
        WireType::LengthDelimited => {
            let len = usize::try_from(decode_varint(bytes).ok()?).ok()?;
            let (body, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Field::Len(body)
        }
        WireType::StartGroup | WireType::EndGroup => {
            skip_field(kind, number, bytes, DecodeContext::default()).ok()?;
            return None;
        }
    };
    Some((u64::from(number), field))
}

fuzz_target!(|bytes: &[u8]| {
    let mut fields = Fields(bytes);
    let mut rest = bytes;
    loop {
        let want = official(&mut rest);
        let got = fields.next();
        // prost refuses some numbers of fields and varints beyond 64 bits that the reader of our own bytes never meets.
        match (got, want) {
            (got, Some(want)) => {
                assert_eq!(got, Some(want));
                assert_eq!(fields.0, rest);
            }
            (Some(_), None) => break,
            (None, None) => return,
        }
    }
    let mut left = fields.0.len();
    while let Some((_, field)) = fields.next() {
        assert!(fields.0.len() < left, "each field takes some bytes");
        left = fields.0.len();
        if let Field::Len(body) = field {
            assert!(bytes.as_ptr_range().contains(&body.as_ptr()) || body.is_empty());
        }
    }
});
