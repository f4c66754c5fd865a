//! What the fuzz targets share: arbitrary attributes, and what a collector must read of them.
#![forbid(unsafe_code)]

use arbitrary::{Arbitrary, Result, Unstructured};
use opentelemetry_proto::tonic::common::v1::{self as proto, any_value};
use otelagent_core::attributes::{AttributeLimits, Attributes, cut_bytes, cut_str};
use otelagent_core::wire::{self, AnyValue};

/// A value as an application could give it.
#[derive(Debug)]
pub enum Value<'a> {
    Empty,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// One byte string repeated: lengths of several bytes out of a small input.
    Long(u16),
    Array(Vec<Value<'a>>),
    Map(Vec<(&'a str, Value<'a>)>),
}

// As deep as the Python side lets a value nest.
const MAX_DEPTH: u32 = 30;

impl<'a> Value<'a> {
    fn nested(input: &mut Unstructured<'a>, depth: u32) -> Result<Self> {
        let kinds = if depth < MAX_DEPTH { 8 } else { 6 };
        Ok(match input.int_in_range(0..=kinds)? {
            0 => Self::Empty,
            1 => Self::Bool(input.arbitrary()?),
            2 => Self::Int(input.arbitrary()?),
            3 => Self::Double(input.arbitrary()?),
            4 => Self::Str(input.arbitrary()?),
            5 => Self::Bytes(input.arbitrary()?),
            6 => Self::Long(input.arbitrary()?),
            7 => {
                let mut items = Vec::new();
                while input.ratio(3, 4)? && !input.is_empty() {
                    items.push(Self::nested(input, depth + 1)?);
                }
                Self::Array(items)
            }
            _ => {
                let mut items = Vec::new();
                while input.ratio(3, 4)? && !input.is_empty() {
                    items.push((input.arbitrary()?, Self::nested(input, depth + 1)?));
                }
                Self::Map(items)
            }
        })
    }

    /// Appends the body of the `AnyValue`.
    fn encode(&self, limits: &AttributeLimits, out: &mut Vec<u8>) {
        match self {
            Self::Empty => AnyValue::Empty.write(out),
            Self::Bool(value) => AnyValue::Bool(*value).write(out),
            Self::Int(value) => AnyValue::Int(*value).write(out),
            Self::Double(value) => AnyValue::Double(*value).write(out),
            Self::Str(text) => AnyValue::Str(cut_str(text, limits)).write(out),
            Self::Bytes(bytes) => AnyValue::Bytes(cut_bytes(bytes, limits)).write(out),
            Self::Long(len) => AnyValue::Bytes(cut_bytes(&vec![b'x'; usize::from(*len)], limits)).write(out),
            Self::Array(items) => {
                let mut body = Vec::new();
                for item in items {
                    wire::array_item(&mut body, &AnyValue::Encoded(&item.encoded(limits)));
                }
                wire::len_field(out, wire::ARRAY_VALUE, &body);
            }
            Self::Map(items) => {
                let mut body = Vec::new();
                for (key, item) in items {
                    wire::key_value(&mut body, wire::len_tag(1), key, &AnyValue::Encoded(&item.encoded(limits)));
                }
                wire::len_field(out, wire::KVLIST_VALUE, &body);
            }
        }
    }

    /// The body of the `AnyValue`.
    pub fn encoded(&self, limits: &AttributeLimits) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(limits, &mut out);
        out
    }

    /// What is to be read.
    pub fn expected(&self, limits: &AttributeLimits) -> proto::AnyValue {
        use any_value::Value as Proto;
        let most = limits.value_length.unwrap_or(usize::MAX);
        let value = match self {
            Self::Empty => None,
            Self::Bool(value) => Some(Proto::BoolValue(*value)),
            Self::Int(value) => Some(Proto::IntValue(*value)),
            Self::Double(value) => Some(Proto::DoubleValue(*value)),
            Self::Str(text) => Some(Proto::StringValue(text.chars().take(most).collect())),
            Self::Bytes(bytes) => Some(Proto::BytesValue(bytes.iter().copied().take(most).collect())),
            Self::Long(len) => Some(Proto::BytesValue(vec![b'x'; most.min(usize::from(*len))])),
            Self::Array(items) => Some(Proto::ArrayValue(proto::ArrayValue {
                values: items.iter().map(|item| item.expected(limits)).collect(),
            })),
            Self::Map(items) => Some(Proto::KvlistValue(proto::KeyValueList {
                values: items.iter().map(|(key, item)| key_value(key, item.expected(limits))).collect(),
            })),
        };
        proto::AnyValue { value }
    }
}

impl<'a> Arbitrary<'a> for Value<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Self::nested(input, 0)
    }
}

/// Sets of keys and values, in order.
pub type Pairs<'a> = Vec<(&'a str, Value<'a>)>;

/// Limits out of a byte each: 255 is none.
pub fn limit(byte: u8) -> Option<usize> {
    (byte != u8::MAX).then_some(usize::from(byte))
}

/// Sets one attribute, as the Python side does.
pub fn set(attributes: &mut Attributes, limits: &AttributeLimits, key: &str, value: &Value<'_>) {
    match value {
        Value::Str(text) => attributes.set(limits, key, &AnyValue::Str(cut_str(text, limits))),
        Value::Int(number) => attributes.set(limits, key, &AnyValue::Int(*number)),
        _ => attributes.set(limits, key, &AnyValue::Encoded(&value.encoded(limits))),
    }
}

/// All of them, for the given field.
pub fn attributes(field: u8, limits: &AttributeLimits, pairs: &Pairs<'_>) -> Attributes {
    let mut attributes = Attributes::new(field);
    for (key, value) in pairs {
        set(&mut attributes, limits, key, value);
    }
    attributes
}

/// What attributes are after each `set`: in the order of their first, the last value of each, the rest counted.
#[derive(Default)]
pub struct Expected {
    pub pairs: Vec<proto::KeyValue>,
    pub dropped: u32,
}

impl Expected {
    pub fn new(limits: &AttributeLimits, pairs: &Pairs<'_>) -> Self {
        let mut expected = Self::default();
        for (key, value) in pairs {
            expected.set(limits, key, value);
        }
        expected
    }

    pub fn set(&mut self, limits: &AttributeLimits, key: &str, value: &Value<'_>) {
        let value = value.expected(limits);
        if let Some(known) = self.pairs.iter_mut().find(|known| known.key == key) {
            known.value = Some(value);
        } else if key.is_empty() || limits.count.is_some_and(|most| self.pairs.len() >= most) {
            self.dropped = self.dropped.saturating_add(1);
        } else {
            self.pairs.push(key_value(key, value));
        }
    }
}

fn key_value(key: &str, value: proto::AnyValue) -> proto::KeyValue {
    proto::KeyValue { key: key.to_owned(), value: Some(value), ..Default::default() }
}
