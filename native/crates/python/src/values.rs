//! Any Python value in the wire's terms. docs/values.md has the rules for users, `otelagent.record.values` those of the
//! other engine: they are the same.
//!
//! No value is refused: what can't be kept of one is replaced by its type's name or cut, and `Lost` says why. What a
//! value's own code raises stays here; only what stops a program (KeyboardInterrupt) comes through.

use std::borrow::Cow;
use std::collections::HashMap;

use otelagent_core::attributes::{AttributeLimits, cut_bytes, cut_str};
use otelagent_core::wire::{self, AnyValue};
use pyo3::exceptions::{PyException, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PySlice, PyString, PyTuple, PyType,
};

use crate::api::Api;
use crate::ffi;

/// Most levels of containers: an official decoder reads 100 messages deep; a level is two of them, three in a map, and a
/// request has seven around.
const MAX_DEPTH: usize = 30;
/// Most elements of all containers of a value together.
pub const MAX_ITEMS: usize = 10_000;
/// Most bytes of all texts of a value together, unless the length limit that is set is larger.
pub const MAX_BYTES: usize = 1 << 20;
/// The most that every interpreter writes out, whatever its `sys.set_int_max_str_digits`, and in no quadratic time.
const MAX_INT_BITS: u64 = 2_048;
/// Bytes that a character takes at most.
const CHARACTER: usize = 4;

/// Why something of a value isn't there as it was.
pub enum Lost {
    TooDeep,
    Cycle,
    TooManyItems,
    TooLarge,
    LongInt,
    NoText,
    SameKeys,
    EmptyKey,
    Raised(PyErr),
}

impl Lost {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooDeep => "it nests too deep",
            Self::Cycle => "it contains itself",
            Self::TooManyItems => "it has too many elements",
            Self::TooLarge => "it is too large",
            Self::LongInt => "an int is too long",
            Self::NoText => "its class doesn't say how it is written",
            Self::SameKeys => "keys of it have the same text",
            Self::EmptyKey => "a key of it is empty",
            Self::Raised(_) => "its own code raised",
        }
    }

    /// What was raised.
    pub fn error(self) -> Option<PyErr> {
        match self {
            Self::Raised(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether an error is to be kept from the application.
pub fn isolated(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// The value in the wire's terms, if it is one of the usual ones, which run no code of their own.
#[inline(always)]
pub fn scalar<'a>(value: &'a Bound<'_, PyAny>, limits: &AttributeLimits) -> Option<AnyValue<'a>> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Some(AnyValue::Str(cut_str(ffi::text(text)?, limits)));
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return number.extract().ok().map(AnyValue::Int);
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        return Some(AnyValue::Double(number.value()));
    }
    value.cast_exact::<PyBool>().ok().map(|value| AnyValue::Bool(value.is_true()))
}

/// Calls `take` with the value in the wire's terms.
///
/// `take` runs no Python code, so it may hold a lock. Returns an error only for what must come through.
pub fn with_value<R>(
    value: &Bound<'_, PyAny>,
    limits: &AttributeLimits,
    take: impl FnOnce(&AnyValue<'_>, bool) -> R,
) -> PyResult<(R, Option<Lost>)> {
    if let Some(value) = scalar(value, limits) {
        return Ok((take(&value, true), None));
    }
    let mut writer = Writer::new(limits);
    let mut encoded = Vec::new();
    writer.encode(value, 0, &mut encoded)?;
    let whole = writer.lost.is_none();
    Ok((take(&AnyValue::Encoded(&encoded), whole), writer.lost))
}

/// The text of a name or a key: a string as it is, anything else as its `str()`.
///
/// Returns an error only for what must come through.
pub fn text(value: &Bound<'_, PyAny>) -> PyResult<(String, Option<Lost>)> {
    let mut writer = Writer::new(&AttributeLimits { count: None, value_length: None });
    let text = writer.key(value)?;
    Ok((text, writer.lost))
}

/// A class's name with its module, unless that is `builtins`.
pub fn type_name(class: &Bound<'_, PyType>) -> String {
    let part = |name: &str| class.getattr(name).ok()?.extract::<String>().ok();
    let name = part("__qualname__").unwrap_or_else(|| "object".to_owned());
    match part("__module__") {
        Some(module) if !module.is_empty() && module != "builtins" => format!("{module}.{name}"),
        _ => name,
    }
}

/// Writes one value.
struct Writer {
    value_length: Option<usize>,
    bytes_left: usize,
    items_left: usize,
    /// Whether there is no room for more.
    full: bool,
    /// The containers around what is being written.
    path: Vec<usize>,
    lost: Option<Lost>,
}

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl Writer {
    fn new(limits: &AttributeLimits) -> Self {
        Self {
            value_length: limits.value_length,
            bytes_left: limits.value_length.unwrap_or(0).saturating_mul(CHARACTER).max(MAX_BYTES),
            items_left: MAX_ITEMS,
            full: false,
            path: Vec::new(),
            lost: None,
        }
    }

    fn lose(&mut self, lost: Lost) {
        self.lost.get_or_insert(lost);
    }

    /// Appends the body of an `AnyValue`.
    fn encode(&mut self, value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> PyResult<()> {
        let start = out.len();
        match self.write(value, depth, out) {
            Err(error) if isolated(value.py(), &error) => {
                out.truncate(start);
                self.replace(value, Lost::Raised(error), out);
                Ok(())
            }
            done => done,
        }
    }

    fn write(&mut self, value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> PyResult<()> {
        if value.is_none() {
            return Ok(());
        }
        if let Ok(value) = value.cast::<PyBool>() {
            AnyValue::Bool(value.is_true()).write(out);
        } else if let Ok(number) = value.cast::<PyInt>() {
            self.int(number, out)?;
        } else if let Ok(number) = value.cast::<PyFloat>() {
            AnyValue::Double(number.value()).write(out);
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            self.bytes(bytes.as_bytes(), out);
        } else if let Ok(text) = value.cast::<PyString>() {
            self.str(text, out)?;
        } else if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            let bytes = self.head_of_buffer(value)?;
            self.bytes(bytes.as_bytes(), out);
        } else if let Ok(items) = value.cast_exact::<PyList>() {
            self.array(value, items.iter().map(Ok), depth, out)?;
        } else if let Ok(items) = value.cast_exact::<PyTuple>() {
            self.array(value, items.iter().map(Ok), depth, out)?;
        } else {
            self.other(value, depth, out)?;
        }
        Ok(())
    }

    fn other(&mut self, value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> PyResult<()> {
        let api = Api::get(value.py())?;
        if !value.is_instance_of::<PyDict>()
            && (value.is_instance(api.sequence_type.bind(value.py()))?
                || value.is_instance(api.set_type.bind(value.py()))?)
        {
            return self.array(value, value.try_iter()?, depth, out);
        }
        if value.is_instance(api.mapping_type.bind(value.py()))? {
            return self.map(value, depth, out);
        }
        if is_array_like(value)? {
            if value.getattr("ndim")?.extract::<usize>()? > 0 {
                return self.array(value, value.try_iter()?, depth, out);
            }
            if is_number(value)? {
                let number = value.call_method0("item")?;
                let plain = AttributeLimits { count: None, value_length: self.value_length };
                if let Some(number) = scalar(&number, &plain) {
                    number.write(out);
                    return Ok(());
                }
            }
        }
        let text = self.text_of(value)?;
        self.str(&text, out)
    }

    fn int(&mut self, number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> PyResult<()> {
        if let Ok(number) = number.extract::<i64>() {
            AnyValue::Int(number).write(out);
            return Ok(());
        }
        if is_long(number)? {
            self.replace(number.as_any(), Lost::LongInt, out);
            return Ok(());
        }
        // The type's own method: a subclass may have another.
        let text = number.py().get_type::<PyInt>().call_method1("__repr__", (number,))?;
        self.str(&text.cast_into()?, out)
    }

    fn str(&mut self, text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> PyResult<()> {
        let text = self.cut(text, self.value_length)?;
        AnyValue::Str(&text).write(out);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let wanted = cut_bytes(bytes, &AttributeLimits { count: None, value_length: self.value_length });
        let kept = &wanted[..wanted.len().min(self.bytes_left)];
        self.took(kept.len(), kept.len() < wanted.len());
        AnyValue::Bytes(kept).write(out);
    }

    /// The first bytes of a bytearray or memoryview: one more than there is room for tells that there are more.
    fn head_of_buffer<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        let wanted = self.value_length.unwrap_or(usize::MAX).min(self.bytes_left);
        let most = wanted.saturating_add(1).min(isize::MAX as usize);
        let view = PyMemoryView::from(value)?;
        let mut view = view.into_any();
        if view.getattr("nbytes")?.extract::<usize>()? > most {
            let contiguous = view.getattr("c_contiguous")?.is_truthy()?;
            // Items of one dimension, if it isn't contiguous: each has a byte at least.
            let whole = if contiguous { view.call_method1("cast", ("B",)) } else { Ok(view.clone()) };
            if let Ok(head) = whole.and_then(|whole| whole.get_item(PySlice::new(py, 0, most as isize, 1))) {
                view = head;
            }
        }
        Ok(view.call_method0("tobytes")?.cast_into::<PyBytes>()?)
    }

    /// Counts what was taken of a text.
    fn took(&mut self, bytes: usize, cut: bool) {
        self.bytes_left -= bytes;
        if cut {
            self.full = true;
            self.lose(Lost::TooLarge);
        }
    }

    /// A string as UTF-8, within its limit, in characters, and within what is left.
    fn cut<'a>(&mut self, value: &'a Bound<'_, PyString>, limit: Option<usize>) -> PyResult<Cow<'a, str>> {
        let len = ffi::char_len(value);
        let wanted = limit.map_or(len, |limit| limit.min(len));
        if len <= self.bytes_left
            && let Some(text) = ffi::text(value)
        {
            let text = cut_str(text, &AttributeLimits { count: None, value_length: limit });
            if text.len() <= self.bytes_left {
                self.took(text.len(), false);
                return Ok(Cow::Borrowed(text));
            }
        }
        let most = wanted.min(self.bytes_left);
        let head = ffi::head(value, most)?;
        let mut text = match head.to_str() {
            Ok(text) => text.to_owned(),
            Err(_) => without_surrogates(&head)?,
        };
        let mut end = text.len().min(self.bytes_left);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = most < wanted || end < text.len();
        text.truncate(end);
        self.took(end, cut);
        Ok(Cow::Owned(text))
    }

    /// The text of any object.
    fn text_of<'py>(&mut self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
        let long = value.cast::<PyInt>().map_or(Ok(false), is_long)?;
        if !long && has_text(value)? {
            return value.str();
        }
        self.lose(if long { Lost::LongInt } else { Lost::NoText });
        Ok(PyString::new(value.py(), &replacement(value)))
    }

    /// The text of a key or a name.
    fn key(&mut self, key: &Bound<'_, PyAny>) -> PyResult<String> {
        let made = match key.cast::<PyString>() {
            Ok(text) => self.cut(text, None).map(Cow::into_owned),
            Err(_) => self.text_of(key).and_then(|text| self.cut(&text, None).map(Cow::into_owned)),
        };
        match made {
            Err(error) if isolated(key.py(), &error) => {
                self.lose(Lost::Raised(error));
                Ok(replacement(key))
            }
            made => made,
        }
    }

    /// What stands for a value that can't be kept: its type's name.
    fn replace(&mut self, value: &Bound<'_, PyAny>, lost: Lost, out: &mut Vec<u8>) {
        self.lose(lost);
        let limits = AttributeLimits { count: None, value_length: self.value_length };
        AnyValue::Str(cut_str(&replacement(value), &limits)).write(out);
    }

    /// Whether a container may be looked into; replaced if not.
    fn enter(&mut self, value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> bool {
        self.path.truncate(depth);
        let address = value.as_ptr() as usize;
        let lost = if depth >= MAX_DEPTH {
            Lost::TooDeep
        } else if self.path.contains(&address) {
            Lost::Cycle
        } else {
            self.path.push(address);
            return true;
        };
        self.replace(value, lost, out);
        false
    }

    /// Whether there is room for one more element.
    fn another(&mut self) -> bool {
        if !self.full && self.items_left == 0 {
            self.full = true;
            self.lose(Lost::TooManyItems);
        }
        self.items_left = self.items_left.saturating_sub(1);
        !self.full
    }

    fn array<'py>(
        &mut self,
        value: &Bound<'py, PyAny>,
        items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        if !self.enter(value, depth, out) {
            return Ok(());
        }
        let (mut body, mut encoded) = (Vec::new(), Vec::new());
        for item in items {
            let item = item?;
            if !self.another() {
                break;
            }
            encoded.clear();
            self.encode(&item, depth + 1, &mut encoded)?;
            wire::array_item(&mut body, &AnyValue::Encoded(&encoded));
        }
        wire::len_field(out, wire::ARRAY_VALUE, &body);
        Ok(())
    }

    /// Its keys are unique: of keys with the same text, the last one's value takes the place of the first.
    fn map(&mut self, value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> PyResult<()> {
        if !self.enter(value, depth, out) {
            return Ok(());
        }
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        let mut unique = value.is_exact_instance_of::<PyDict>();
        for pair in first_pairs(value, self.items_left + 1)? {
            let (key, value) = pair?;
            if !self.another() {
                break;
            }
            unique &= key.cast_exact::<PyString>().is_ok_and(|key| ffi::text(key).is_some());
            let key = self.key(&key)?;
            if self.full {
                break;
            }
            if key.is_empty() {
                self.lose(Lost::EmptyKey);
                continue;
            }
            let mut encoded = Vec::new();
            self.encode(&value, depth + 1, &mut encoded)?;
            pairs.push((key, encoded));
        }
        if !unique {
            pairs = self.last_of_each(pairs);
        }
        let mut body = Vec::new();
        for (key, encoded) in &pairs {
            wire::key_value(&mut body, wire::len_tag(1), key, &AnyValue::Encoded(encoded));
        }
        wire::len_field(out, wire::KVLIST_VALUE, &body);
        Ok(())
    }

    fn last_of_each(&mut self, pairs: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(pairs.len());
        let mut kept: Vec<(String, Vec<u8>)> = Vec::with_capacity(pairs.len());
        for (key, encoded) in pairs {
            if let Some(place) = places.get(&key) {
                kept[*place].1 = encoded;
                self.lose(Lost::SameKeys);
            } else {
                places.insert(key.clone(), kept.len());
                kept.push((key, encoded));
            }
        }
        kept
    }
}

/// The first pairs of a mapping, those of a dict as they were at the call.
pub fn first_pairs<'py>(
    mapping: &Bound<'py, PyAny>,
    most: usize,
) -> PyResult<Box<dyn Iterator<Item = PyResult<Pair<'py>>> + 'py>> {
    if let Ok(dict) = mapping.cast_exact::<PyDict>() {
        // Copied, because a value's own code may change the dict.
        let pairs: Vec<_> = dict.iter().take(most).collect();
        return Ok(Box::new(pairs.into_iter().map(Ok)));
    }
    let pairs = mapping.call_method0("items")?.try_iter()?;
    Ok(Box::new(pairs.take(most).map(|pair| pair?.extract())))
}

fn is_long(number: &Bound<'_, PyInt>) -> PyResult<bool> {
    let bits = number.py().get_type::<PyInt>().call_method1("bit_length", (number,))?;
    Ok(bits.extract::<u64>()? > MAX_INT_BITS)
}

/// `<module.Class object>`.
fn replacement(value: &Bound<'_, PyAny>) -> String {
    let mut name = type_name(&value.get_type());
    if name.chars().count() > 200 {
        name = "object".to_owned();
    }
    format!("<{name} object>")
}

/// A surrogate's three bytes become U+FFFD, which has three as well.
fn without_surrogates(text: &Bound<'_, PyString>) -> PyResult<String> {
    let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?.cast_into::<PyBytes>()?;
    let mut bytes = bytes.as_bytes().to_vec();
    for at in 0..bytes.len().saturating_sub(2) {
        if bytes[at] == 0xed && bytes[at + 1] >= 0xa0 {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// Whether the object's class says how it is written; object's own text has an address in it.
fn has_text(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (class, object) = (value.get_type(), value.py().get_type::<PyAny>());
    let own = |name: &str| -> PyResult<bool> { Ok(!class.getattr(name)?.is(&object.getattr(name)?)) };
    Ok(own("__str__")? || own("__repr__")?)
}

/// Whether the object is an array or a scalar of numpy's, or behaves like one.
fn is_array_like(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = value.get_type();
    Ok(class.hasattr("dtype")? && class.hasattr("ndim")? && class.hasattr("item")?)
}

/// Whether a scalar of numpy's is a bool, an integer or a floating point number.
fn is_number(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = value.getattr("dtype")?.getattr_opt("kind")?;
    Ok(kind
        .and_then(|kind| kind.extract::<String>().ok())
        .is_some_and(|kind| "biuf".contains(&kind) && !kind.is_empty()))
}
