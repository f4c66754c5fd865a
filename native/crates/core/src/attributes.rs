//! Attributes of a span, event, link, scope or resource, encoded as they are set.

use std::collections::HashMap;

use crate::wire::{self, AnyValue};

/// What a collection of attributes may hold. None is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeLimits {
    /// Most attributes; a new key beyond it is refused and counted (specification, common, attribute limits).
    pub count: Option<usize>,
    /// Longest string, in characters, and byte string, in bytes; longer ones are cut.
    pub value_length: Option<usize>,
}

struct Entry {
    start: usize,
    end: usize,
    /// Where the key begins, from `start`.
    key: u32,
    key_len: u32,
}

/// Encoded `KeyValue` fields in the order in which their keys came.
///
/// A key that comes again keeps its place and takes the new value.
pub struct Attributes {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// A bit for each key's end: a key whose bit isn't there is new.
    seen: u64,
    /// Places of the keys, once there are too many to look through.
    index: Option<HashMap<Box<str>, usize>>,
    live: usize,
    dropped: u32,
    tag: u8,
}

// What replaced values may leave behind in the buffer before it is tidied up.
const SLACK: usize = 4096;

// More keys than that are not looked through; up to there, looking is faster than hashing.
const LOOKED_THROUGH: usize = 128;

fn bit(key: &[u8]) -> u64 {
    let end = match key.last_chunk::<8>() {
        Some(end) => u64::from_le_bytes(*end),
        None => key.iter().fold(0, |end, byte| end << 8 | u64::from(*byte)),
    };
    // A multiplicative hash (Knuth, volume 3, section 6.4).
    1 << ((end ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

impl Attributes {
    /// :param field: number of the field that the attributes are in the message around them; below 16.
    pub const fn new(field: u8) -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            seen: 0,
            index: None,
            live: 0,
            dropped: 0,
            tag: wire::len_tag(field),
        }
    }

    fn position(&self, key: &str) -> Option<usize> {
        if let Some(index) = &self.index {
            return index.get(key).copied();
        }
        self.entries.iter().position(|entry| {
            entry.key_len as usize == key.len() && {
                let start = entry.start + entry.key as usize;
                self.bytes.get(start..start + key.len()) == Some(key.as_bytes())
            }
        })
    }

    /// Sets one; refused and counted when the key is empty or one too many. The value is within its limits already.
    #[inline]
    pub fn set(&mut self, limits: &AttributeLimits, key: &str, value: &AnyValue<'_>) {
        let bit = bit(key.as_bytes());
        let known = if self.seen & bit == 0 { None } else { self.position(key) };
        if known.is_none() && (key.is_empty() || limits.count.is_some_and(|most| self.entries.len() >= most)) {
            self.refuse(1);
            return;
        }
        let start = self.bytes.len();
        let key_start = wire::key_value(&mut self.bytes, self.tag, key, value);
        let end = self.bytes.len();
        self.live += end - start;
        let entry = Entry { start, end, key: (key_start - start) as u32, key_len: key.len() as u32 };
        match known {
            None => {
                self.seen |= bit;
                self.entries.push(entry);
                if self.entries.len() > LOOKED_THROUGH {
                    self.index_last(key);
                }
            }
            Some(position) => self.replace(position, entry),
        }
    }

    #[cold]
    fn index_last(&mut self, key: &str) {
        let (bytes, entries) = (&self.bytes, &self.entries);
        let index = self.index.get_or_insert_with(|| {
            let text = |entry: &Entry| {
                let start = entry.start + entry.key as usize;
                String::from_utf8_lossy(&bytes[start..start + entry.key_len as usize]).into()
            };
            entries.iter().map(text).zip(0..).collect()
        });
        index.insert(key.into(), entries.len() - 1);
    }

    fn replace(&mut self, position: usize, entry: Entry) {
        self.live -= self.entries[position].end - self.entries[position].start;
        self.entries[position] = entry;
        if self.bytes.len() > 2 * self.live + SLACK {
            self.tidy();
        }
    }

    /// Whether `set` would refuse this key whatever its value.
    pub fn refuses(&self, limits: &AttributeLimits, key: &str) -> bool {
        key.is_empty() || (limits.count.is_some_and(|most| self.entries.len() >= most) && self.position(key).is_none())
    }

    /// Counts attributes that could not be kept, or not whole.
    pub fn refuse(&mut self, count: u32) {
        self.dropped = self.dropped.saturating_add(count);
    }

    /// How many were refused, or not kept whole.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that `write` appends.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends the fields.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.live == self.bytes.len() && self.in_order() {
            out.extend_from_slice(&self.bytes);
        } else {
            for entry in &self.entries {
                out.extend_from_slice(&self.bytes[entry.start..entry.end]);
            }
        }
    }

    // Nothing was ever replaced: replacing leaves bytes behind until `tidy`, which restores the order.
    fn in_order(&self) -> bool {
        self.entries.first().is_none_or(|entry| entry.start == 0)
    }

    fn tidy(&mut self) {
        let mut bytes = Vec::with_capacity(self.live);
        for entry in &mut self.entries {
            let start = bytes.len();
            bytes.extend_from_slice(&self.bytes[entry.start..entry.end]);
            (entry.start, entry.end) = (start, bytes.len());
        }
        self.bytes = bytes;
    }

    /// Empties it for the next span and keeps the memory, unless that is much.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.seen = 0;
        self.index = None;
        self.live = 0;
        self.dropped = 0;
        if self.bytes.capacity() > SLACK {
            self.bytes.shrink_to(SLACK);
            self.entries.shrink_to(LOOKED_THROUGH);
        }
    }
}

/// Cuts a string after so many characters.
pub fn cut_str<'a>(text: &'a str, limits: &AttributeLimits) -> &'a str {
    match limits.value_length {
        Some(most) if text.len() > most => match text.char_indices().nth(most) {
            Some((end, _)) => &text[..end],
            None => text,
        },
        _ => text,
    }
}

/// Cuts a byte string after so many bytes.
pub fn cut_bytes<'a>(bytes: &'a [u8], limits: &AttributeLimits) -> &'a [u8] {
    match limits.value_length {
        Some(most) if bytes.len() > most => &bytes[..most],
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: AttributeLimits = AttributeLimits { count: None, value_length: None };

    fn written(attributes: &Attributes) -> Vec<u8> {
        let mut out = Vec::new();
        attributes.write(&mut out);
        assert_eq!(out.len(), attributes.len());
        out
    }

    fn expected(pairs: &[(&str, AnyValue<'_>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            wire::key_value(&mut out, wire::len_tag(9), key, value);
        }
        out
    }

    #[test]
    fn a_key_that_comes_again_keeps_its_place() {
        let mut attributes = Attributes::new(9);
        attributes.set(&NONE, "a", &AnyValue::Int(1));
        attributes.set(&NONE, "b", &AnyValue::Int(2));
        attributes.set(&NONE, "a", &AnyValue::Str("three"));
        attributes.set(&NONE, "c", &AnyValue::Bool(true));
        assert_eq!(
            written(&attributes),
            expected(&[("a", AnyValue::Str("three")), ("b", AnyValue::Int(2)), ("c", AnyValue::Bool(true))])
        );
    }

    #[test]
    fn the_newest_is_refused_and_counted() {
        let limits = AttributeLimits { count: Some(1), value_length: None };
        let mut attributes = Attributes::new(9);
        for (key, number) in [("", 0), ("a", 1), ("b", 2), ("a", 3)] {
            attributes.set(&limits, key, &AnyValue::Int(number));
        }
        assert_eq!(written(&attributes), expected(&[("a", AnyValue::Int(3))]));
        assert_eq!((attributes.dropped(), attributes.count()), (2, 1));
    }

    #[test]
    fn a_value_set_a_million_times_takes_no_room() {
        let mut attributes = Attributes::new(9);
        attributes.set(&NONE, "first", &AnyValue::Int(0));
        for number in 0..100_000 {
            attributes.set(&NONE, "n", &AnyValue::Int(number));
        }
        assert!(attributes.bytes.len() < 3 * SLACK);
        assert_eq!(written(&attributes), expected(&[("first", AnyValue::Int(0)), ("n", AnyValue::Int(99_999))]));
    }

    #[test]
    fn keys_are_told_apart_however_many_and_alike() {
        let mut attributes = Attributes::new(9);
        let keys: Vec<String> = (0..400).map(|n| format!("{:1$}", n % 20, 1 + n / 20)).collect();
        for round in 0..3 {
            for (number, key) in (0..).zip(&keys) {
                attributes.set(&NONE, key, &AnyValue::Int(number * 1000 + round));
            }
        }
        let numbers = (0..).zip(&keys);
        let pairs: Vec<_> = numbers.map(|(number, key)| (key.as_str(), AnyValue::Int(number * 1000 + 2))).collect();
        let unique: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(attributes.count(), unique.len());
        let last: std::collections::HashMap<_, _> = pairs.iter().map(|(key, value)| (*key, *value)).collect();
        let mut first = Vec::new();
        for (key, _) in &pairs {
            if !first.contains(key) {
                first.push(*key);
            }
        }
        let pairs: Vec<_> = first.into_iter().map(|key| (key, last[key])).collect();
        assert_eq!(written(&attributes), expected(&pairs));
        attributes.clear();
        attributes.set(&NONE, "0", &AnyValue::Int(1));
        assert_eq!(written(&attributes), expected(&[("0", AnyValue::Int(1))]));
    }

    #[test]
    fn a_hundred_thousand_keys_take_no_quadratic_time() {
        let mut attributes = Attributes::new(9);
        for number in 0..100_000 {
            attributes.set(&NONE, &format!("key.{number:06}"), &AnyValue::Int(number));
        }
        assert_eq!(attributes.count(), 100_000);
    }

    #[test]
    fn cuts_count_characters() {
        let limits = AttributeLimits { count: None, value_length: Some(3) };
        assert_eq!(cut_str("äöüß", &limits), "äöü");
        assert_eq!(cut_str("äöü", &limits), "äöü");
        assert_eq!(cut_str("", &limits), "");
        assert_eq!(cut_bytes(b"abcd", &limits), b"abc");
    }
}
