//! The Python side: conversions between the OpenTelemetry API's objects and `otelagent_core`.
#![deny(unsafe_code)]

use pyo3::prelude::*;

mod api;
mod call;
mod convert;
mod current;
mod exception;
mod ffi;
mod log;
mod propagation;
mod read;
mod recorder;
mod request;
mod span;
mod span_methods;
mod tracer;
mod values;

// Free-threaded builds take the GIL back: nothing here has been tested without it.
#[pymodule(gil_used = true)]
mod _otelagent_native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::call::Formats;
    #[pymodule_export]
    use super::current::CurrentSpan;
    #[pymodule_export]
    use super::log::{Logger, LoggerBase};
    #[pymodule_export]
    use super::propagation::{
        format_b3, format_traceparent, parse_b3, parse_b3_multi, parse_traceparent, parse_tracestate,
    };
    #[pymodule_export]
    use super::recorder::Recorder;
    #[pymodule_export]
    use super::span::{Span, SpanBase};
    #[pymodule_export]
    use super::tracer::{Tracer, TracerBase};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // What is looked up once would be another interpreter's.
        if !super::ffi::is_main_interpreter(py) {
            return Err(pyo3::exceptions::PyImportError::new_err("it doesn't work in a subinterpreter"));
        }
        // An API that lacks what is needed fails the import, so that nobody starts what can't work.
        super::api::Api::get(py)?;
        let trace = py.import("opentelemetry.trace")?;
        trace.getattr("Span")?.call_method1("register", (py.get_type::<SpanBase>(),))?;
        trace.getattr("Tracer")?.call_method1("register", (py.get_type::<TracerBase>(),))?;
        super::tracer::install(py)?;
        super::current::install(py)?;
        super::span_methods::install(py)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
