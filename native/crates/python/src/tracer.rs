//! The tracer: how a span starts.

use otelagent_core::span::{Record, SpanIds, SpanLimits};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::api::{Api, SpanContext};
use crate::call::{self, Described, Formats, Inbound, Incoming};
use crate::convert;
use crate::current::{CurrentSpan, MoreArguments, StartArguments};
use crate::ffi;
use crate::recorder::{Decider, Recorder};
use crate::span::Span;

/// Registered with the API's Tracer. Empty, because a class that is registered itself never gets into the ABC's cache.
#[pyclass(frozen, subclass, module = "otelagent_native")]
pub struct TracerBase;

/// Starts spans of one instrumentation scope.
#[pyclass(frozen, extends = TracerBase, module = "otelagent_native")]
pub struct Tracer {
    pub recorder: Py<Recorder>,
    pub scope_index: u32,
    /// What its spans are read by, see `Recorder.tracer` in the stubs.
    pub scope: Py<PyAny>,
}

const SAMPLED: u8 = 1;
const RANDOM_TRACE_ID: u8 = 2;

/// What a sampler answered.
struct Decision<'py> {
    records: bool,
    samples: bool,
    /// Instead of the caller's attributes and the parent's tracestate; only a Python sampler's.
    instead: Option<(Bound<'py, PyAny>, Option<Py<PyAny>>)>,
}

/// Arguments of `start_span`, borrowed.
pub struct Start<'a, 'py> {
    pub name: &'a Bound<'py, PyAny>,
    pub context: Option<&'a Bound<'py, PyAny>>,
    pub kind: Option<&'a Bound<'py, PyAny>>,
    pub attributes: Option<&'a Bound<'py, PyAny>>,
    pub links: Option<&'a Bound<'py, PyAny>>,
    pub start_time: Option<&'a Bound<'py, PyAny>>,
    pub record_exception: bool,
    pub set_status_on_exception: bool,
}

impl<'a, 'py> Start<'a, 'py> {
    /// A name and nothing else.
    pub fn of(name: &'a Bound<'py, PyAny>) -> Self {
        Self {
            name,
            context: None,
            kind: None,
            attributes: None,
            links: None,
            start_time: None,
            record_exception: true,
            set_status_on_exception: true,
        }
    }
}

/// Sets more of a record before anybody is told of its span.
pub type Fill<'a> = &'a dyn Fn(&mut Record, &SpanLimits);

impl Tracer {
    /// Starts a span. Returns an error only for what must come through.
    ///
    /// :param current: the current Context: the parent's, unless `start` has another.
    pub fn start<'py>(
        slf: &Bound<'py, Self>,
        start: &Start<'_, 'py>,
        current: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Span>> {
        let context = start.context.filter(|context| !context.is_none()).unwrap_or(current);
        let parent = parent(Api::get(slf.py())?, context)?;
        Self::start_under(slf, start, parent, None)
    }

    /// Starts a span under a parent that need not be in the Context.
    pub fn start_under<'py>(
        slf: &Bound<'py, Self>,
        start: &Start<'_, 'py>,
        parent: Option<SpanContext>,
        fill: Option<Fill<'_>>,
    ) -> PyResult<Bound<'py, Span>> {
        let py = slf.py();
        let api = Api::get(py)?;
        let recorder = slf.get().recorder.get();
        let (known_trace_id, mut flags) = match &parent {
            Some(parent) => (Some(parent.trace_id), parent.flags & RANDOM_TRACE_ID),
            None if recorder.has_id_generator() => recorder.given_root(py)?,
            None => (None, RANDOM_TRACE_ID),
        };
        let mut trace_state = parent.as_ref().and_then(|parent| Some(parent.trace_state.as_ref()?.clone_ref(py)));
        let mut attributes = start.attributes.filter(|attributes| !attributes.is_none()).cloned();
        let (trace_id, mut span_id, mut record) = match &recorder.decider {
            Decider::Standard { root, parent_based } => {
                let paused = recorder.is_paused();
                let decided = match &parent {
                    Some(parent) if *parent_based => Some(parent.flags & SAMPLED != 0),
                    _ => None,
                };
                let begun = recorder
                    .begin(py, known_trace_id, |trace_id| !paused && decided.unwrap_or_else(|| root.samples(trace_id)));
                if begun.2.is_some() {
                    flags |= SAMPLED;
                }
                begun
            }
            Decider::Python(sampler) => {
                // Ids first, without counting anything, because the sampler is told the trace's.
                let trace_id = known_trace_id.unwrap_or_else(|| recorder.new_trace_id(py));
                let decision = recorder.ask(sampler.bind(py), trace_id, start)?;
                if decision.samples {
                    flags |= SAMPLED;
                }
                if let Some((other_attributes, other_state)) = decision.instead {
                    (attributes, trace_state) = (Some(other_attributes), other_state);
                }
                recorder.begin(py, Some(trace_id), |_| decision.records)
            }
        };
        if recorder.has_id_generator() {
            span_id = recorder.given_id(py, "generate_span_id")?.unwrap_or(span_id);
        }
        let ids = SpanIds {
            trace_id,
            span_id,
            parent_span_id: parent.as_ref().map_or(0, |parent| parent.span_id),
            parent_is_remote: parent.as_ref().is_some_and(|parent| parent.is_remote),
        };
        let plain = record.is_none()
            || (recorder.is_plain()
                && trace_state.is_none()
                && attributes.is_none()
                && start.links.is_none()
                && start.name.is_instance_of::<PyString>());
        if let Some(record) = &mut record {
            record.kind = start.kind.map_or(1, |kind| api.kind_number(kind));
            if let Ok(name) = start.name.cast::<PyString>() {
                match ffi::text(name) {
                    Some(name) => record.name.push_str(name),
                    None => record.name.push_str(&recorder.text(name, "A span's name")?),
                }
            }
            record.start_ns = convert::time_ns(start.start_time, "A span's start", &recorder.complaints())?;
            if let Some(fill) = fill {
                fill(record, &recorder.limits);
            }
        }
        let span = Span::make(slf, ids, flags, parent, trace_state, record, start)?;
        if !plain {
            span.get().begin(&span, attributes.as_ref(), start)?;
        }
        Ok(span)
    }
}

impl Recorder {
    /// The trace id of a root and its flags, by the application's generator.
    fn given_root(&self, py: Python<'_>) -> PyResult<(Option<u128>, u8)> {
        let trace_id = self.given_id(py, "generate_trace_id")?;
        let random = trace_id.is_none() || self.given_ids_are_random(py)?;
        Ok((trace_id, if random { RANDOM_TRACE_ID } else { 0 }))
    }

    /// Asks a sampler; one that fails leaves the span out, as a pause does.
    fn ask<'py>(&self, sampler: &Bound<'py, PyAny>, trace_id: u128, start: &Start<'_, 'py>) -> PyResult<Decision<'py>> {
        let py = sampler.py();
        let left_out = Decision { records: false, samples: false, instead: None };
        if self.is_paused() {
            return Ok(left_out);
        }
        match ask(sampler, trace_id, start) {
            Err(error) if convert::isolated(py, &error) => {
                self.complain(py, "sampler", "The sampler failed; its span is not recorded", Some(error))?;
                Ok(left_out)
            }
            answer => answer,
        }
    }
}

/// Asks a sampler of the SDK's interface.
fn ask<'py>(sampler: &Bound<'py, PyAny>, trace_id: u128, start: &Start<'_, 'py>) -> PyResult<Decision<'py>> {
    let py = sampler.py();
    let kind = match start.kind {
        Some(kind) => kind.clone(),
        None => Api::get(py)?.kind(py, 1),
    };
    let links = match start.links {
        Some(links) if links.is_truthy()? => links.clone(),
        _ => PyTuple::empty(py).into_any(),
    };
    let result = sampler.call_method1(
        "should_sample",
        (start.context, trace_id, start.name, kind, start.attributes, links, py.None()),
    )?;
    // DROP, RECORD_ONLY, RECORD_AND_SAMPLE.
    let decision: u8 = result.getattr("decision")?.getattr("value")?.extract()?;
    let attributes = result.getattr("attributes")?;
    let trace_state = result.getattr("trace_state")?;
    let trace_state = (!trace_state.is_none() && trace_state.is_truthy()?).then(|| trace_state.unbind());
    Ok(Decision { records: decision > 0, samples: decision > 1, instead: Some((attributes, trace_state)) })
}

/// The valid span context in a Context; None for what is no Context.
pub fn parent(api: &Api, context: &Bound<'_, PyAny>) -> PyResult<Option<SpanContext>> {
    let py = context.py();
    let key = api.span_key.bind(py);
    let span = match context.cast::<PyDict>() {
        Ok(context) if context.is_empty() => return Ok(None),
        Ok(context) => context.get_item(key)?,
        Err(_) => isolated(py, context.call_method1("get", (key,)))?,
    };
    let Some(span) = span else { return Ok(None) };
    if let Ok(span) = span.cast_exact::<Span>() {
        return Ok(Some(span.get().context_parts(py)));
    }
    if span.is_none() || !isolated(py, span.is_instance(api.span_type.bind(py)))?.unwrap_or(false) {
        return Ok(None);
    }
    let Some(context) = isolated(py, span.call_method0("get_span_context"))? else { return Ok(None) };
    Ok(api.read_span_context(&context).filter(SpanContext::is_valid))
}

/// None for an error that is to be kept from the application.
fn isolated<T>(py: Python<'_>, answer: PyResult<T>) -> PyResult<Option<T>> {
    match answer {
        Err(error) if convert::isolated(py, &error) => Ok(None),
        answer => answer.map(Some),
    }
}

#[pymethods]
impl Tracer {
    #[pyo3(signature = (name, context=None, kind=None, attributes=None, links=None, start_time=None, record_exception=true, set_status_on_exception=true))]
    #[expect(clippy::too_many_arguments)]
    fn start_span<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        kind: Option<&Bound<'py, PyAny>>,
        attributes: Option<&Bound<'py, PyAny>>,
        links: Option<&Bound<'py, PyAny>>,
        start_time: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = convert::truthy)] record_exception: bool,
        #[pyo3(from_py_with = convert::truthy)] set_status_on_exception: bool,
    ) -> PyResult<Bound<'py, Span>> {
        let start =
            Start { name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception };
        Self::start(slf, &start, &Api::get(slf.py())?.context(slf.py())?)
    }

    #[pyo3(signature = (name, context=None, kind=None, attributes=None, links=None, start_time=None, record_exception=true, set_status_on_exception=true, end_on_exit=true))]
    #[expect(clippy::too_many_arguments)]
    fn start_as_current_span<'py>(
        slf: &Bound<'py, Self>,
        name: Py<PyAny>,
        context: Option<Py<PyAny>>,
        kind: Option<Py<PyAny>>,
        attributes: Option<Py<PyAny>>,
        links: Option<Py<PyAny>>,
        start_time: Option<Py<PyAny>>,
        #[pyo3(from_py_with = convert::truthy)] record_exception: bool,
        #[pyo3(from_py_with = convert::truthy)] set_status_on_exception: bool,
        #[pyo3(from_py_with = convert::truthy)] end_on_exit: bool,
    ) -> PyResult<Bound<'py, CurrentSpan>> {
        let more = Box::new(MoreArguments {
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
            end_on_exit,
        });
        CurrentSpan::make(slf, StartArguments { tracer: slf.clone().unbind(), name, more: Some(more) })
    }

    #[pyo3(signature = (name, kind, attributes, context, mark, links, start_time, inbound=None, getter=None, formats=None))]
    #[expect(clippy::too_many_arguments)]
    fn begin_call<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        kind: &Bound<'py, PyAny>,
        attributes: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
        mark: Option<&Bound<'py, PyTuple>>,
        links: Option<&Bound<'py, PyAny>>,
        start_time: Option<&Bound<'py, PyAny>>,
        inbound: Option<&Bound<'py, PyAny>>,
        getter: Option<&Bound<'py, PyAny>>,
        formats: Option<&Bound<'py, Formats>>,
    ) -> PyResult<Option<(Bound<'py, Span>, Bound<'py, PyDict>)>> {
        let inbound = inbound.zip(formats);
        let inbound = inbound.map(|(carrier, formats)| Inbound { carrier, getter, formats: formats.get() });
        call::begin(slf, &Described { name, kind, attributes, context, mark, links, start_time, inbound })
    }

    #[expect(clippy::too_many_arguments)]
    fn begin_request<'py>(
        slf: &Bound<'py, Self>,
        layout: &Bound<'py, PyString>,
        carrier: &Bound<'py, PyAny>,
        method: &Bound<'py, PyString>,
        path: &Bound<'py, PyString>,
        context: &Bound<'py, PyAny>,
        mark: Option<&Bound<'py, PyTuple>>,
        formats: &Bound<'py, Formats>,
    ) -> PyResult<Option<(Bound<'py, Span>, Bound<'py, PyDict>)>> {
        call::begin_request(slf, &Incoming { layout, carrier, method, path, context, mark, formats: formats.get() })
    }

    #[getter]
    fn instrumentation_scope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.scope.bind(py).getattr("instrumentation_scope")
    }

    #[getter]
    fn instrumentation_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.scope.bind(py).getattr("instrumentation_info")
    }

    #[getter]
    fn resource<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.scope.bind(py).getattr("resource")
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.recorder)?;
        visit.call(&self.scope)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let scope = self.scope.bind(py).repr().map(|text| text.to_string()).unwrap_or_default();
        format!("<otelagent_native.Tracer of {}>", PyString::new(py, &scope))
    }
}

ffi::method!(StartSpan, Tracer, c"start_span", |slf, arguments| {
    let [name] = arguments.all()?;
    slf.get().recorder.get().is_plain().then(|| {
        let current = Api::get(slf.py())?.context(slf.py())?;
        Tracer::start(&slf, &Start::of(&name), &current).map(Bound::into_any)
    })
});

ffi::method!(StartAsCurrentSpan, Tracer, c"start_as_current_span", |slf, arguments| {
    let [name] = arguments.all()?;
    let start = StartArguments { tracer: slf.to_owned().unbind(), name: name.to_owned().unbind(), more: None };
    Some(CurrentSpan::make(&slf, start).map(Bound::into_any))
});

/// Puts the quick methods in the place of the others.
pub fn install(py: Python<'_>) -> PyResult<()> {
    ffi::install::<StartSpan>(py)?;
    ffi::install::<StartAsCurrentSpan>(py)
}
