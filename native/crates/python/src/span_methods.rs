//! What Python calls on a span.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyMappingProxy, PyNone, PyString};

use crate::api::Api;
use crate::convert;
use crate::ffi;
use crate::span::{Span, SpanAttributes};
use crate::values;

#[pymethods]
impl Span {
    fn set_attribute(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.recorded {
            return Ok(());
        }
        let py = key.py();
        let mut sink = SpanAttributes { py, span: self, late: false };
        let done = convert::set_attribute(key, value, &mut sink);
        let told = if sink.late { self.open(py, "set_attribute").map(drop) } else { Ok(()) };
        done.and(told)
    }

    fn set_attributes(&self, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = attributes.py();
        if !self.open(py, "set_attributes")? {
            return Ok(());
        }
        convert::set_attributes(attributes, &mut SpanAttributes { py, span: self, late: false })
    }

    #[pyo3(signature = (name, attributes=None, timestamp=None))]
    fn add_event(
        &self,
        name: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.open(name.py(), "add_event")? {
            return Ok(());
        }
        self.guarded(name.py(), "event", || self.event(name, attributes.as_slice(), timestamp))
    }

    #[pyo3(signature = (context, attributes=None))]
    fn add_link(&self, context: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if !self.open(context.py(), "add_link")? {
            return Ok(());
        }
        self.guarded_link(context.py(), || self.link(context, attributes))
    }

    fn update_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.open(name.py(), "update_name")? { self.rename(name) } else { Ok(()) }
    }

    #[pyo3(signature = (status, description=None))]
    fn set_status(&self, status: &Bound<'_, PyAny>, description: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = status.py();
        if !self.open(py, "set_status")? {
            return Ok(());
        }
        self.guarded(py, "status", || {
            let api = Api::get(py)?;
            if description.is_some() && status.is_instance(api.status_type.bind(py))? {
                self.recorder().complain(
                    py,
                    "status",
                    "A Status has its own description: the other is ignored",
                    None,
                )?;
            }
            let Some((code, description)) = api.read_status(status, description)? else {
                let class = values::type_name(&status.get_type());
                return self.recorder().complain(py, "status", &format!("A status ({class}) is none"), None);
            };
            let description = description.filter(|description| !description.is_none());
            let message = description.map(|text| self.recorder().text(&text, "A status description")).transpose()?;
            self.change(py, |record| record.set_status(code, &message.unwrap_or_default()));
            Ok(())
        })
    }

    #[pyo3(signature = (exception, attributes=None, timestamp=None, escaped=None))]
    fn record_exception(
        &self,
        exception: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        escaped: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = exception.py();
        if !self.open(py, "record_exception")? {
            return Ok(());
        }
        self.guarded(py, "exception", || self.record(exception, attributes, timestamp, escaped))
    }

    #[pyo3(signature = (end_time=None))]
    fn end(slf: &Bound<'_, Self>, end_time: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::finish(slf, end_time)
    }

    fn is_recording(&self, py: Python<'_>) -> bool {
        self.recording(py)
    }

    fn get_span_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context(py)
    }

    fn __enter__<'a, 'py>(slf: &'a Bound<'py, Self>) -> &'a Bound<'py, Self> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_val, exc_tb))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: &Bound<'_, PyAny>,
        exc_val: &Bound<'_, PyAny>,
        exc_tb: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_tb);
        let this = slf.get();
        let noted = if exc_val.is_none() { Ok(()) } else { this.failed(exc_val) };
        let ended = Self::finish(slf, None);
        noted.and(ended)
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> String {
        self.read_name(py)
    }

    #[getter(context)]
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context(py)
    }

    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read_kind(py)
    }

    #[getter]
    fn parent<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.parent_parts(py).map(|parent| Api::get(py)?.span_context(py, &parent)).transpose()
    }

    #[getter]
    fn start_time(&self, py: Python<'_>) -> Option<u64> {
        self.read(py, |record| record.start_ns)
    }

    #[getter]
    fn end_time(&self, py: Python<'_>) -> Option<u64> {
        self.state.with(py, |state| state.record.as_ref().filter(|_| state.ended).map(|record| record.end_ns))
    }

    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read_status(py)
    }

    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMappingProxy>> {
        self.read_attributes(py)
    }

    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read_events(py)
    }

    #[getter]
    fn links<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read_links(py)
    }

    #[getter]
    fn dropped_attributes(&self, py: Python<'_>) -> u32 {
        self.read(py, |record| record.attributes.dropped()).unwrap_or_default()
    }

    #[getter]
    fn dropped_events(&self, py: Python<'_>) -> u32 {
        self.read(py, |record| record.events.dropped()).unwrap_or_default()
    }

    #[getter]
    fn dropped_links(&self, py: Python<'_>) -> u32 {
        self.read(py, |record| record.links.dropped()).unwrap_or_default()
    }

    #[getter]
    fn instrumentation_scope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.scope(py).getattr("instrumentation_scope")
    }

    #[getter]
    fn instrumentation_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.scope(py).call_method0("deprecated_info")
    }

    #[getter]
    fn resource<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.scope(py).getattr("resource")
    }

    fn _readable_span<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().scope(slf.py()).call_method1("readable", (slf,))
    }

    #[pyo3(signature = (indent=4))]
    fn to_json<'py>(slf: &Bound<'py, Self>, indent: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        Self::_readable_span(slf)?.call_method1("to_json", (indent,))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "Span(name={:?}, trace_id=0x{:032x}, span_id=0x{:016x}, recording={})",
            self.read_name(py),
            self.ids.trace_id,
            self.ids.span_id,
            self.recording(py)
        )
    }
}

ffi::method!(SetAttribute, Span, c"set_attribute", |slf, arguments| {
    let [key, value] = arguments.all()?;
    let (py, span) = (slf.py(), slf.get());
    if span.recorded {
        let limits = &span.recorder().limits.attributes;
        let key = key.cast::<PyString>().ok()?;
        let key = ffi::text(&key)?;
        let value = convert::scalar(&value, limits)?;
        span.change(py, |record| record.attributes.set(limits, key, &value))?;
    }
    Some(Ok(PyNone::get(py).to_owned().into_any()))
});

ffi::method!(End, Span, c"end", |slf, arguments| {
    let [] = arguments.all()?;
    if !slf.get().recorder().is_plain() {
        return None;
    }
    Some(Span::finish(&slf, None).map(|()| PyNone::get(slf.py()).to_owned().into_any()))
});

ffi::method!(IsRecording, Span, c"is_recording", |slf, arguments| {
    let [] = arguments.all()?;
    Some(Ok(PyBool::new(slf.py(), slf.get().recording(slf.py())).to_owned().into_any()))
});

ffi::method!(GetSpanContext, Span, c"get_span_context", |slf, arguments| {
    let [] = arguments.all()?;
    Some(slf.get().context(slf.py()))
});

/// Puts the quick methods in the place of the others.
pub fn install(py: Python<'_>) -> PyResult<()> {
    ffi::install::<SetAttribute>(py)?;
    ffi::install::<End>(py)?;
    ffi::install::<IsRecording>(py)?;
    ffi::install::<GetSpanContext>(py)
}
