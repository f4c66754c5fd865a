//! The span.

use std::sync::Mutex;

use otelagent_core::attributes::AttributeLimits;
use otelagent_core::clock;
use otelagent_core::span::{EVENT_ATTRIBUTES, LINK_ATTRIBUTES, Record, STATUS_ERROR, SpanIds};
use otelagent_core::wire::AnyValue;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMappingProxy, PyString, PyTuple};

use crate::api::{Api, SpanContext};
use crate::convert::{self, AttributeSink, Collected};
use crate::read;
use crate::recorder::{Recorder, lock};
use crate::tracer::{Start, Tracer};

/// Registered with the API's Span. Empty, because a class that is registered itself never gets into the ABC's cache.
#[pyclass(frozen, subclass, module = "otelagent_native")]
pub struct SpanBase;

struct State {
    /// None: not recorded. Kept after the end, so that the span can still be read.
    record: Option<Box<Record>>,
    ended: bool,
    /// The contexts of its links as they were given: the wire doesn't have all of them.
    linked: Vec<Py<PyAny>>,
}

/// A span of the OpenTelemetry API.
#[pyclass(frozen, extends = SpanBase, weakref, module = "otelagent_native")]
pub struct Span {
    tracer: Py<Tracer>,
    ids: SpanIds,
    flags: u8,
    parent_flags: u8,
    trace_state: Option<Py<PyAny>>,
    parent_trace_state: Option<Py<PyAny>>,
    record_exception: bool,
    set_status_on_exception: bool,
    /// Whether there ever was a record: known without the lock.
    recorded: bool,
    state: Mutex<State>,
}

/// A span as the place where attributes go.
struct SpanAttributes<'a> {
    span: &'a Span,
    /// Whether the span had ended when an attribute came.
    late: bool,
}

impl AttributeSink for SpanAttributes<'_> {
    fn limits(&self) -> &AttributeLimits {
        &self.span.recorder().limits.attributes
    }

    fn set(&mut self, key: &str, value: &AnyValue<'_>) {
        let limits = &self.span.recorder().limits.attributes;
        self.late |= self.span.change(|record| record.attributes.set(limits, key, value)).is_none();
    }

    fn refuse(&mut self, py: Python<'_>, error: Option<PyErr>) {
        self.late |= self.span.change(|record| record.attributes.refuse(1)).is_none();
        if let Some(error) = error {
            self.span.recorder().complain(py, "attribute", "A span's attribute can't be kept", Some(error));
        }
    }
}

impl Span {
    /// A span that hasn't begun yet.
    pub fn make<'py>(
        tracer: &Bound<'py, Tracer>,
        ids: SpanIds,
        flags: u8,
        parent: Option<SpanContext>,
        trace_state: Option<Py<PyAny>>,
        record: Option<Box<Record>>,
        start: &Start<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let (parent_flags, parent_trace_state) = parent.map_or((0, None), |parent| (parent.flags, parent.trace_state));
        let span = Self {
            tracer: tracer.clone().unbind(),
            ids,
            flags,
            parent_flags,
            trace_state,
            parent_trace_state,
            record_exception: start.record_exception,
            set_status_on_exception: start.set_status_on_exception,
            recorded: record.is_some(),
            state: Mutex::new(State { record, ended: false, linked: Vec::new() }),
        };
        Bound::new(tracer.py(), PyClassInitializer::from(SpanBase).add_subclass(span))
    }

    /// What a span of its tracer's is read by.
    fn scope<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.tracer.get().scope.bind(py)
    }

    fn recorder(&self) -> &Recorder {
        self.tracer.get().recorder.get()
    }

    /// Changes the record of a span that is recorded and hasn't ended; returns None for any other.
    fn change<R>(&self, change: impl FnOnce(&mut Record) -> R) -> Option<R> {
        let mut state = lock(&self.state);
        if state.ended {
            return None;
        }
        state.record.as_deref_mut().map(change)
    }

    fn recording(&self) -> bool {
        let state = lock(&self.state);
        !state.ended && state.record.is_some()
    }

    /// Whether the span is recorded and goes on; says so where it is over.
    fn open(&self, py: Python<'_>, method: &str) -> bool {
        let state = lock(&self.state);
        if state.record.is_none() {
            return false;
        }
        if state.ended {
            drop(state);
            self.recorder().complain(py, "ended", &format!("{method}() on an ended span changes nothing"), None);
            return false;
        }
        true
    }

    /// Gives a span that begins what its start had besides the name: attributes and links; and tells who listens.
    pub fn begin<'py>(
        &self,
        slf: &Bound<'py, Self>,
        attributes: Option<&Bound<'py, PyAny>>,
        start: &Start<'_, 'py>,
    ) -> PyResult<()> {
        if let Some(state) = &self.trace_state {
            let state = self.header(state.bind(slf.py()));
            self.change(|record| record.trace_state = state);
        }
        if !start.name.is_instance_of::<PyString>() {
            self.rename(start.name)?;
        }
        if let Some(attributes) = attributes
            && attributes.is_truthy().unwrap_or(true)
        {
            convert::set_attributes(attributes, &mut SpanAttributes { span: self, late: false })?;
        }
        if let Some(links) = start.links.filter(|links| !links.is_none()) {
            self.link_all(links)?;
        }
        self.recorder().tell("on_start", slf, start.context.cloned());
        Ok(())
    }

    fn header(&self, state: &Bound<'_, PyAny>) -> String {
        match state.call_method0("to_header").and_then(|header| convert::name(&header)) {
            Ok(header) => convert::text(&header).into_owned(),
            Err(error) => {
                self.recorder().complain(state.py(), "tracestate", "A tracestate can't be written", Some(error));
                String::new()
            }
        }
    }

    fn link_all(&self, links: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(links) = links.cast_exact::<PyTuple>()
            && links.is_empty()
        {
            return Ok(());
        }
        let each = || -> PyResult<()> {
            for link in links.try_iter()? {
                let link = link?;
                self.guarded(links.py(), "link", || {
                    self.link(&link.getattr("context")?, Some(&link.getattr("attributes")?))
                })?;
            }
            Ok(())
        };
        if !links.is_truthy().unwrap_or(true) {
            return Ok(());
        }
        self.guarded(links.py(), "link", each)
    }

    /// Keeps errors of values' own code from the application.
    fn guarded(&self, py: Python<'_>, what: &str, act: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        match act() {
            Err(error) if convert::isolated(py, &error) => {
                self.recorder().complain(py, what, &format!("A span's {what} can't be kept whole"), Some(error));
                Ok(())
            }
            done => done,
        }
    }

    fn rename(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        self.guarded(name.py(), "name", || {
            let name = convert::name(name)?;
            let name = convert::text(&name);
            self.change(|record| {
                record.name.clear();
                record.name.push_str(&name);
            });
            Ok(())
        })
    }

    fn collected<'a>(
        &'a self,
        field: u8,
        limits: AttributeLimits,
        complain: &'a dyn Fn(Python<'_>, PyErr),
        attributes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Collected<'a>> {
        let mut collected = Collected::new(field, limits, complain);
        if let Some(attributes) = attributes.filter(|attributes| !attributes.is_none())
            && attributes.is_truthy().unwrap_or(true)
        {
            convert::set_attributes(attributes, &mut collected)?;
        }
        Ok(collected)
    }

    fn complain_of_attribute(&self, py: Python<'_>, error: PyErr) {
        self.recorder().complain(py, "attribute", "An attribute of an event or link can't be kept", Some(error));
    }

    fn link(&self, context: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = context.py();
        let limits = &self.recorder().limits;
        let Some(linked) = Api::get(py)?.read_span_context(context) else { return Ok(()) };
        let attributes = attributes.filter(|attributes| !attributes.is_none());
        let has_attributes = attributes.is_some_and(|attributes| attributes.is_truthy().unwrap_or(true));
        if !linked.is_valid() && !has_attributes && linked.trace_state.is_none() {
            return Ok(());
        }
        if self.change(|record| record.links.refuse_when_full(limits.links)) != Some(false) {
            return Ok(());
        }
        let complain = |py: Python<'_>, error| self.complain_of_attribute(py, error);
        let collected = self.collected(LINK_ATTRIBUTES, limits.link_attributes, &complain, attributes)?;
        let state = linked.trace_state.as_ref().map(|state| self.header(state.bind(py))).unwrap_or_default();
        let mut span = lock(&self.state);
        if !span.ended
            && let Some(record) = span.record.as_deref_mut()
        {
            record.add_link(linked.trace_id, linked.span_id, linked.is_remote, &state, &collected.attributes);
            span.linked.push(context.clone().unbind());
        }
        Ok(())
    }

    fn event(
        &self,
        name: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let limits = &self.recorder().limits;
        if self.change(|record| record.events.refuse_when_full(limits.events)) != Some(false) {
            return Ok(());
        }
        let time_ns = convert::time_ns(timestamp.filter(|time| !time.is_none()));
        let complain = |py: Python<'_>, error| self.complain_of_attribute(py, error);
        let collected = self.collected(EVENT_ATTRIBUTES, limits.event_attributes, &complain, attributes)?;
        let name = convert::name(name)?;
        let name = convert::text(&name);
        self.change(|record| record.add_event(&name, time_ns, &collected.attributes));
        Ok(())
    }

    fn record(
        &self,
        exception: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        escaped: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = exception.py();
        let name = PyString::intern(py, "exception").into_any();
        let class = exception.get_type();
        let type_name = || -> PyResult<String> {
            let module = class.getattr("__module__")?;
            let qualified = class.getattr("__qualname__")?;
            Ok(match module.extract::<String>() {
                Ok(module) if !module.is_empty() && module != "builtins" => format!("{module}.{qualified}"),
                _ => qualified.to_string(),
            })
        };
        let described = || -> PyResult<Bound<'_, PyDict>> {
            let lines = Api::get(py)?.format_exception.bind(py).call1((exception,))?;
            let stacktrace = PyString::new(py, "").call_method1("join", (lines,))?;
            let dict = PyDict::new(py);
            dict.set_item("exception.type", type_name()?)?;
            dict.set_item("exception.message", exception.str()?)?;
            dict.set_item("exception.stacktrace", stacktrace)?;
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
                self.recorder().complain(py, "exception", "An exception can't be recorded whole", Some(error));
                let dict = PyDict::new(py);
                dict.set_item("exception.type", type_name().unwrap_or_default())?;
                dict
            }
            Err(error) => return Err(error),
        };
        self.event(&name, Some(attributes.as_any()), timestamp)
    }

    /// Notes the exception that leaves the span's block.
    pub fn failed(&self, error: &Bound<'_, PyAny>, record: bool, set_status: bool) -> PyResult<()> {
        if !self.recording() {
            return Ok(());
        }
        if record {
            self.record(error, None, None, None)?;
        }
        if set_status {
            let name = error.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            let message = match error.str() {
                Ok(text) => format!("{name}: {}", convert::text(&text)),
                Err(raised) if convert::isolated(error.py(), &raised) => name,
                Err(raised) => return Err(raised),
            };
            self.change(|record| record.set_status(STATUS_ERROR, &message));
        }
        Ok(())
    }

    /// Ends the span and hands it to the queue.
    pub fn finish(slf: &Bound<'_, Self>, end_time: Option<&Bound<'_, PyAny>>) {
        let py = slf.py();
        let this = slf.get();
        let recorder = this.recorder();
        let end_ns = match end_time.filter(|time| !time.is_none()) {
            None => 0,
            time => convert::time_ns(time),
        };
        let pending = {
            let mut state = lock(&this.state);
            let already = std::mem::replace(&mut state.ended, true);
            match state.record.as_deref_mut() {
                None => return,
                Some(_) if already => None,
                Some(record) => {
                    record.end_ns = if end_ns == 0 { clock::now_ns() } else { end_ns };
                    let mut queue = lock(&recorder.queue);
                    if this.flags & 1 == 0 {
                        // Recorded for the listener's sake alone.
                        queue.sampled_out(1);
                        Some(0)
                    } else {
                        Some(queue.offer(this.tracer.get().scope_index, |out| record.write(&this.ids, out)))
                    }
                }
            }
        };
        match pending {
            None => recorder.complain(py, "ended", "end() on an ended span changes nothing", None),
            Some(0) => {}
            Some(pending) => recorder.added(py, pending),
        }
        if pending.is_some() {
            recorder.tell("on_ending", slf, None);
            recorder.tell("on_end", slf, None);
        }
    }

    /// The parts of the span's own context.
    pub fn context_parts(&self, py: Python<'_>) -> SpanContext {
        SpanContext {
            trace_id: self.ids.trace_id,
            span_id: self.ids.span_id,
            flags: self.flags,
            is_remote: false,
            trace_state: self.trace_state.as_ref().map(|state| state.clone_ref(py)),
        }
    }

    fn read<R>(&self, read: impl FnOnce(&Record) -> R) -> Option<R> {
        lock(&self.state).record.as_deref().map(read)
    }

    /// The bytes of some items, to be read without the lock.
    fn items(&self, of: impl FnOnce(&Record) -> &[u8]) -> Vec<u8> {
        self.read(|record| of(record).to_vec()).unwrap_or_default()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let record = self.state.get_mut().map(|state| state.record.take()).unwrap_or_default();
        if let Some(record) = record {
            self.recorder().return_record(record);
        }
    }
}

#[pymethods]
impl Span {
    fn set_attribute(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.recorded {
            return Ok(());
        }
        let mut sink = SpanAttributes { span: self, late: false };
        let done = convert::set_attribute(key, value, &mut sink);
        if sink.late {
            self.open(key.py(), "set_attribute");
        }
        done
    }

    fn set_attributes(&self, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.open(attributes.py(), "set_attributes") {
            return Ok(());
        }
        convert::set_attributes(attributes, &mut SpanAttributes { span: self, late: false })
    }

    #[pyo3(signature = (name, attributes=None, timestamp=None))]
    fn add_event(
        &self,
        name: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.open(name.py(), "add_event") {
            return Ok(());
        }
        self.guarded(name.py(), "event", || self.event(name, attributes, timestamp))
    }

    #[pyo3(signature = (context, attributes=None))]
    fn add_link(&self, context: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if !self.open(context.py(), "add_link") {
            return Ok(());
        }
        self.guarded(context.py(), "link", || self.link(context, attributes))
    }

    fn update_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.open(name.py(), "update_name") { self.rename(name) } else { Ok(()) }
    }

    #[pyo3(signature = (status, description=None))]
    fn set_status(&self, status: &Bound<'_, PyAny>, description: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = status.py();
        if !self.open(py, "set_status") {
            return Ok(());
        }
        self.guarded(py, "status", || {
            if let Some((code, description)) = Api::get(py)?.read_status(status, description)? {
                let description = description.and_then(|text| text.cast_into::<PyString>().ok());
                let message = description.as_ref().map(convert::text).unwrap_or_default();
                self.change(|record| record.set_status(code, &message));
            }
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
        if !self.open(py, "record_exception") {
            return Ok(());
        }
        self.guarded(py, "exception", || self.record(exception, attributes, timestamp, escaped))
    }

    #[pyo3(signature = (end_time=None))]
    fn end(slf: &Bound<'_, Self>, end_time: Option<&Bound<'_, PyAny>>) {
        Self::finish(slf, end_time);
    }

    fn is_recording(&self) -> bool {
        self.recording()
    }

    fn get_span_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Api::get(py)?.span_context(py, &self.context_parts(py))
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
        let noted = if exc_val.is_none() {
            Ok(())
        } else {
            this.failed(exc_val, this.record_exception, this.set_status_on_exception)
        };
        Self::finish(slf, None);
        noted
    }

    #[getter]
    fn name(&self) -> String {
        self.read(|record| record.name.clone()).unwrap_or_default()
    }

    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get_span_context(py)
    }

    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let kind = self.read(|record| record.kind).unwrap_or(1);
        Ok(Api::get(py)?.kind(py, kind))
    }

    #[getter]
    fn parent<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.ids.parent_span_id == 0 {
            return Ok(None);
        }
        let parent = SpanContext {
            trace_id: self.ids.trace_id,
            span_id: self.ids.parent_span_id,
            flags: self.parent_flags,
            is_remote: self.ids.parent_is_remote,
            trace_state: self.parent_trace_state.as_ref().map(|state| state.clone_ref(py)),
        };
        Api::get(py)?.span_context(py, &parent).map(Some)
    }

    #[getter]
    fn start_time(&self) -> Option<u64> {
        self.read(|record| record.start_ns)
    }

    #[getter]
    fn end_time(&self) -> Option<u64> {
        let state = lock(&self.state);
        state.record.as_ref().filter(|_| state.ended).map(|record| record.end_ns)
    }

    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.read(|record| {
            let (code, message) = record.status();
            (code, message.to_owned())
        });
        let (code, message) = status.unwrap_or_default();
        Api::get(py)?.status(py, code, &message)
    }

    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMappingProxy>> {
        let mut bytes = Vec::new();
        self.read(|record| record.attributes.write(&mut bytes));
        let attributes = read::key_values(py, &bytes, 9)?;
        Ok(PyMappingProxy::new(py, attributes.as_mapping()))
    }

    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.items(|record| record.events.bytes());
        let events = PyList::empty(py);
        for event in read::lens(&bytes, 11) {
            let attributes = read::key_values(py, event, 3)?;
            events.append((read::string(event, 2), attributes, read::number(event, 1), read::number(event, 4)))?;
        }
        self.scope(py).call_method1("events", (events,))
    }

    #[getter]
    fn links<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (bytes, linked) = {
            let state = lock(&self.state);
            let bytes = state.record.as_deref().map(|record| record.links.bytes().to_vec()).unwrap_or_default();
            (bytes, state.linked.iter().map(|context| context.clone_ref(py)).collect::<Vec<_>>())
        };
        let links = PyList::empty(py);
        for (link, context) in read::lens(&bytes, 13).zip(linked) {
            links.append((context, read::key_values(py, link, 4)?, read::number(link, 5)))?;
        }
        self.scope(py).call_method1("links", (links,))
    }

    #[getter]
    fn dropped_attributes(&self) -> u32 {
        self.read(|record| record.attributes.dropped()).unwrap_or_default()
    }

    #[getter]
    fn dropped_events(&self) -> u32 {
        self.read(|record| record.events.dropped()).unwrap_or_default()
    }

    #[getter]
    fn dropped_links(&self) -> u32 {
        self.read(|record| record.links.dropped()).unwrap_or_default()
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

    fn __repr__(&self) -> String {
        format!(
            "Span(name={:?}, trace_id=0x{:032x}, span_id=0x{:016x}, recording={})",
            self.name(),
            self.ids.trace_id,
            self.ids.span_id,
            self.recording()
        )
    }
}

/// Whether an exception that leaves a block is an error: what derives from BaseException alone is not.
pub fn is_error(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyException>()
}
