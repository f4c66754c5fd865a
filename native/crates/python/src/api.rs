//! The objects of the OpenTelemetry API that recording works with, looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyNone, PyString, PyTuple, PyType};

use crate::ffi;

/// Names of the API, private ones among them; a missing one fails the making of the first recorder.
pub struct Api {
    /// The context variable of the API's own runtime context.
    pub current_context: Py<PyAny>,
    pub context_type: Py<PyType>,
    non_recording_span: Py<PyAny>,
    /// Key of the current span in a Context.
    pub span_key: Py<PyString>,
    pub span_type: Py<PyAny>,
    pub span_context_type: Py<PyType>,
    tuple_new: Py<PyAny>,
    trace_flags: [Py<PyAny>; 4],
    trace_flags_type: Py<PyAny>,
    pub empty_trace_state: Py<PyAny>,
    /// In the order of the wire, from 1.
    kinds: [Py<PyAny>; 5],
    pub status_type: Py<PyAny>,
    status_codes: [Py<PyAny>; 3],
    pub sequence_type: Py<PyAny>,
    pub set_type: Py<PyAny>,
    pub mapping_type: Py<PyAny>,
    pub format_exception: Py<PyAny>,
}

static API: PyOnceLock<Api> = PyOnceLock::new();

impl Api {
    /// The looked-up objects.
    pub fn get(py: Python<'_>) -> PyResult<&'static Self> {
        API.get_or_try_init(py, || Self::look_up(py))
    }

    fn look_up(py: Python<'_>) -> PyResult<Self> {
        let context = py.import("opentelemetry.context")?;
        let trace = py.import("opentelemetry.trace")?;
        let abc = py.import("collections.abc")?;
        let runtime = context.getattr("_RUNTIME_CONTEXT")?;
        let flags_type = trace.getattr("TraceFlags")?;
        let flags = |bits: u8| flags_type.call1((bits,)).map(Bound::unbind);
        let kinds = trace.getattr("SpanKind")?;
        let kind = |name: &str| kinds.getattr(name).map(Bound::unbind);
        let codes = trace.getattr("StatusCode")?;
        let code = |name: &str| codes.getattr(name).map(Bound::unbind);
        Ok(Self {
            current_context: runtime.getattr("_current_context")?.unbind(),
            context_type: context.getattr("Context")?.cast_into::<PyType>()?.unbind(),
            non_recording_span: trace.getattr("NonRecordingSpan")?.unbind(),
            span_key: py.import("opentelemetry.trace.propagation")?.getattr("_SPAN_KEY")?.cast_into()?.unbind(),
            span_type: trace.getattr("Span")?.unbind(),
            span_context_type: trace.getattr("SpanContext")?.cast_into::<PyType>()?.unbind(),
            tuple_new: py.get_type::<PyTuple>().getattr("__new__")?.unbind(),
            trace_flags: [flags(0)?, flags(1)?, flags(2)?, flags(3)?],
            trace_flags_type: flags_type.unbind(),
            empty_trace_state: trace.getattr("DEFAULT_TRACE_STATE")?.unbind(),
            kinds: [kind("INTERNAL")?, kind("SERVER")?, kind("CLIENT")?, kind("PRODUCER")?, kind("CONSUMER")?],
            status_type: trace.getattr("Status")?.unbind(),
            status_codes: [code("UNSET")?, code("OK")?, code("ERROR")?],
            sequence_type: abc.getattr("Sequence")?.unbind(),
            set_type: abc.getattr("Set")?.unbind(),
            mapping_type: abc.getattr("Mapping")?.unbind(),
            format_exception: py.import("traceback")?.getattr("format_exception")?.unbind(),
        })
    }

    /// The current Context.
    pub fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        ffi::context_var_get(self.current_context.bind(py))
    }

    /// A Context with another current span.
    ///
    /// :param spare: gives a Context that has a current span's key and nothing else, to be used again.
    pub fn context_with_span<'py>(
        &self,
        current: &Bound<'py, PyAny>,
        span: &Bound<'py, PyAny>,
        spare: impl FnOnce() -> Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = span.py();
        let key = self.span_key.bind(py);
        let current = current.cast::<PyDict>().ok();
        let alone = match current {
            Some(current) => current.is_empty() || (current.len() == 1 && current.contains(key)?),
            None => true,
        };
        let context = match if alone { spare() } else { None } {
            Some(context) => context,
            None => ffi::new_dict_subclass(self.context_type.bind(py))?,
        };
        if let Some(current) = current
            && !alone
        {
            context.update(current.as_mapping())?;
        }
        context.set_item(key, span)?;
        Ok(context)
    }

    /// A Context in which a span of another process is the current one.
    pub fn context_with_parent<'py>(
        &self,
        current: &Bound<'py, PyAny>,
        parent: &SpanContext,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = current.py();
        let span = self.non_recording_span.bind(py).call1((self.span_context(py, parent)?,))?;
        Ok(self.context_with_span(current, &span, || None)?.into_any())
    }

    /// Makes a Context that nobody else holds fit to be used again; None for any other.
    pub fn spare_context<'py>(&self, context: Bound<'py, PyDict>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let py = context.py();
        if ffi::is_shared(&context) || context.len() != 1 {
            return Ok(None);
        }
        context.set_item(self.span_key.bind(py), PyNone::get(py))?;
        // Letting go of the span may have run code of the application's, but nothing of it had the Context.
        Ok(Some(context))
    }

    /// A SpanContext of the API.
    pub fn span_context<'py>(&self, py: Python<'py>, parts: &SpanContext) -> PyResult<Bound<'py, PyAny>> {
        let flags = match self.trace_flags.get(usize::from(parts.flags)) {
            Some(flags) => flags.clone_ref(py),
            None => self.trace_flags_type.call1(py, (parts.flags,))?,
        };
        let state = parts.trace_state.as_ref().unwrap_or(&self.empty_trace_state);
        // What SpanContext.__new__ ends in. It computes the last item, which is true of every context made here.
        let items = (parts.trace_id, parts.span_id, parts.is_remote, flags, state, true);
        self.tuple_new.bind(py).call1((&self.span_context_type, items))
    }

    /// Reads a SpanContext of the API; None for an invalid one and for anything else.
    pub fn read_span_context(&self, context: &Bound<'_, PyAny>) -> Option<SpanContext> {
        let py = context.py();
        let context = context.cast::<PyTuple>().ok()?;
        if !context.is_instance(self.span_context_type.bind(py)).ok()? {
            return None;
        }
        let trace_id: u128 = context.get_item(0).ok()?.extract().ok()?;
        let span_id: u64 = context.get_item(1).ok()?.extract().ok()?;
        let state = context.get_item(4).ok()?;
        Some(SpanContext {
            trace_id,
            span_id,
            is_remote: context.get_item(2).ok()?.is_truthy().ok()?,
            flags: context.get_item(3).ok()?.extract().unwrap_or(0),
            trace_state: (!state.is(&self.empty_trace_state) && state.is_truthy().unwrap_or(false))
                .then(|| state.unbind()),
        })
    }

    /// The wire's number of a SpanKind; 1, internal, for anything else.
    pub fn kind_number(&self, kind: &Bound<'_, PyAny>) -> u8 {
        self.kinds.iter().zip(1..).find(|(known, _)| kind.is(known)).map_or(1, |(_, number)| number)
    }

    /// The SpanKind of a wire's number.
    pub fn kind<'py>(&self, py: Python<'py>, number: u8) -> Bound<'py, PyAny> {
        self.kinds[usize::from(number.clamp(1, 5)) - 1].bind(py).clone()
    }

    /// Reads a Status or a StatusCode: the code, and the description of a Status.
    pub fn read_status<'py>(
        &self,
        status: &Bound<'py, PyAny>,
        description: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<(u8, Option<Bound<'py, PyAny>>)>> {
        let code = |code: &Bound<'py, PyAny>| {
            self.status_codes.iter().zip(0..).find(|(known, _)| code.is(known)).map(|(_, number)| number)
        };
        if let Some(number) = code(status) {
            return Ok(Some((number, description.cloned())));
        }
        if status.is_instance(self.status_type.bind(status.py()))? {
            let number = code(&status.getattr("status_code")?);
            let description = status.getattr("description")?;
            return Ok(number.map(|number| (number, Some(description))));
        }
        Ok(None)
    }

    /// A Status of the API.
    pub fn status<'py>(&self, py: Python<'py>, code: u8, message: &str) -> PyResult<Bound<'py, PyAny>> {
        let message = (!message.is_empty()).then_some(message);
        self.status_type.bind(py).call1((&self.status_codes[usize::from(code.min(2))], message))
    }
}

/// The parts of a SpanContext. An empty tracestate is None.
pub struct SpanContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub flags: u8,
    pub is_remote: bool,
    pub trace_state: Option<Py<PyAny>>,
}

impl SpanContext {
    /// Whether neither id is zero.
    pub fn is_valid(&self) -> bool {
        self.trace_id != 0 && self.span_id != 0
    }
}
