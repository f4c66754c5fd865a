//! The context manager and decorator that makes a span the current one.

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::api::Api;
use crate::ffi;
use crate::recorder::lock;
use crate::span::{Span, is_error};
use crate::tracer::{Start, Tracer};

/// Arguments of `start_as_current_span`: the span starts when the block does.
pub struct StartArguments {
    pub name: Py<PyAny>,
    pub context: Option<Py<PyAny>>,
    pub kind: Option<Py<PyAny>>,
    pub attributes: Option<Py<PyAny>>,
    pub links: Option<Py<PyAny>>,
    pub start_time: Option<Py<PyAny>>,
    pub record_exception: bool,
    pub set_status_on_exception: bool,
    pub end_on_exit: bool,
}

struct Entered {
    span: Py<Span>,
    token: Py<PyAny>,
    context: Py<PyDict>,
}

/// Makes a span the current one for a block, or for each call of a function.
///
/// An object apart from its span: token, Context and span would otherwise be a cycle that an abandoned block leaks.
#[pyclass(frozen, module = "otelagent_native")]
pub struct CurrentSpan {
    tracer: Py<Tracer>,
    start: StartArguments,
    entered: Mutex<Option<Entered>>,
}

impl CurrentSpan {
    pub fn new(tracer: Py<Tracer>, start: StartArguments) -> Self {
        Self { tracer, start, entered: Mutex::new(None) }
    }
}

#[pymethods]
impl CurrentSpan {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Span>> {
        let bound = |value: &Option<Py<PyAny>>| value.as_ref().map(|value| value.bind(py).clone());
        let (context, kind) = (bound(&self.start.context), bound(&self.start.kind));
        let (attributes, links) = (bound(&self.start.attributes), bound(&self.start.links));
        let start_time = bound(&self.start.start_time);
        let start = Start {
            name: self.start.name.bind(py),
            context: context.as_ref(),
            kind: kind.as_ref(),
            attributes: attributes.as_ref(),
            links: links.as_ref(),
            start_time: start_time.as_ref(),
            record_exception: self.start.record_exception,
            set_status_on_exception: self.start.set_status_on_exception,
        };
        if lock(&self.entered).is_some() {
            return Err(PyRuntimeError::new_err("this context manager has been entered already"));
        }
        let api = Api::get(py)?;
        let recorder = self.tracer.get().recorder.get();
        let span = Tracer::start(self.tracer.bind(py), &start)?;
        let current = api.context(py)?;
        let context = api.context_with_span(&current, span.as_any(), || recorder.take_context())?;
        let token = ffi::context_var_set(api.current_context.bind(py), context.as_any())?;
        let entered = Entered { span: span.clone().unbind(), token: token.unbind(), context: context.unbind() };
        let _before = lock(&self.entered).replace(entered);
        Ok(span)
    }

    #[pyo3(signature = (exc_type, exc_val, exc_tb))]
    fn __exit__(
        &self,
        exc_type: &Bound<'_, PyAny>,
        exc_val: &Bound<'_, PyAny>,
        exc_tb: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let _ = (exc_type, exc_tb);
        let py = exc_val.py();
        let Some(Entered { span, token, context }) = lock(&self.entered).take() else {
            return Err(PyRuntimeError::new_err("this context manager has not been entered"));
        };
        let span = span.into_bound(py);
        let recorder = self.tracer.get().recorder.get();
        let api = Api::get(py)?;
        let noted = if !exc_val.is_none() && is_error(exc_val) {
            span.get().failed(exc_val, self.start.record_exception, self.start.set_status_on_exception)
        } else {
            Ok(())
        };
        if let Err(error) = ffi::context_var_reset(api.current_context.bind(py), token.bind(py)) {
            recorder.complain(py, "detach", "A span's block ended in another context than it began in", Some(error));
        }
        drop(token);
        if let Some(context) = api.spare_context(context.into_bound(py))? {
            recorder.return_context(context);
        }
        if self.start.end_on_exit {
            Span::finish(&span, None);
        }
        noted.map(|()| false)
    }

    /// Another one with the same arguments: each call of a decorated function gets its own span.
    fn again(&self, py: Python<'_>) -> Self {
        let start = &self.start;
        let cloned = |value: &Option<Py<PyAny>>| value.as_ref().map(|value| value.clone_ref(py));
        Self::new(
            self.tracer.clone_ref(py),
            StartArguments {
                name: start.name.clone_ref(py),
                context: cloned(&start.context),
                kind: cloned(&start.kind),
                attributes: cloned(&start.attributes),
                links: cloned(&start.links),
                start_time: cloned(&start.start_time),
                record_exception: start.record_exception,
                set_status_on_exception: start.set_status_on_exception,
                end_on_exit: start.end_on_exit,
            },
        )
    }

    fn __call__<'py>(slf: &Bound<'py, Self>, func: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("otelagent_native.decorate")?.call_method1("decorate", (slf.getattr("again")?, func))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let start = &self.start;
        visit.call(&start.name)?;
        for value in [&start.context, &start.kind, &start.attributes, &start.links, &start.start_time] {
            visit.call(value)?;
        }
        if let Ok(entered) = self.entered.try_lock()
            && let Some(entered) = &*entered
        {
            visit.call(&entered.token)?;
            visit.call(&entered.context)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let _entered = lock(&self.entered).take();
    }
}
