//! A span as those in its own process read it: the wire back to Python values.

use otelagent_core::span::Record;
use otelagent_core::wire::{Field, Fields};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PyTuple};

use crate::api::Api;
use crate::span::Span;

impl Span {
    /// Reads the record; None where the span isn't recorded.
    pub fn read<R>(&self, py: Python<'_>, read: impl FnOnce(&Record) -> R) -> Option<R> {
        self.state.with(py, |state| state.record.as_deref().map(read))
    }

    pub fn read_name(&self, py: Python<'_>) -> String {
        self.read(py, |record| record.name.clone()).unwrap_or_default()
    }

    pub fn read_kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let kind = self.read(py, |record| record.kind).unwrap_or(1);
        Ok(Api::get(py)?.kind(py, kind))
    }

    pub fn read_status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.read(py, |record| {
            let (code, message) = record.status();
            (code, message.to_owned())
        });
        let (code, message) = status.unwrap_or_default();
        Api::get(py)?.status(py, code, &message)
    }

    pub fn read_attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMappingProxy>> {
        let mut bytes = Vec::new();
        self.read(py, |record| record.attributes.write(&mut bytes));
        Ok(PyMappingProxy::new(py, key_values(py, &bytes, 9)?.as_mapping()))
    }

    pub fn read_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.read(py, |record| record.events.bytes().to_vec()).unwrap_or_default();
        let events = PyList::empty(py);
        for event in lens(&bytes, 11) {
            let attributes = key_values(py, event, 3)?;
            events.append((string(event, 2), attributes, number(event, 1), number(event, 4)))?;
        }
        self.scope(py).call_method1("events", (events,))
    }

    pub fn read_links<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (bytes, linked) = self.state.with(py, |state| {
            let bytes = state.record.as_deref().map(|record| record.links.bytes().to_vec()).unwrap_or_default();
            (bytes, state.linked.iter().map(|context| context.clone_ref(py)).collect::<Vec<_>>())
        });
        let links = PyList::empty(py);
        for (link, context) in lens(&bytes, 13).zip(linked) {
            links.append((context, key_values(py, link, 4)?, number(link, 5)))?;
        }
        self.scope(py).call_method1("links", (links,))
    }
}

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
