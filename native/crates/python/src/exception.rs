//! How spans and log records tell of an exception (semantic conventions, exceptions).

use otelagent_core::span::STATUS_ERROR;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::api::Api;
use crate::convert::{self, Complain};
use crate::span::Span;
use crate::values;

/// An exception's type, message and stack trace; without a stack trace where that can't be made.
///
/// Returns an error only for what must come through.
pub fn attributes_of<'py>(exception: &Bound<'py, PyAny>, complain: &Complain<'_>) -> PyResult<Bound<'py, PyDict>> {
    let py = exception.py();
    let dict = PyDict::new(py);
    dict.set_item("exception.type", values::type_name(&exception.get_type()))?;
    dict.set_item("exception.message", convert::text(exception, "An exception's message", complain)?)?;
    let lines = Api::get(py)?.format_exception.bind(py).call1((exception,));
    match lines.and_then(|lines| PyString::new(py, "").call_method1("join", (lines,))) {
        Ok(stacktrace) => dict.set_item("exception.stacktrace", stacktrace)?,
        Err(error) if convert::isolated(py, &error) => {
            complain(py, "exception", "An exception's stack trace can't be made", Some(error))?;
        }
        Err(error) => return Err(error),
    }
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
        let complain = self.recorder().complaints();
        let described = attributes_of(exception, &complain)?;
        let escaped = match escaped {
            Some(escaped) => convert::text(escaped, "Whether an exception escaped", &complain)?,
            None => "False".to_owned(),
        };
        described.set_item("exception.escaped", escaped)?;
        let described = described.as_any();
        match attributes {
            Some(attributes) => self.event(&name, &[described, attributes], timestamp),
            None => self.event(&name, &[described], timestamp),
        }
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
            let message = format!("{name}: {}", self.recorder().text(error, "An exception's message")?);
            self.change(py, |record| record.set_status(STATUS_ERROR, &message));
        }
        Ok(())
    }
}

/// Whether an exception that leaves a block is an error: what derives from BaseException alone is not.
pub fn is_error(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyException>()
}
