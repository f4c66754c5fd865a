//! Propagation headers for the propagators in Python: the functions of `otelagent.record.headers`, with its results.

use otelagent_core::b3;
use otelagent_core::trace_context::{self, Parent};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

type Ids = (u128, u64, u8);

fn ids(parent: Parent) -> Ids {
    (parent.trace_id, parent.span_id, parent.flags)
}

/// The bytes of a string of at most so many characters; None for anything else. A string that can't be ASCII isn't
/// looked at, for UTF-8 would have to be made of it first.
fn header<'a>(value: &'a Bound<'_, PyAny>, most: usize) -> Option<&'a [u8]> {
    let text = value.cast::<PyString>().ok()?;
    if text.len().ok()? > most {
        return None;
    }
    text.to_str().ok().map(str::as_bytes)
}

/// Formatting never sees more than 128 and 64 bits, unless somebody made a span context by hand: then it has none.
fn parent(trace_id: &Bound<'_, PyAny>, span_id: &Bound<'_, PyAny>, flags: &Bound<'_, PyAny>) -> PyResult<Parent> {
    Ok(Parent { trace_id: trace_id.extract()?, span_id: span_id.extract()?, flags: flags.extract()? })
}

fn ascii(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

#[pyfunction]
pub fn parse_traceparent(value: &Bound<'_, PyAny>) -> Option<Ids> {
    trace_context::parse_parent(header(value, trace_context::MAX_PARENT_BYTES)?).map(ids)
}

#[pyfunction]
pub fn format_traceparent<'py>(
    trace_id: &Bound<'py, PyAny>,
    span_id: &Bound<'py, PyAny>,
    flags: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    let header = trace_context::format_parent(&parent(trace_id, span_id, flags)?);
    Ok(PyString::new(trace_id.py(), ascii(&header)))
}

#[pyfunction]
pub fn parse_tracestate<'py>(py: Python<'py>, values: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyDict>> {
    let members = PyDict::new(py);
    let headers: Option<Vec<&[u8]>> =
        values.iter().map(|value| header(value, trace_context::MAX_STATE_BYTES)).collect();
    for (key, value) in trace_context::parse_state(&headers.unwrap_or_default()) {
        members.set_item(key, value)?;
    }
    Ok(members)
}

#[pyfunction]
pub fn parse_b3(value: &Bound<'_, PyAny>) -> Option<Ids> {
    b3::parse_single(header(value, b3::MAX_HEADER_BYTES)?).map(ids)
}

#[pyfunction]
pub fn parse_b3_multi(
    trace_id: &Bound<'_, PyAny>,
    span_id: &Bound<'_, PyAny>,
    sampled: &Bound<'_, PyAny>,
    flags: &Bound<'_, PyAny>,
) -> Option<Ids> {
    let of = |value| header(value, b3::MAX_HEADER_BYTES).unwrap_or_default();
    b3::parse_multi(of(trace_id), of(span_id), of(sampled), of(flags)).map(ids)
}

#[pyfunction]
pub fn format_b3<'py>(
    trace_id: &Bound<'py, PyAny>,
    span_id: &Bound<'py, PyAny>,
    flags: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    let header = b3::format_single(&parent(trace_id, span_id, flags)?);
    Ok(PyString::new(trace_id.py(), ascii(&header)))
}
