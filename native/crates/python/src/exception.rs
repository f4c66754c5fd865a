//! How spans and log records tell of an exception (semantic conventions, exceptions).

use otelagent_core::span::STATUS_ERROR;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use crate::api::Api;
use crate::convert;
use crate::span::Span;

/// An exception class's name with its module, unless that is `builtins`.
pub fn type_name(class: &Bound<'_, PyType>) -> PyResult<String> {
    let module = class.getattr("__module__")?;
    let qualified = class.getattr("__qualname__")?;
    Ok(match module.extract::<String>() {
        Ok(module) if !module.is_empty() && module != "builtins" => format!("{module}.{qualified}"),
        _ => qualified.to_string(),
    })
}

/// An exception's type, message and stack trace.
pub fn attributes_of<'py>(exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = exception.py();
    let lines = Api::get(py)?.format_exception.bind(py).call1((exception,))?;
    let stacktrace = PyString::new(py, "").call_method1("join", (lines,))?;
    let dict = PyDict::new(py);
    dict.set_item("exception.type", type_name(&exception.get_type())?)?;
    dict.set_item("exception.message", exception.str()?)?;
    dict.set_item("exception.stacktrace", stacktrace)?;
    Ok(dict)
}

impl Span {
    /// Adds the event of an exception.
    pub fn record(
        &self,
        exception: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        escaped: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = exception.py();
        let name = PyString::intern(py, "exception").into_any();
        let described = || -> PyResult<Bound<'_, PyDict>> {
            let dict = attributes_of(exception)?;
            let escaped = match escaped {
                Some(escaped) => escaped.str()?,
                None => PyString::intern(py, "False"),
            };
            dict.set_item("exception.escaped", escaped)?;
            if let Some(attributes) = attributes.filter(|attributes| !attributes.is_none())
                && attributes.is_truthy()?
            {
                dict.call_method1("update", (attributes,))?;
            }
            Ok(dict)
        };
        let attributes = match described() {
            Ok(attributes) => attributes,
            Err(error) if convert::isolated(py, &error) => {
                self.recorder().complain(py, "exception", "An exception can't be recorded whole", Some(error))?;
                let dict = PyDict::new(py);
                dict.set_item("exception.type", type_name(&exception.get_type()).unwrap_or_default())?;
                dict
            }
            Err(error) => return Err(error),
        };
        self.event(&name, Some(attributes.as_any()), timestamp)
    }

    /// Notes the exception that leaves the span's block.
    pub fn failed(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        if !self.recording(py) {
            return Ok(());
        }
        if self.record_exception {
            self.record(error, None, None, None)?;
        }
        if self.set_status_on_exception {
            let name = error.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            let message = match error.str() {
                Ok(text) => format!("{name}: {}", convert::text(&text)),
                Err(raised) if convert::isolated(py, &raised) => name,
                Err(raised) => return Err(raised),
            };
            self.change(py, |record| record.set_status(STATUS_ERROR, &message));
        }
        Ok(())
    }
}

/// Whether an exception that leaves a block is an error: what derives from BaseException alone is not.
pub fn is_error(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyException>()
}
