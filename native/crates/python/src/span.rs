//! The span: how it begins, changes and ends. What Python calls is in `span_methods`.

use otelagent_core::attributes::AttributeLimits;
use otelagent_core::clock;
use otelagent_core::span::{EVENT_ATTRIBUTES, EndedSpan, LINK_ATTRIBUTES, Record, SpanIds};
use otelagent_core::wire::AnyValue;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::api::{Api, SpanContext};
use crate::convert::{self, AttributeSink, Collected, Complain};
use crate::ffi::GilCell;
use crate::recorder::{News, Recorder};
use crate::tracer::{Start, Tracer};
use crate::values;

/// Registered with the API's Span. Empty, because a class that is registered itself never gets into the ABC's cache.
#[pyclass(frozen, subclass, module = "otelagent_native")]
pub struct SpanBase;

pub struct State {
    /// None: not recorded. Kept after the end, so that the span can still be read.
    pub record: Option<Box<Record>>,
    pub ended: bool,
    /// What the API calls this span by, once somebody has asked.
    context: Option<Py<PyAny>>,
    /// The contexts of its links as they were given: the wire doesn't have all of them.
    pub linked: Vec<Py<PyAny>>,
}

/// A span of the OpenTelemetry API.
#[pyclass(frozen, extends = SpanBase, weakref, module = "otelagent_native")]
pub struct Span {
    pub tracer: Py<Tracer>,
    pub ids: SpanIds,
    flags: u8,
    parent_flags: u8,
    trace_state: Option<Py<PyAny>>,
    parent_trace_state: Option<Py<PyAny>>,
    pub record_exception: bool,
    pub set_status_on_exception: bool,
    /// Whether there ever was a record: known without a look at the state.
    pub recorded: bool,
    pub state: GilCell<State>,
}

/// A span as the place where attributes go.
pub struct SpanAttributes<'a, 'py> {
    pub py: Python<'py>,
    pub span: &'a Span,
    /// Whether the span had ended when an attribute came.
    pub late: bool,
}

impl AttributeSink for SpanAttributes<'_, '_> {
    fn limits(&self) -> &AttributeLimits {
        &self.span.recorder().limits.attributes
    }

    fn refuses(&self, key: &str) -> bool {
        let limits = &self.span.recorder().limits.attributes;
        self.span.change(self.py, |record| record.attributes.refuses(limits, key)).unwrap_or(false)
    }

    fn set(&mut self, key: &str, value: &AnyValue<'_>, whole: bool) {
        let limits = &self.span.recorder().limits.attributes;
        let set = self.span.change(self.py, |record| {
            record.attributes.set(limits, key, value);
            if !whole {
                record.attributes.refuse(1);
            }
        });
        self.late |= set.is_none();
    }

    fn refuse(&mut self, count: u32) {
        self.late |= self.span.change(self.py, |record| record.attributes.refuse(count)).is_none();
    }

    fn complain(&self, py: Python<'_>, topic: &str, message: &str, error: Option<PyErr>) -> PyResult<()> {
        self.span.recorder().complain(py, topic, message, error)
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
            state: GilCell::new(State { record, ended: false, context: None, linked: Vec::new() }),
        };
        Bound::new(tracer.py(), PyClassInitializer::from(SpanBase).add_subclass(span))
    }

    /// What a span of its tracer's is read by.
    pub fn scope<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.tracer.get().scope.bind(py)
    }

    #[inline]
    pub fn recorder(&self) -> &Recorder {
        self.tracer.get().recorder.get()
    }

    /// Changes the record of a span that is recorded and hasn't ended; returns None for any other.
    #[inline]
    pub fn change<R>(&self, py: Python<'_>, change: impl FnOnce(&mut Record) -> R) -> Option<R> {
        self.state.with(py, |state| match state {
            State { ended: false, record: Some(record), .. } => Some(change(record)),
            _ => None,
        })
    }

    #[inline]
    pub fn recording(&self, py: Python<'_>) -> bool {
        self.recorded && self.state.with(py, |state| !state.ended)
    }

    /// Whether the span is recorded and goes on; says so where it is over.
    pub fn open(&self, py: Python<'_>, method: &str) -> PyResult<bool> {
        let open = self.recording(py);
        if self.recorded && !open {
            self.recorder().complain(py, "ended", &format!("{method}() on an ended span changes nothing"), None)?;
        }
        Ok(open)
    }

    /// Gives a span that begins what its start had besides the name: attributes and links; and tells who listens.
    pub fn begin<'py>(
        &self,
        slf: &Bound<'py, Self>,
        attributes: Option<&Bound<'py, PyAny>>,
        start: &Start<'_, 'py>,
    ) -> PyResult<()> {
        if let Some(state) = &self.trace_state {
            let state = self.header(state.bind(slf.py()))?;
            self.change(slf.py(), |record| record.trace_state = state);
        }
        if !start.name.is_instance_of::<PyString>() {
            self.rename(start.name)?;
        }
        if let Some(attributes) = attributes
            && convert::truthy(attributes)?
        {
            convert::set_attributes(attributes, &mut SpanAttributes { py: slf.py(), span: self, late: false })?;
        }
        if let Some(links) = start.links.filter(|links| !links.is_none()) {
            self.link_all(links)?;
        }
        self.recorder().tell("on_start", slf, start.context.cloned())
    }

    fn header(&self, state: &Bound<'_, PyAny>) -> PyResult<String> {
        match state.call_method0("to_header") {
            Ok(header) => self.recorder().text(&header, "A tracestate"),
            Err(error) if convert::isolated(state.py(), &error) => {
                self.recorder().complain(state.py(), "tracestate", "A tracestate can't be written", Some(error))?;
                Ok(String::new())
            }
            Err(error) => Err(error),
        }
    }

    fn link_all(&self, links: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(links) = links.cast_exact::<PyTuple>()
            && links.is_empty()
        {
            return Ok(());
        }
        let py = links.py();
        let each = || -> PyResult<()> {
            for link in links.try_iter()? {
                let link = link?;
                self.guarded_link(py, || self.link(&link.getattr("context")?, Some(&link.getattr("attributes")?)))?;
            }
            Ok(())
        };
        if !convert::truthy(links)? {
            return Ok(());
        }
        self.guarded_link(py, each)
    }

    /// Keeps errors of values' own code from the application.
    pub fn guarded(&self, py: Python<'_>, what: &str, act: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        match act() {
            Err(error) if convert::isolated(py, &error) => {
                self.recorder().complain(py, what, &format!("A span's {what} can't be kept whole"), Some(error))
            }
            done => done,
        }
    }

    /// As `guarded`, and counts a link that can't be kept.
    pub fn guarded_link(&self, py: Python<'_>, act: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        self.guarded(py, "link", || {
            act().inspect_err(|_| {
                self.change(py, |record| record.links.refuse());
            })
        })
    }

    pub fn rename(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = name.py();
        let name = self.recorder().text(name, "A span's name")?;
        self.change(py, |record| {
            record.name.clear();
            record.name.push_str(&name);
        });
        Ok(())
    }

    fn collected<'a>(
        &'a self,
        field: u8,
        limits: AttributeLimits,
        complain: &'a Complain<'a>,
        attributes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Collected<'a>> {
        let mut collected = Collected::new(field, limits, complain);
        if let Some(attributes) = attributes.filter(|attributes| !attributes.is_none())
            && convert::truthy(attributes)?
        {
            convert::set_attributes(attributes, &mut collected)?;
        }
        Ok(collected)
    }

    pub fn link(&self, context: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = context.py();
        let limits = &self.recorder().limits;
        let Some(linked) = Api::get(py)?.read_span_context(context) else {
            self.change(py, |record| record.links.refuse());
            let class = values::type_name(&context.get_type());
            let message = format!("A link ({class}) to what is no span context is left out");
            return self.recorder().complain(py, "link", &message, None);
        };
        let attributes = attributes.filter(|attributes| !attributes.is_none());
        let has_attributes = attributes.map_or(Ok(false), convert::truthy)?;
        if !linked.is_valid() && !has_attributes && linked.trace_state.is_none() {
            return Ok(());
        }
        if self.change(py, |record| record.links.refuse_when_full(limits.links)) != Some(false) {
            return Ok(());
        }
        let complain = self.recorder().complaints();
        let collected = self.collected(LINK_ATTRIBUTES, limits.link_attributes, &complain, attributes)?;
        let header = linked.trace_state.as_ref().map_or(Ok(String::new()), |state| self.header(state.bind(py)))?;
        let given = context.clone().unbind();
        self.state.with(py, |state| {
            if let State { ended: false, record: Some(record), linked: contexts, .. } = state {
                record.add_link(linked.trace_id, linked.span_id, linked.is_remote, &header, &collected.attributes);
                contexts.push(given);
            }
        });
        Ok(())
    }

    pub fn event(
        &self,
        name: &Bound<'_, PyAny>,
        attributes: &[&Bound<'_, PyAny>],
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = name.py();
        let limits = &self.recorder().limits;
        if self.change(py, |record| record.events.refuse_when_full(limits.events)) != Some(false) {
            return Ok(());
        }
        let complain = self.recorder().complaints();
        let time_ns = convert::time_ns(timestamp, "An event's time", &complain)?;
        let mut collected = Collected::new(EVENT_ATTRIBUTES, limits.event_attributes, &complain);
        for attributes in attributes {
            if !attributes.is_none() && convert::truthy(attributes)? {
                convert::set_attributes(attributes, &mut collected)?;
            }
        }
        let name = convert::text(name, "An event's name", &complain)?;
        self.change(py, |record| record.add_event(&name, time_ns, &collected.attributes));
        Ok(())
    }

    /// Ends the span and hands it to the queue.
    pub fn finish(slf: &Bound<'_, Self>, end_time: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.recorded {
            return Ok(());
        }
        let recorder = this.recorder();
        let end_ns = match end_time.filter(|time| !time.is_none()) {
            None => clock::now_ns(),
            time => given_end_ns(recorder, time)?,
        };
        let mut early = false;
        let news = this.state.with(py, |state| {
            let record = state.record.as_deref_mut()?;
            if std::mem::replace(&mut state.ended, true) {
                return None;
            }
            early = end_ns < record.start_ns;
            record.end_ns = end_ns.max(record.start_ns);
            if this.flags & 1 == 0 {
                recorder.left_out(py);
                return Some(News::None);
            }
            Some(recorder.offer(py, this.tracer.get().scope_index, &EndedSpan { ids: &this.ids, record }))
        });
        if early {
            complain_of_end(py, recorder)?;
        }
        let told = match news {
            None => return recorder.complain(py, "ended", "end() on an ended span changes nothing", None),
            Some(news) => recorder.added(py, news),
        };
        if !recorder.has_listener() {
            return told;
        }
        // An interrupt of one doesn't keep the span from the others.
        let ending = recorder.tell("on_ending", slf, None);
        let ended = recorder.tell("on_end", slf, None);
        told.and(ending).and(ended)
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

    /// The parts of the parent's context.
    pub fn parent_parts(&self, py: Python<'_>) -> Option<SpanContext> {
        (self.ids.parent_span_id != 0).then(|| SpanContext {
            trace_id: self.ids.trace_id,
            span_id: self.ids.parent_span_id,
            flags: self.parent_flags,
            is_remote: self.ids.parent_is_remote,
            trace_state: self.parent_trace_state.as_ref().map(|state| state.clone_ref(py)),
        })
    }

    /// The span's own context, made when it is first asked for.
    pub fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let known = self.state.with(py, |state| state.context.as_ref().map(|context| context.bind(py).clone()));
        if let Some(context) = known {
            return Ok(context);
        }
        let context = Api::get(py)?.span_context(py, &self.context_parts(py))?;
        let made = context.clone().unbind();
        let _none = self.state.with(py, |state| state.context.replace(made));
        Ok(context)
    }
}

#[cold]
fn given_end_ns(recorder: &Recorder, time: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    convert::time_ns(time, "A span's end", &recorder.complaints())
}

#[cold]
fn complain_of_end(py: Python<'_>, recorder: &Recorder) -> PyResult<()> {
    recorder.complain(py, "end", "A span ends before it starts: it ends with its start", None)
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(record) = self.state.get_mut().record.take() {
            Python::attach(|py| self.recorder().return_record(py, record));
        }
    }
}
