//! A described call whole: its parent read from the caller's headers, its span, and the context it runs in.
//!
//! The general way asks every propagator, each of which asks a getter, and puts their answers into contexts and span
//! contexts. For the formats that are known here nothing of Python's is made of headers but what the span keeps.

use otelagent_core::b3;
use otelagent_core::span::{Record, SpanLimits};
use otelagent_core::trace_context::{self, Parent};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::api::{Api, SpanContext};
use crate::ffi;
use crate::recorder::Decider;
use crate::request::{self, Request};
use crate::span::Span;
use crate::tracer::{self, Start, Tracer};

/// As `BoundedGetter` of `otelagent.record.propagation` has them: what goes beyond is as if it weren't there.
const MAX_VALUES: usize = 64;
const MAX_BYTES: usize = 8192;

/// `SpanKind` of the wire.
const SERVER: u8 = 2;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    TraceContext,
    Baggage,
    B3,
    B3Multi,
}

/// The formats of the global propagator, where all of them can be read and written without it.
///
/// Baggage can't, so a request that has some takes the general way.
#[pyclass(frozen, module = "otelagent_native")]
pub struct Formats {
    formats: Vec<Format>,
    make_trace_state: Py<PyAny>,
    baggage_key: Py<PyAny>,
}

/// Headers by their names, and the names by which a WSGI environ has them.
const NAMES: [(&str, &str); 8] = [
    ("traceparent", "HTTP_TRACEPARENT"),
    ("tracestate", "HTTP_TRACESTATE"),
    ("baggage", "HTTP_BAGGAGE"),
    ("b3", "HTTP_B3"),
    ("x-b3-traceid", "HTTP_X_B3_TRACEID"),
    ("x-b3-spanid", "HTTP_X_B3_SPANID"),
    ("x-b3-sampled", "HTTP_X_B3_SAMPLED"),
    ("x-b3-flags", "HTTP_X_B3_FLAGS"),
];
const TRACEPARENT: usize = 0;
const TRACESTATE: usize = 1;
const BAGGAGE: usize = 2;
const B3: usize = 3;

/// The values of each header, in order.
struct Headers<'py>([Vec<Bound<'py, PyAny>>; NAMES.len()]);

/// The bytes of a value; None for one that is too long, and such as no format takes where text has none.
fn bytes<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Some(bytes.as_bytes()).filter(|bytes| bytes.len() <= MAX_BYTES);
    }
    let text = value.cast::<PyString>().ok()?;
    (text.len().ok()? <= MAX_BYTES).then(|| text.to_str().map_or(&b"\xff"[..], str::as_bytes))
}

impl<'py> Headers<'py> {
    /// ASGI's list of pairs of bytes. None for anything else, and for what the specification doesn't have in it.
    fn of_pairs(pairs: &Bound<'py, PyAny>) -> Option<Self> {
        let mut headers = Self(Default::default());
        for pair in pairs.cast_exact::<PyList>().ok()? {
            let pair = pair.cast_exact::<PyTuple>().ok()?;
            if pair.len() != 2 {
                return None;
            }
            let name = pair.get_borrowed_item(0).ok()?;
            let name = name.cast_exact::<PyBytes>().ok()?;
            let known = |(known, _): &(&str, &str)| known.as_bytes().eq_ignore_ascii_case(name.as_bytes());
            if let Some(at) = NAMES.iter().position(known) {
                let value = pair.get_item(1).ok()?;
                if !value.is_exact_instance_of::<PyBytes>() {
                    return None;
                }
                // One more than there may be tells that there are too many.
                if headers.0[at].len() <= MAX_VALUES {
                    headers.0[at].push(value);
                }
            }
        }
        Some(headers)
    }

    /// A mapping with one value of a name: a WSGI environ, or headers by their lower-case names.
    fn of_mapping(mapping: &Bound<'py, PyAny>, environ: bool) -> Option<Self> {
        let py = mapping.py();
        let mapping = mapping.cast_exact::<PyDict>().ok()?;
        let mut headers = Self(Default::default());
        for ((header, name), values) in NAMES.iter().zip(&mut headers.0) {
            let key = PyString::intern(py, if environ { name } else { header });
            if let Some(value) = mapping.get_item(key).ok()? {
                if !value.is_exact_instance_of::<PyString>() {
                    return None;
                }
                values.push(value);
            }
        }
        Some(headers)
    }

    fn of_request(carrier: &Bound<'py, PyAny>, headers: &request::Headers<'py>) -> Option<Self> {
        match headers {
            request::Headers::Scope(pairs) => Self::of_pairs(pairs),
            request::Headers::Environ => Self::of_mapping(carrier, true),
        }
    }

    /// Headers whose getter says how they lie; without one they are a mapping.
    fn of(carrier: &Bound<'py, PyAny>, getter: Option<&Bound<'py, PyAny>>) -> Option<Self> {
        let Some(getter) = getter else { return Self::of_mapping(carrier, false) };
        let layout = getter.getattr_opt(intern!(carrier.py(), "layout")).ok()??;
        match layout.cast::<PyString>().ok()?.to_str().ok()? {
            "asgi" => Self::of_pairs(carrier),
            "wsgi" => Self::of_mapping(carrier, true),
            _ => None,
        }
    }

    /// The only value of a header; empty where it is absent or there are several and no telling which is right.
    fn one(&self, at: usize) -> &[u8] {
        match &self.0[at][..] {
            [value] => bytes(value).unwrap_or_default(),
            _ => b"",
        }
    }

    /// All values of a header, none where there are too many or one is too long.
    fn all(&self, at: usize) -> Vec<&[u8]> {
        let values = &self.0[at];
        if values.len() > MAX_VALUES { None } else { values.iter().map(bytes).collect() }.unwrap_or_default()
    }
}

impl Formats {
    /// What the headers say of the caller's span. Outer None: that takes the propagators themselves to find out.
    fn parent(&self, py: Python<'_>, headers: Option<Headers<'_>>) -> PyResult<Option<Option<SpanContext>>> {
        let Some(headers) = headers else { return Ok(None) };
        let (mut parent, mut states): (Option<Parent>, Vec<&[u8]>) = (None, Vec::new());
        for format in &self.formats {
            let found = match format {
                Format::Baggage if headers.0[BAGGAGE].is_empty() => None,
                Format::Baggage => return Ok(None),
                Format::TraceContext => trace_context::parse_parent(headers.one(TRACEPARENT)),
                Format::B3 | Format::B3Multi => match headers.one(B3) {
                    b"" => {
                        let [trace_id, span_id, sampled, flags] = [1, 2, 3, 4].map(|more| headers.one(B3 + more));
                        b3::parse_multi(trace_id, span_id, sampled, flags)
                    }
                    single => b3::parse_single(single),
                },
            };
            if let Some(found) = found {
                parent = Some(found);
                states = if *format == Format::TraceContext { headers.all(TRACESTATE) } else { Vec::new() };
            }
        }
        let Some(parent) = parent else { return Ok(Some(None)) };
        let members = trace_context::parse_state(&states);
        let trace_state = if members.is_empty() {
            None
        } else {
            let dict = PyDict::new(py);
            for (key, value) in members {
                dict.set_item(key, value)?;
            }
            Some(self.make_trace_state.call1(py, (dict,))?)
        };
        Ok(Some(Some(SpanContext {
            trace_id: parent.trace_id,
            span_id: parent.span_id,
            flags: parent.flags,
            is_remote: true,
            trace_state,
        })))
    }
}

fn set(
    carrier: &Bound<'_, PyAny>,
    setter: Option<&Bound<'_, PyAny>>,
    key: &Bound<'_, PyString>,
    value: &[u8],
) -> PyResult<()> {
    let value = str::from_utf8(value).unwrap_or_default();
    match setter {
        None => carrier.set_item(key, value),
        Some(setter) => setter.call_method1(intern!(carrier.py(), "set"), (carrier, key, value)).map(|_| ()),
    }
}

#[pymethods]
impl Formats {
    #[new]
    fn new(py: Python<'_>, names: Vec<String>, make_trace_state: Py<PyAny>) -> PyResult<Self> {
        let formats = names.iter().map(|name| match name.as_str() {
            "tracecontext" => Ok(Format::TraceContext),
            "baggage" => Ok(Format::Baggage),
            "b3" => Ok(Format::B3),
            "b3multi" => Ok(Format::B3Multi),
            other => Err(PyValueError::new_err(format!("{other:?} takes its propagator"))),
        });
        Ok(Self {
            formats: formats.collect::<PyResult<_>>()?,
            make_trace_state,
            baggage_key: py.import("opentelemetry.baggage")?.getattr("_BAGGAGE_KEY")?.unbind(),
        })
    }

    #[pyo3(signature = (carrier, context, setter=None))]
    fn inject<'py>(
        &self,
        carrier: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        setter: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        let py = carrier.py();
        let api = Api::get(py)?;
        let current;
        let context = match context {
            Some(context) => context,
            None => {
                current = api.context(py)?;
                &current
            }
        };
        let Ok(context) = context.cast::<PyDict>() else { return Ok(false) };
        let Some(span) = context.get_item(api.span_key.bind(py))? else { return Ok(false) };
        let Ok(span) = span.cast_exact::<Span>() else { return Ok(false) };
        if self.formats.contains(&Format::Baggage) && context.contains(self.baggage_key.bind(py))? {
            return Ok(false);
        }
        let span = span.get().context_parts(py);
        let parent = Parent { trace_id: span.trace_id, span_id: span.span_id, flags: span.flags };
        let single = b3::format_single(&parent);
        for format in &self.formats {
            match format {
                Format::Baggage => {}
                Format::TraceContext => {
                    let header = trace_context::format_parent(&parent);
                    set(carrier, setter, intern!(py, "traceparent"), &header)?;
                    if let Some(state) = &span.trace_state {
                        let header = state.bind(py).call_method0(intern!(py, "to_header"))?.cast_into::<PyString>()?;
                        set(carrier, setter, intern!(py, "tracestate"), header.to_str()?.as_bytes())?;
                    }
                }
                Format::B3 => set(carrier, setter, intern!(py, "b3"), &single)?,
                Format::B3Multi => {
                    set(carrier, setter, intern!(py, "x-b3-traceid"), &single[..32])?;
                    set(carrier, setter, intern!(py, "x-b3-spanid"), &single[33..49])?;
                    set(carrier, setter, intern!(py, "x-b3-sampled"), &single[50..])?;
                }
            }
        }
        Ok(true)
    }
}

/// What `begin_call` is told, borrowed.
pub struct Described<'a, 'py> {
    pub name: &'a Bound<'py, PyAny>,
    pub kind: &'a Bound<'py, PyAny>,
    pub attributes: &'a Bound<'py, PyAny>,
    pub context: &'a Bound<'py, PyAny>,
    pub mark: Option<&'a Bound<'py, PyTuple>>,
    pub links: Option<&'a Bound<'py, PyAny>>,
    pub start_time: Option<&'a Bound<'py, PyAny>>,
    pub inbound: Option<Inbound<'a, 'py>>,
}

/// The caller's headers, and how to read them.
pub struct Inbound<'a, 'py> {
    pub carrier: &'a Bound<'py, PyAny>,
    pub getter: Option<&'a Bound<'py, PyAny>>,
    pub formats: &'a Formats,
}

/// Starts the span of a described call and makes the context that it runs in. None: ask the propagators for the parent.
pub fn begin<'py>(
    tracer: &Bound<'py, Tracer>,
    call: &Described<'_, 'py>,
) -> PyResult<Option<(Bound<'py, Span>, Bound<'py, PyDict>)>> {
    let py = tracer.py();
    let api = Api::get(py)?;
    let mut start = Start {
        name: call.name,
        context: Some(call.context),
        kind: Some(call.kind),
        attributes: Some(call.attributes),
        links: call.links,
        start_time: call.start_time,
        record_exception: true,
        set_status_on_exception: true,
    };
    let told;
    let parent = match &call.inbound {
        None => tracer::parent(api, call.context)?,
        Some(Inbound { carrier, getter, formats }) => {
            let Some(parent) = formats.parent(py, Headers::of(carrier, *getter))? else { return Ok(None) };
            told = context_told(tracer, api, call.context, parent.as_ref())?;
            start.context = told.as_ref().or(start.context);
            parent
        }
    };
    let span = Tracer::start_under(tracer, &start, parent, None)?;
    let context = context_of(api, call.context, &span, call.mark)?;
    Ok(Some((span, context)))
}

/// The context that samplers and listeners are told of, where there are any: it holds the parent.
fn context_told<'py>(
    tracer: &Bound<'py, Tracer>,
    api: &Api,
    context: &Bound<'py, PyAny>,
    parent: Option<&SpanContext>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match parent {
        Some(parent) if !tracer.get().recorder.get().is_plain() => api.context_with_parent(context, parent).map(Some),
        _ => Ok(None),
    }
}

/// A new context over another: with a span, and a mark.
fn context_of<'py>(
    api: &Api,
    around: &Bound<'py, PyAny>,
    span: &Bound<'py, Span>,
    mark: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = span.py();
    let context = ffi::new_dict_subclass(api.context_type.bind(py))?;
    if let Ok(around) = around.cast::<PyDict>()
        && !around.is_empty()
    {
        context.update(around.as_mapping())?;
    }
    context.set_item(api.span_key.bind(py), span)?;
    if let Some(mark) = mark {
        context.set_item(mark.get_item(0)?, mark.get_item(1)?)?;
    }
    Ok(context)
}

/// What `begin_request` is told, borrowed.
pub struct Incoming<'a, 'py> {
    pub layout: &'a Bound<'py, PyString>,
    pub carrier: &'a Bound<'py, PyAny>,
    pub method: &'a Bound<'py, PyString>,
    pub path: &'a Bound<'py, PyString>,
    pub context: &'a Bound<'py, PyAny>,
    pub mark: Option<&'a Bound<'py, PyTuple>>,
    pub formats: &'a Formats,
}

/// As `begin`, for an incoming HTTP request. None: describe it in Python.
pub fn begin_request<'py>(
    tracer: &Bound<'py, Tracer>,
    call: &Incoming<'_, 'py>,
) -> PyResult<Option<(Bound<'py, Span>, Bound<'py, PyDict>)>> {
    let py = tracer.py();
    let api = Api::get(py)?;
    if matches!(tracer.get().recorder.get().decider, Decider::Python(_)) {
        return Ok(None); // it may ask for the attributes
    }
    let Some(request) = Request::read(call.layout, call.carrier) else { return Ok(None) };
    let begun = request.attributes(call.method, call.path, |attributes| {
        let headers = Headers::of_request(call.carrier, &request.headers);
        let Some(parent) = call.formats.parent(py, headers)? else { return Ok(None) };
        let told = context_told(tracer, api, call.context, parent.as_ref())?;
        let start = Start {
            name: call.method,
            context: Some(told.as_ref().unwrap_or(call.context)),
            kind: None,
            attributes: None,
            links: None,
            start_time: None,
            record_exception: true,
            set_status_on_exception: true,
        };
        let fill = |record: &mut Record, limits: &SpanLimits| {
            record.kind = SERVER;
            attributes(&mut record.attributes, &limits.attributes);
        };
        let span = Tracer::start_under(tracer, &start, parent, Some(&fill))?;
        let context = context_of(api, call.context, &span, call.mark)?;
        Ok(Some((span, context)))
    });
    begun.unwrap_or(Ok(None))
}
