//! The context manager and decorator that makes a span the current one.

use std::mem;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};

use crate::api::Api;
use crate::exception::is_error;
use crate::ffi::{self, Entry, GilCell};
use crate::span::Span;
use crate::tracer::{Start, Tracer};

/// Arguments of `start_as_current_span`: the span starts when the block does.
pub struct StartArguments {
    pub tracer: Py<Tracer>,
    pub name: Py<PyAny>,
    /// None where the name is the only one.
    pub more: Option<Box<MoreArguments>>,
}

/// What is seldom given.
pub struct MoreArguments {
    pub context: Option<Py<PyAny>>,
    pub kind: Option<Py<PyAny>>,
    pub attributes: Option<Py<PyAny>>,
    pub links: Option<Py<PyAny>>,
    pub start_time: Option<Py<PyAny>>,
    pub record_exception: bool,
    pub set_status_on_exception: bool,
    pub end_on_exit: bool,
}

impl MoreArguments {
    fn objects(&self) -> [&Option<Py<PyAny>>; 5] {
        [&self.context, &self.kind, &self.attributes, &self.links, &self.start_time]
    }
}

struct Entered {
    span: Py<Span>,
    token: Py<PyAny>,
    context: Py<PyDict>,
    end_on_exit: bool,
}

enum Block {
    Ready(StartArguments),
    Entered(Entered),
    Over,
}

/// Makes a span the current one for a block, or for each call of a function.
///
/// An object apart from its span: token, Context and span would otherwise be a cycle that an abandoned block leaks.
#[pyclass(frozen, module = "otelagent_native")]
pub struct CurrentSpan {
    entry: Entry,
    block: GilCell<Block>,
}

impl CurrentSpan {
    fn of(block: Block) -> Self {
        Self { entry: Entry::new::<Enter, Exit, Call>(), block: GilCell::new(block) }
    }

    /// One that hasn't been entered; of those whose block is over, where one is left.
    pub fn make<'py>(tracer: &Bound<'py, Tracer>, start: StartArguments) -> PyResult<Bound<'py, Self>> {
        let py = tracer.py();
        let block = Block::Ready(start);
        match tracer.get().recorder.get().take_block(py) {
            Some(spare) => {
                let _over = spare.get().block.with(py, |before| mem::replace(before, block));
                Ok(spare)
            }
            None => Bound::new(py, Self::of(block)),
        }
    }

    /// Whether entering it is nothing but starting a span with a name.
    fn is_plain(&self, py: Python<'_>) -> bool {
        self.block.with(py, |block| match block {
            Block::Ready(start) => start.more.is_none() && start.tracer.get().recorder.get().is_plain(),
            _ => false,
        })
    }

    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Span>> {
        let ready = self.block.with(py, |block| match block {
            Block::Ready(_) => Some(mem::replace(block, Block::Over)),
            _ => None,
        });
        let Some(Block::Ready(StartArguments { tracer, name, more })) = ready else {
            return Err(PyRuntimeError::new_err("this context manager has been entered already"));
        };
        let (tracer, name) = (tracer.into_bound(py), name.into_bound(py));
        let api = Api::get(py)?;
        let current = api.context(py)?;
        let span = match more.as_deref() {
            None => Tracer::start(&tracer, &Start::of(&name), &current)?,
            Some(more) => {
                let objects = more.objects().map(|object| object.as_ref().map(|object| object.bind(py)));
                let [context, kind, attributes, links, start_time] = objects;
                let MoreArguments { record_exception, set_status_on_exception, .. } = *more;
                let start = Start {
                    name: &name,
                    context,
                    kind,
                    attributes,
                    links,
                    start_time,
                    record_exception,
                    set_status_on_exception,
                };
                Tracer::start(&tracer, &start, &current)?
            }
        };
        let context =
            api.context_with_span(&current, span.as_any(), || tracer.get().recorder.get().take_context(py))?;
        let token = ffi::context_var_set(api.current_context.bind(py), context.as_any())?;
        let end_on_exit = more.is_none_or(|more| more.end_on_exit);
        let (token, context) = (token.unbind(), context.unbind());
        let entered = Block::Entered(Entered { span: span.clone().unbind(), token, context, end_on_exit });
        let _over = self.block.with(py, |block| mem::replace(block, entered));
        Ok(span)
    }

    /// Ends the block.
    ///
    /// :param error: that it ends with.
    fn finish(slf: &Bound<'_, Self>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let entered = slf.get().block.with(py, |block| match block {
            Block::Entered(_) => Some(mem::replace(block, Block::Over)),
            _ => None,
        });
        let Some(Block::Entered(Entered { span, token, context, end_on_exit })) = entered else {
            return Err(PyRuntimeError::new_err("this context manager has not been entered"));
        };
        let (span, token, context) = (span.into_bound(py), token.into_bound(py), context.into_bound(py));
        let api = Api::get(py)?;
        let recorder = span.get().recorder();
        let noted = match error {
            Some(error) if is_error(error) => span.get().failed(error),
            _ => Ok(()),
        };
        let detached = match ffi::context_var_reset(api.current_context.bind(py), &token) {
            Err(error) => {
                let message = "A span's block ended in another context than it began in";
                recorder.complain(py, "detach", message, Some(error))
            }
            Ok(()) => Ok(()),
        };
        drop(token);
        if let Some(context) = api.spare_context(context)? {
            recorder.return_context(context);
        }
        let ended = if end_on_exit { Span::finish(&span, None) } else { Ok(()) };
        recorder.return_block(slf.clone());
        noted.and(detached).and(ended)
    }
}

#[pymethods]
impl CurrentSpan {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Span>> {
        self.begin(py)
    }

    #[pyo3(signature = (exc_type, exc_val, exc_tb))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: &Bound<'_, PyAny>,
        exc_val: &Bound<'_, PyAny>,
        exc_tb: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let _ = (exc_type, exc_tb);
        Self::finish(slf, Some(exc_val).filter(|error| !error.is_none())).map(|()| false)
    }

    /// Another one with the same arguments: each call of a decorated function gets its own span.
    fn again<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Self>> {
        let start = self.block.with(py, |block| match block {
            Block::Ready(start) => Some(StartArguments {
                tracer: start.tracer.clone_ref(py),
                name: start.name.clone_ref(py),
                more: start.more.as_ref().map(|more| {
                    let objects = more.objects().map(|object| object.as_ref().map(|object| object.clone_ref(py)));
                    let [context, kind, attributes, links, start_time] = objects;
                    Box::new(MoreArguments { context, kind, attributes, links, start_time, ..**more })
                }),
            }),
            _ => None,
        });
        let Some(start) = start else {
            return Err(PyRuntimeError::new_err("this context manager has been entered already"));
        };
        let tracer = start.tracer.bind(py).clone();
        Self::make(&tracer, start)
    }

    fn __call__<'py>(slf: &Bound<'py, Self>, func: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("otelagent_native.decorate")?.call_method1("decorate", (slf.getattr("again")?, func))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.block.visit(&visit, |block| match block {
            Block::Ready(start) => {
                visit.call(&start.tracer)?;
                visit.call(&start.name)?;
                start.more.iter().flat_map(|more| more.objects()).try_for_each(|object| visit.call(object))
            }
            Block::Entered(entered) => {
                visit.call(&entered.token)?;
                visit.call(&entered.context)
            }
            Block::Over => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _before = self.block.with(py, |block| mem::replace(block, Block::Over));
    }
}

ffi::method!(Enter, CurrentSpan, c"__enter__", |slf, arguments| {
    let (py, []) = (slf.py(), arguments.all()?);
    slf.get().is_plain(py).then(|| slf.get().begin(py).map(Bound::into_any))
});

ffi::method!(Exit, CurrentSpan, c"__exit__", |slf, arguments| {
    let [_, error, _] = arguments.all()?;
    error.is_none().then(|| {
        CurrentSpan::finish(&slf, None)?;
        Ok(PyBool::new(slf.py(), false).to_owned().into_any())
    })
});

ffi::method!(Call, CurrentSpan, c"__call__", |_slf, _arguments| { None });

/// `__enter__` or `__exit__`, whose bound method is the instance itself, see `ffi::Entry`.
#[pyclass(frozen, module = "otelagent_native")]
struct BlockMethod(Py<PyAny>);

#[pymethods]
impl BlockMethod {
    // Says that this is a descriptor; `ffi::bind_to_itself` answers.
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> Bound<'py, PyAny> {
        if instance.is_none() { slf.clone().into_any() } else { instance.clone() }
    }

    #[pyo3(signature = (*arguments, **named))]
    fn __call__<'py>(
        &self,
        arguments: &Bound<'py, PyTuple>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.0.bind(arguments.py()).call(arguments, named)
    }

    /// What is asked of a function: its name, its signature, its documentation.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.0.bind(name.py()).getattr(name)
    }
}

/// Puts the quick methods in the place of the others.
pub fn install(py: Python<'_>) -> PyResult<()> {
    ffi::install::<Enter>(py)?;
    ffi::install::<Exit>(py)?;
    ffi::keep::<Call>(py)?;
    let class = py.get_type::<CurrentSpan>();
    if cfg!(not(Py_GIL_DISABLED)) {
        for name in ["__enter__", "__exit__"] {
            class.setattr(name, Bound::new(py, BlockMethod(class.getattr(name)?.unbind()))?)?;
        }
        let sample = Bound::new(py, CurrentSpan::of(Block::Over))?;
        ffi::bind_to_itself::<BlockMethod>(py);
        ffi::call_by_entry(&sample, &sample.get().entry);
    }
    Ok(())
}
