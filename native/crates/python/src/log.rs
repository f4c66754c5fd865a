//! The logger: log records of the OpenTelemetry Logs API.

use otelagent_core::attributes::{AttributeLimits, Attributes};
use otelagent_core::log::{ATTRIBUTES, LogRecord};
use otelagent_core::wire::AnyValue;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::api::Api;
use crate::convert::{self, Collected, Complain};
use crate::exception;
use crate::recorder::Recorder;
use crate::tracer;

const UNLIMITED: AttributeLimits = AttributeLimits { count: None, value_length: None };

/// For registering with the API's Logger, which is imported only where log records are exported. Empty, because a class
/// that is registered itself never gets into the ABC's cache.
#[pyclass(frozen, subclass, module = "otelagent_native")]
pub struct LoggerBase;

/// Records log records of one instrumentation scope.
#[pyclass(frozen, extends = LoggerBase, module = "otelagent_native")]
pub struct Logger {
    recorder: Py<Recorder>,
    scope_index: u32,
}

/// The trace ids of a log record: zeros outside of a span.
#[derive(Default)]
struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// What a log record is made of.
struct Parts<'a, 'py> {
    timestamp: Option<&'a Bound<'py, PyAny>>,
    observed_timestamp: Option<&'a Bound<'py, PyAny>>,
    trace: Trace,
    severity_number: Option<&'a Bound<'py, PyAny>>,
    severity_text: Option<&'a Bound<'py, PyAny>>,
    body: Option<&'a Bound<'py, PyAny>>,
    attributes: Option<&'a Bound<'py, PyAny>>,
    event_name: Option<&'a Bound<'py, PyAny>>,
    exception: Option<&'a Bound<'py, PyAny>>,
}

type Given<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

fn given<'a, 'py>(value: Given<'a, 'py>) -> Given<'a, 'py> {
    value.filter(|value| !value.is_none())
}

impl Logger {
    fn text(&self, what: &str, value: Given<'_, '_>) -> PyResult<String> {
        given(value).map_or(Ok(String::new()), |value| self.recorder.get().text(value, what))
    }

    /// The attributes, those of the exception first: the caller's win.
    fn attributes(&self, parts: &Parts<'_, '_>, complain: &Complain<'_>) -> PyResult<Attributes> {
        let mut collected = Collected::new(ATTRIBUTES, self.recorder.get().limits.attributes, complain);
        if let Some(error) = given(parts.exception) {
            convert::set_attributes(exception::attributes_of(error, complain)?.as_any(), &mut collected)?;
        }
        if let Some(attributes) = given(parts.attributes) {
            convert::set_attributes(attributes, &mut collected)?;
        }
        Ok(collected.attributes)
    }

    fn take(&self, py: Python<'_>, parts: &Parts<'_, '_>) -> PyResult<()> {
        let recorder = self.recorder.get();
        let complain = recorder.complaints();
        let attributes = self.attributes(parts, &complain)?;
        let severity_text = self.text("A log record's severity text", parts.severity_text)?;
        let event_name = self.text("A log record's event name", parts.event_name)?;
        let time_ns = |time| convert::time_ns(time, "A log record's time", &complain);
        let record = LogRecord {
            time_ns: given(parts.timestamp).map_or(Ok(0), |time| time_ns(Some(time)))?,
            observed_ns: time_ns(parts.observed_timestamp)?,
            severity: severity(given(parts.severity_number)),
            severity_text: &severity_text,
            body: AnyValue::Empty,
            attributes: &attributes,
            flags: parts.trace.flags,
            trace_id: parts.trace.trace_id,
            span_id: parts.trace.span_id,
            event_name: &event_name,
        };
        let offer = |record: &LogRecord<'_>| recorder.offer(py, self.scope_index, record);
        let Some(body) = given(parts.body) else { return recorder.added(py, offer(&record)) };
        // The closure's own lifetime is shorter than the record's, hence the copy.
        let (news, lost) =
            convert::with_value(body, &UNLIMITED, |body, _| offer(&LogRecord { body: *body, ..record }))?;
        recorder.added(py, news)?;
        lost.map_or(Ok(()), |lost| convert::complain_of(body, "body", "A log record's body", lost, &complain))
    }
}

/// The wire's number of a SeverityNumber or of an int; 0 for anything else.
fn severity(number: Given<'_, '_>) -> u8 {
    let Some(number) = number else { return 0 };
    let value = if number.is_instance_of::<PyInt>() {
        number.extract::<u8>()
    } else {
        number.getattr(pyo3::intern!(number.py(), "_value_")).and_then(|value| value.extract())
    };
    value.ok().filter(|value| *value <= 24).unwrap_or(0)
}

#[pymethods]
impl Logger {
    #[new]
    #[pyo3(signature = (recorder, name, version, schema_url, attributes))]
    fn new(
        recorder: Bound<'_, Recorder>,
        name: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        schema_url: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let scope_index = recorder.get().add_scope(name, version, schema_url, attributes)?;
        Ok(PyClassInitializer::from(LoggerBase).add_subclass(Self { recorder: recorder.unbind(), scope_index }))
    }

    #[pyo3(signature = (record=None, *, timestamp=None, observed_timestamp=None, context=None, severity_number=None, severity_text=None, body=None, attributes=None, event_name=None, exception=None))]
    #[expect(clippy::too_many_arguments)]
    fn emit<'py>(
        slf: &Bound<'py, Self>,
        record: Given<'_, 'py>,
        timestamp: Given<'_, 'py>,
        observed_timestamp: Given<'_, 'py>,
        context: Given<'_, 'py>,
        severity_number: Given<'_, 'py>,
        severity_text: Given<'_, 'py>,
        body: Given<'_, 'py>,
        attributes: Given<'_, 'py>,
        event_name: Given<'_, 'py>,
        exception: Given<'_, 'py>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.recorder.get().is_paused() {
            this.recorder.get().left_out(py);
            return Ok(());
        }
        if let Some(record) = given(record) {
            return this.take_record(record);
        }
        // As the API's LogRecord has it: an empty Context stands for the current one.
        let api = Api::get(py)?;
        let context = match given(context) {
            Some(context) if convert::truthy(context)? => context.clone(),
            _ => api.context(py)?,
        };
        let trace = match tracer::parent(api, &context)? {
            Some(span) => Trace { trace_id: span.trace_id, span_id: span.span_id, flags: span.flags },
            None => Trace::default(),
        };
        this.take(
            py,
            &Parts {
                timestamp,
                observed_timestamp,
                trace,
                severity_number,
                severity_text,
                body,
                attributes,
                event_name,
                exception,
            },
        )
    }

    /// Whether a record would be taken.
    #[pyo3(signature = (*, context=None, severity_number=None, event_name=None))]
    fn enabled(&self, context: Given<'_, '_>, severity_number: Given<'_, '_>, event_name: Given<'_, '_>) -> bool {
        let _ = (context, severity_number, event_name);
        !self.recorder.get().is_paused()
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.recorder)
    }
}

impl Logger {
    /// Takes a LogRecord of the API, whose trace ids are its own.
    fn take_record(&self, record: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = record.py();
        let get = |name: &str| record.getattr_opt(name).ok().flatten();
        let trace = Trace {
            trace_id: get("trace_id").and_then(|id| id.extract().ok()).unwrap_or(0),
            span_id: get("span_id").and_then(|id| id.extract().ok()).unwrap_or(0),
            flags: get("trace_flags").and_then(|flags| flags.extract().ok()).unwrap_or(0),
        };
        let [timestamp, observed_timestamp, severity_number, severity_text, body, attributes, event_name, exception] =
            [
                "timestamp",
                "observed_timestamp",
                "severity_number",
                "severity_text",
                "body",
                "attributes",
                "event_name",
                "exception",
            ]
            .map(get);
        self.take(
            py,
            &Parts {
                timestamp: timestamp.as_ref(),
                observed_timestamp: observed_timestamp.as_ref(),
                trace,
                severity_number: severity_number.as_ref(),
                severity_text: severity_text.as_ref(),
                body: body.as_ref(),
                attributes: attributes.as_ref(),
                event_name: event_name.as_ref(),
                exception: exception.as_ref(),
            },
        )
    }
}
