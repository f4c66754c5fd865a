//! Attributes, names and times as Python gives them. Nothing here raises for what they are: `values` makes them fit.

use otelagent_core::attributes::{AttributeLimits, Attributes};
use otelagent_core::clock;
use otelagent_core::wire::AnyValue;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString};

use crate::ffi;
use crate::values::{self, Lost, MAX_ITEMS};

pub use crate::values::{isolated, scalar, with_value};

/// Whether a value counts as true; one whose own code fails does.
///
/// Returns an error only for what must come through.
pub fn truthy(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match value.is_truthy() {
        Err(error) if isolated(value.py(), &error) => Ok(true),
        answer => answer,
    }
}

/// What hears of what can't be kept: a topic, a message, an error.
///
/// Returns an error only for what must come through.
pub type Complain<'a> = dyn Fn(Python<'_>, &str, &str, Option<PyErr>) -> PyResult<()> + 'a;

/// Says of what, and why something of it is lost.
pub fn complain_of(
    value: &Bound<'_, PyAny>,
    topic: &str,
    what: &str,
    lost: Lost,
    complain: &Complain<'_>,
) -> PyResult<()> {
    let message = format!("{what} ({}) isn't kept whole: {}", values::type_name(&value.get_type()), lost.reason());
    complain(value.py(), topic, &message, lost.error())
}

/// The text of a name: a string as it is, anything else as its `str()`.
///
/// :param what: as it is called in messages.
#[cold]
pub fn text(value: &Bound<'_, PyAny>, what: &str, complain: &Complain<'_>) -> PyResult<String> {
    let (text, lost) = values::text(value)?;
    lost.map_or(Ok(()), |lost| complain_of(value, "text", what, lost, complain))?;
    Ok(text)
}

/// A time in nanoseconds since the Unix epoch; what is none, or doesn't fit 64 bits, is now.
///
/// :param what: as it is called in messages.
#[inline]
pub fn time_ns(value: Option<&Bound<'_, PyAny>>, what: &str, complain: &Complain<'_>) -> PyResult<u64> {
    match value.filter(|value| !value.is_none()) {
        None => Ok(clock::now_ns()),
        Some(value) => given_time_ns(value, what, complain),
    }
}

#[cold]
fn given_time_ns(value: &Bound<'_, PyAny>, what: &str, complain: &Complain<'_>) -> PyResult<u64> {
    let error = match value.cast::<PyFloat>() {
        Ok(value) if value.value() >= 0.0 && value.value() < 2f64.powi(64) => return Ok(value.value() as u64),
        Ok(_) => None,
        Err(_) => match value.extract::<u64>() {
            Ok(time) => return Ok(time),
            Err(error) => Some(error),
        },
    };
    if let Some(error) = error
        && !isolated(value.py(), &error)
    {
        return Err(error);
    }
    let class = values::type_name(&value.get_type());
    let message = format!("{what} ({class}) is no time in nanoseconds since 1970: that of the call is taken");
    complain(value.py(), "time", &message, None)?;
    Ok(clock::now_ns())
}

/// Where attributes go, and what hears of those that can't be kept.
pub trait AttributeSink {
    fn limits(&self) -> &AttributeLimits;
    /// Whether this key would be refused whatever its value.
    fn refuses(&self, key: &str) -> bool;
    /// Sets one, and counts it if it isn't whole; runs no Python code.
    fn set(&mut self, key: &str, value: &AnyValue<'_>, whole: bool);
    /// Counts some that can't be kept.
    fn refuse(&mut self, count: u32);
    /// Returns an error only for what must come through.
    fn complain(&self, py: Python<'_>, topic: &str, message: &str, error: Option<PyErr>) -> PyResult<()>;
}

/// Sets one attribute.
///
/// Returns an error only for what must come through.
pub fn set_attribute(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, sink: &mut impl AttributeSink) -> PyResult<()> {
    let py = key.py();
    let limits = *sink.limits();
    if let Ok(key) = key.cast_exact::<PyString>()
        && let Some(key) = ffi::text(key)
        && let Some(value) = scalar(value, &limits)
    {
        sink.set(key, &value, true);
        return Ok(());
    }
    let (text, lost_key) = if key.is_none() { (String::new(), None) } else { values::text(key)? };
    if text.is_empty() {
        sink.refuse(1);
        return sink.complain(py, "attribute", "An attribute without a key is left out", None);
    }
    if sink.refuses(&text) {
        sink.refuse(1);
        return Ok(());
    }
    let whole_key = lost_key.is_none();
    let ((), lost) = with_value(value, &limits, |value, whole| sink.set(&text, value, whole && whole_key))?;
    let Some(lost) = lost_key.or(lost) else { return Ok(()) };
    let shown: String = text.chars().take(100).collect();
    let what = format!("Attribute {shown:?}");
    complain_of(value, "attribute", &what, lost, &|py, topic, message, error| sink.complain(py, topic, message, error))
}

/// Sets the attributes of a mapping; what is no mapping counts as one that can't be kept.
pub fn set_attributes(attributes: &Bound<'_, PyAny>, sink: &mut impl AttributeSink) -> PyResult<()> {
    let py = attributes.py();
    // A dict is there and ends; what else has items may have them without end.
    let most = if attributes.is_exact_instance_of::<PyDict>() { usize::MAX } else { MAX_ITEMS + 1 };
    let mut set_all = || -> PyResult<()> {
        for (number, pair) in values::first_pairs(attributes, most)?.enumerate() {
            let (key, value) = pair?;
            if number >= MAX_ITEMS && most != usize::MAX {
                sink.refuse(1);
                return sink.complain(
                    py,
                    "attribute",
                    "Attributes beyond the first 10000 of a mapping are left out",
                    None,
                );
            }
            set_attribute(&key, &value, sink)?;
        }
        Ok(())
    };
    match set_all() {
        Err(error) if isolated(py, &error) => {
            sink.refuse(1);
            let class = values::type_name(&attributes.get_type());
            sink.complain(py, "attribute", &format!("Attributes ({class}) can't be read"), Some(error))
        }
        done => done,
    }
}

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

    fn refuses(&self, key: &str) -> bool {
        self.attributes.refuses(&self.limits, key)
    }

    fn set(&mut self, key: &str, value: &AnyValue<'_>, whole: bool) {
        self.attributes.set(&self.limits, key, value);
        if !whole {
            self.attributes.refuse(1);
        }
    }

    fn refuse(&mut self, count: u32) {
        self.attributes.refuse(count);
    }

    fn complain(&self, py: Python<'_>, topic: &str, message: &str, error: Option<PyErr>) -> PyResult<()> {
        (self.complain)(py, topic, message, error)
    }
}
