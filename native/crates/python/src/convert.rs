//! Python values to the wire. Nothing here raises for what a value is: it is made fit, or it is refused.
//!
//! The rules, for a value and for what it contains:
//! - bool, int, float, str, bytes, None, sequences and mappings, and their subclasses, as they are;
//! - an int beyond 64 bits becomes its decimal text; a lone surrogate becomes U+FFFD;
//! - anything else becomes its `str()`, if its class defines one; if not, it becomes the empty value;
//! - a value that nests deeper than `MAX_DEPTH` (a cycle does), takes more than `MAX_VALUE_BYTES`, or whose own code
//!   raises, is refused. Only what stops a program (KeyboardInterrupt) comes through.

use std::borrow::Cow;
use std::collections::HashMap;

use otelagent_core::attributes::{AttributeLimits, Attributes, cut_bytes, cut_str};
use otelagent_core::clock;
use otelagent_core::wire::{self, AnyValue};
use pyo3::exceptions::{PyException, PySystemExit, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use crate::api::Api;
use crate::ffi;

// An official decoder reads 100 messages deep; a level is two of them, three in a map, and a request has seven around.
const MAX_DEPTH: usize = 30;
const MAX_VALUE_BYTES: usize = 16 << 20;

/// A string as UTF-8.
pub fn text<'a>(value: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    match value.to_str() {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => value.call_method1("encode", ("utf-8", "surrogatepass")).map_or(Cow::Borrowed(""), |bytes| {
            let bytes = bytes.cast_into::<PyBytes>().map(|bytes| bytes.as_bytes().to_vec()).unwrap_or_default();
            // A surrogate's three bytes are three errors to the decoder.
            Cow::Owned(String::from_utf8_lossy(&bytes).replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}"))
        }),
    }
}

/// A name: a string as it is, anything else as its `str()`.
pub fn name<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.clone()),
        Err(_) => value.str(),
    }
}

/// A time in nanoseconds since the Unix epoch; what is none, or doesn't fit 64 bits, is now.
pub fn time_ns(value: Option<&Bound<'_, PyAny>>) -> u64 {
    let Some(value) = value else { return clock::now_ns() };
    value.extract::<u64>().ok().or_else(|| finite(value)).unwrap_or_else(clock::now_ns)
}

fn finite(value: &Bound<'_, PyAny>) -> Option<u64> {
    let value: f64 = value.cast::<PyFloat>().ok()?.value();
    (value >= 0.0 && value < 2f64.powi(64)).then_some(value as u64)
}

/// Whether an error is to be kept from the application.
pub fn isolated(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// Whether a value counts as true; one whose own code fails does.
///
/// Returns an error only for what must come through.
pub fn truthy(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match value.is_truthy() {
        Err(error) if isolated(value.py(), &error) => Ok(true),
        answer => answer,
    }
}

/// Calls `take` with the value in the wire's terms.
///
/// `take` runs no Python code, so it may hold a lock.
pub fn with_value<R>(
    value: &Bound<'_, PyAny>,
    limits: &AttributeLimits,
    take: impl FnOnce(&AnyValue<'_>) -> R,
) -> PyResult<R> {
    if let Some(value) = scalar(value, limits) {
        return Ok(take(&value));
    }
    let mut encoded = Vec::new();
    encode(value, limits, 0, &mut encoded)?;
    Ok(take(&AnyValue::Encoded(&encoded)))
}

/// The value in the wire's terms, if it is one of the usual ones, which run no code of their own.
#[inline(always)]
pub fn scalar<'a>(value: &'a Bound<'_, PyAny>, limits: &AttributeLimits) -> Option<AnyValue<'a>> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        let text = ffi::text(text).filter(|text| text.len() <= MAX_VALUE_BYTES)?;
        return Some(AnyValue::Str(cut_str(text, limits)));
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return number.extract().ok().map(AnyValue::Int);
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        return Some(AnyValue::Double(number.value()));
    }
    value.cast_exact::<PyBool>().ok().map(|value| AnyValue::Bool(value.is_true()))
}

/// Appends the body of an `AnyValue`.
fn encode(value: &Bound<'_, PyAny>, limits: &AttributeLimits, depth: usize, out: &mut Vec<u8>) -> PyResult<()> {
    if depth > MAX_DEPTH {
        return Err(PyValueError::new_err("a value nests too deep"));
    }
    let py = value.py();
    if value.is_none() {
        return Ok(());
    }
    if let Ok(value) = value.cast::<PyBool>() {
        AnyValue::Bool(value.is_true()).write(out);
    } else if let Ok(number) = value.cast::<PyInt>() {
        match number.extract::<i64>() {
            Ok(number) => AnyValue::Int(number).write(out),
            Err(_) => {
                encode_str(&py.get_type::<PyInt>().call_method1("__repr__", (number,))?.cast_into()?, limits, out)?
            }
        }
    } else if let Ok(number) = value.cast::<PyFloat>() {
        AnyValue::Double(number.value()).write(out);
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        let bytes = cut_bytes(bytes.as_bytes(), limits);
        fits(bytes.len())?;
        AnyValue::Bytes(bytes).write(out);
    } else if let Ok(text) = value.cast::<PyString>() {
        encode_str(text, limits, out)?;
    } else if let Ok(items) = value.cast_exact::<PyList>() {
        encode_array(items.iter().map(Ok), limits, depth, out)?;
    } else if let Ok(items) = value.cast_exact::<PyTuple>() {
        encode_array(items.iter().map(Ok), limits, depth, out)?;
    } else if value.cast::<PyDict>().is_err() && value.is_instance(Api::get(py)?.sequence_type.bind(py))? {
        encode_array(value.try_iter()?, limits, depth, out)?;
    } else if value.is_instance(Api::get(py)?.mapping_type.bind(py))? {
        let body = encode_map(value, limits, depth)?;
        wire::len_field(out, wire::KVLIST_VALUE, &body);
    } else if has_text(value)? {
        encode_str(&value.str()?, limits, out)?;
    }
    Ok(())
}

/// The body of a `KeyValueList`. Its keys are unique: of keys with the same text, the last one's value takes the place
/// of the first.
fn encode_map(value: &Bound<'_, PyAny>, limits: &AttributeLimits, depth: usize) -> PyResult<Vec<u8>> {
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    let (mut len, mut unique) = (0, value.is_exact_instance_of::<PyDict>());
    for_each_pair(value, |key, value| {
        unique &= key.is_exact_instance_of::<PyString>();
        if let Some(key) = mapping_key(&key)? {
            let mut encoded = Vec::new();
            encode(&value, limits, depth + 1, &mut encoded)?;
            let key = text(&key).into_owned();
            len += key.len() + encoded.len();
            fits(len)?;
            pairs.push((key, encoded));
        }
        Ok(())
    })?;
    if !unique {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(pairs.len());
        let mut kept: Vec<(String, Vec<u8>)> = Vec::with_capacity(pairs.len());
        for (key, encoded) in pairs {
            match places.get(&key) {
                Some(place) => kept[*place].1 = encoded,
                None => {
                    places.insert(key.clone(), kept.len());
                    kept.push((key, encoded));
                }
            }
        }
        pairs = kept;
    }
    let mut body = Vec::with_capacity(len + 12 * pairs.len());
    for (key, encoded) in &pairs {
        wire::key_value(&mut body, wire::len_tag(1), key, &AnyValue::Encoded(encoded));
    }
    Ok(body)
}

fn encode_str(value: &Bound<'_, PyString>, limits: &AttributeLimits, out: &mut Vec<u8>) -> PyResult<()> {
    let text = text(value);
    let text = cut_str(&text, limits);
    fits(text.len())?;
    AnyValue::Str(text).write(out);
    Ok(())
}

fn encode_array<'py>(
    items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    limits: &AttributeLimits,
    depth: usize,
    out: &mut Vec<u8>,
) -> PyResult<()> {
    let (mut body, mut encoded) = (Vec::new(), Vec::new());
    for item in items {
        encoded.clear();
        encode(&item?, limits, depth + 1, &mut encoded)?;
        wire::array_item(&mut body, &AnyValue::Encoded(&encoded));
        fits(body.len())?;
    }
    wire::len_field(out, wire::ARRAY_VALUE, &body);
    Ok(())
}

fn fits(len: usize) -> PyResult<()> {
    if len > MAX_VALUE_BYTES { Err(PyValueError::new_err("a value is too large")) } else { Ok(()) }
}

/// Whether the object's class says how it is written; object's own text has an address in it.
fn has_text(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (class, object) = (value.get_type(), value.py().get_type::<PyAny>());
    let own = |class: &Bound<'_, PyType>, name: &str| -> PyResult<bool> {
        Ok(!class.getattr(name)?.is(&object.getattr(name)?))
    };
    Ok(own(&class, "__str__")? || own(&class, "__repr__")?)
}

/// The key of a mapping: None when it is empty or can't be a string.
fn mapping_key<'py>(key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
    if let Ok(key) = key.cast::<PyString>() {
        return Ok((!key.is_empty()?).then(|| key.clone()));
    }
    if key.is_truthy()? && has_text(key)? { key.str().map(Some) } else { Ok(None) }
}

/// Calls `each` with the pairs of a mapping as they were at the call.
fn for_each_pair<'py>(
    mapping: &Bound<'py, PyAny>,
    mut each: impl FnMut(Bound<'py, PyAny>, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(dict) = mapping.cast_exact::<PyDict>() {
        // Two lists, because a value's own code may change the dict.
        for (key, value) in dict.keys().iter().zip(dict.values().iter()) {
            each(key, value)?;
        }
        return Ok(());
    }
    for pair in mapping.call_method0("items")?.try_iter()? {
        let (key, value) = pair?.extract()?;
        each(key, value)?;
    }
    Ok(())
}

/// Where attributes go, and what hears of those that can't be kept.
pub trait AttributeSink {
    fn limits(&self) -> &AttributeLimits;
    /// Sets one; runs no Python code.
    fn set(&mut self, key: &str, value: &AnyValue<'_>);
    /// Counts one that can't be kept, with its error if it had one.
    ///
    /// Returns an error only for what must come through.
    fn refuse(&mut self, py: Python<'_>, error: Option<PyErr>) -> PyResult<()>;
}

/// Sets one attribute.
///
/// Returns an error only for what must come through.
pub fn set_attribute(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, sink: &mut impl AttributeSink) -> PyResult<()> {
    let py = key.py();
    let Ok(key) = key.cast::<PyString>() else {
        return sink.refuse(py, None);
    };
    let limits = *sink.limits();
    if let Some(key) = ffi::text(key)
        && let Some(value) = scalar(value, &limits)
    {
        sink.set(key, &value);
        return Ok(());
    }
    match with_value(value, &limits, |value| sink.set(&text(key), value)) {
        Ok(()) => Ok(()),
        Err(error) if isolated(py, &error) => sink.refuse(py, Some(error)),
        Err(error) => Err(error),
    }
}

/// Sets the attributes of a mapping; what is no mapping counts as one that can't be kept.
pub fn set_attributes(attributes: &Bound<'_, PyAny>, sink: &mut impl AttributeSink) -> PyResult<()> {
    let py = attributes.py();
    let done = for_each_pair(attributes, |key, value| match mapping_key(&key) {
        Ok(Some(key)) => set_attribute(key.as_any(), &value, sink),
        Ok(None) => sink.refuse(py, None),
        Err(error) if isolated(py, &error) => sink.refuse(py, Some(error)),
        Err(error) => Err(error),
    });
    match done {
        Err(error) if isolated(py, &error) => sink.refuse(py, Some(error)),
        done => done,
    }
}

/// What hears of an attribute that can't be kept.
pub type Complain<'a> = dyn Fn(Python<'_>, PyErr) -> PyResult<()> + 'a;

/// Attributes of something that is encoded at once: an event, a link, a scope, a resource.
pub struct Collected<'a> {
    pub attributes: Attributes,
    limits: AttributeLimits,
    complain: &'a Complain<'a>,
}

impl<'a> Collected<'a> {
    /// :param field: of the attributes in the message around them.
    pub fn new(field: u8, limits: AttributeLimits, complain: &'a Complain<'a>) -> Self {
        Self { attributes: Attributes::new(field), limits, complain }
    }
}

impl AttributeSink for Collected<'_> {
    fn limits(&self) -> &AttributeLimits {
        &self.limits
    }

    fn set(&mut self, key: &str, value: &AnyValue<'_>) {
        self.attributes.set(&self.limits, key, value);
    }

    fn refuse(&mut self, py: Python<'_>, error: Option<PyErr>) -> PyResult<()> {
        self.attributes.refuse(1);
        error.map_or(Ok(()), |error| (self.complain)(py, error))
    }
}
