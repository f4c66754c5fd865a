//! The wire back to Python values, for whoever reads a span in its own process.

use otelagent_core::wire::{Field, Fields};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn any_value<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(match Fields(body).next() {
        Some((1, Field::Len(bytes))) => text(bytes).into_pyobject(py)?.into_any(),
        Some((2, Field::Varint(value))) => (value != 0).into_pyobject(py)?.to_owned().into_any(),
        Some((3, Field::Varint(value))) => (value as i64).into_pyobject(py)?.into_any(),
        Some((4, Field::Fixed64(bits))) => f64::from_bits(bits).into_pyobject(py)?.into_any(),
        Some((5, Field::Len(items))) => {
            let items = Fields(items).filter_map(|(_, item)| match item {
                Field::Len(item) => Some(any_value(py, item)),
                _ => None,
            });
            PyTuple::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any()
        }
        Some((6, Field::Len(pairs))) => key_values(py, pairs, 1)?.into_any(),
        Some((7, Field::Len(bytes))) => PyBytes::new(py, bytes).into_any(),
        _ => py.None().into_bound(py),
    })
}

/// The `KeyValue`s in a field of a message, as a dict.
pub fn key_values<'py>(py: Python<'py>, message: &[u8], field: u64) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for pair in lens(message, field) {
        let key = lens(pair, 1).next().map_or("", text);
        dict.set_item(key, any_value(py, lens(pair, 2).next().unwrap_or_default())?)?;
    }
    Ok(dict)
}

/// The length-delimited fields of a number.
pub fn lens(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(number, value)| match value {
        Field::Len(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

/// The number in a field, 0 when it is not there.
pub fn number(message: &[u8], field: u64) -> u64 {
    Fields(message)
        .find_map(|(number, value)| match value {
            Field::Varint(value) | Field::Fixed64(value) if number == field => Some(value),
            Field::Fixed32(value) if number == field => Some(u64::from(value)),
            _ => None,
        })
        .unwrap_or_default()
}

/// The text in a field, empty when it is not there.
pub fn string(message: &[u8], field: u64) -> &str {
    lens(message, field).next().map_or("", text)
}
