//! What tracers and spans of one provider share: limits, ids, the sampler, the queue, the resource.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use otelagent_core::attributes::{AttributeLimits, Attributes};
use otelagent_core::ids::IdGenerator;
use otelagent_core::queue::{Queue, Scope};
use otelagent_core::sampler::Sampler;
use otelagent_core::span::{Record, SpanLimits};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::api::Api;
use crate::convert::{self, Collected};
use crate::span::Span;
use crate::tracer::{Tracer, TracerBase};

/// Most bytes of spans in one request, unless one alone has more: 4 MiB, the most that a gRPC server takes by default,
/// without room for the resource and the scopes.
const MAX_REQUEST_BYTES: usize = (4 << 20) - (64 << 10);

/// Ended spans' records that wait for the next span.
const POOLED_RECORDS: usize = 64;

/// Contexts that wait for the next block.
const POOLED_CONTEXTS: usize = 16;

/// Locks; a panic elsewhere left nothing half-done that matters more than the application.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who decides which spans are recorded.
pub enum Decider {
    Standard {
        root: Sampler,
        /// Whether a span with a parent does as its parent does.
        parent_based: bool,
    },
    /// Any object with the SDK's `should_sample`.
    Python(Py<PyAny>),
}

struct Supply {
    ids: IdGenerator,
    sampled_out: u64,
    #[expect(clippy::vec_box, reason = "records move between here and spans")]
    records: Vec<Box<Record>>,
}

/// Records spans; the batch's source.
///
/// No lock of it is held while Python code runs, so that a signal handler or a `__del__` may end a span anywhere.
#[pyclass(frozen, weakref, module = "otelagent_native")]
pub struct Recorder {
    pub limits: SpanLimits,
    pub decider: Decider,
    /// An object with the SDK's `generate_trace_id` and so on; None: this recorder's own ids.
    id_generator: Option<Py<PyAny>>,
    supply: Mutex<Supply>,
    contexts: Mutex<Vec<Py<PyDict>>>,
    pub queue: Mutex<Queue>,
    scopes: Mutex<Vec<Scope>>,
    resource: Mutex<Vec<u8>>,
    paused: AtomicBool,
    max_batch_items: usize,
    batch: Mutex<Option<Py<PyAny>>>,
    listens: AtomicBool,
    listener: Mutex<Option<Py<PyAny>>>,
    complain: Py<PyAny>,
}

impl Recorder {
    /// Ids of a span, and its trace's unless it has one; a record if `samples` says so for the trace, or counts the
    /// span as sampled out.
    pub fn begin(
        &self,
        trace_id: Option<u128>,
        samples: impl FnOnce(u128) -> bool,
    ) -> (u128, u64, Option<Box<Record>>) {
        let supply = &mut *lock(&self.supply);
        let trace_id = trace_id.unwrap_or_else(|| supply.ids.trace_id());
        let span_id = supply.ids.span_id();
        let record = if samples(trace_id) {
            Some(supply.records.pop().unwrap_or_default())
        } else {
            supply.sampled_out += 1;
            None
        };
        (trace_id, span_id, record)
    }

    /// A trace id.
    pub fn new_trace_id(&self) -> u128 {
        lock(&self.supply).ids.trace_id()
    }

    /// Whether ids come from a generator that the application gave.
    pub fn has_id_generator(&self) -> bool {
        self.id_generator.is_some()
    }

    /// An id of the application's generator; None where there is none or it gives none that is valid.
    pub fn given_id<'py, T>(&self, py: Python<'py>, method: &str) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py> + Default + PartialEq,
    {
        let Some(generator) = &self.id_generator else { return Ok(None) };
        let error = match generator.bind(py).call_method0(method) {
            Ok(id) => match id.extract::<T>() {
                Ok(id) if id != T::default() => return Ok(Some(id)),
                _ => PyValueError::new_err(format!("{method} gave no valid id")),
            },
            Err(error) => error,
        };
        self.generator_failed(py, error)?;
        Ok(None)
    }

    /// Whether the application's generator says of its trace ids that they are random.
    pub fn given_ids_are_random(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(generator) = &self.id_generator else { return Ok(true) };
        match generator.bind(py).call_method0("is_trace_id_random").and_then(|random| random.is_truthy()) {
            Ok(random) => Ok(random),
            Err(error) => self.generator_failed(py, error).map(|()| false),
        }
    }

    fn generator_failed(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        if !convert::isolated(py, &error) {
            return Err(error);
        }
        self.complain(py, "ids", "The id generator failed; otelagent's own gives the id", Some(error));
        Ok(())
    }

    /// A context without a span, if one is left from a block that nobody else has seen.
    pub fn take_context(&self) -> Option<Py<PyDict>> {
        lock(&self.contexts).pop()
    }

    /// Takes such a context.
    pub fn return_context(&self, context: Py<PyDict>) {
        let mut contexts = lock(&self.contexts);
        if contexts.len() < POOLED_CONTEXTS {
            contexts.push(context);
        }
    }

    /// Takes a record back.
    pub fn return_record(&self, mut record: Box<Record>) {
        let records = &mut lock(&self.supply).records;
        if records.len() < POOLED_RECORDS {
            record.clear();
            records.push(record);
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Tells the batch that so many wait, when it might want to know: at the first, and whenever a batch is full.
    pub fn added(&self, py: Python<'_>, pending: usize) {
        if pending != 1 && !pending.is_multiple_of(self.max_batch_items) {
            return;
        }
        let batch = lock(&self.batch).as_ref().map(|batch| batch.clone_ref(py));
        if let Some(batch) = batch
            && let Err(error) = batch.call_method1(py, "added", (pending,))
        {
            self.complain(py, "batch", "The batch can't be told of a span", Some(error));
        }
    }

    /// Who hears of spans that start and end.
    pub fn listener<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if !self.listens.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.listener).as_ref().map(|listener| listener.bind(py).clone())
    }

    /// Tells the application's log, seldom.
    pub fn complain(&self, py: Python<'_>, topic: &str, message: &str, error: Option<PyErr>) {
        let error = error.map(|error| error.into_value(py));
        if let Err(error) = self.complain.call1(py, (topic, message, error)) {
            error.write_unraisable(py, None);
        }
    }
}

#[pymethods]
impl Recorder {
    #[new]
    #[pyo3(signature = (*, sampler, ratio, parent_based, limits, max_queue_size, max_batch_items, complain, id_generator=None))]
    #[expect(clippy::too_many_arguments)]
    fn new(
        sampler: Bound<'_, PyAny>,
        ratio: f64,
        parent_based: bool,
        limits: [Option<usize>; 7],
        max_queue_size: usize,
        max_batch_items: usize,
        complain: Py<PyAny>,
        id_generator: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        Api::get(sampler.py())?;
        let decider = match sampler.cast::<PyString>() {
            Ok(name) => Decider::Standard {
                root: match name.to_str()? {
                    "always_on" => Sampler::AlwaysOn,
                    "always_off" => Sampler::AlwaysOff,
                    "traceidratio" => Sampler::ratio(ratio),
                    other => return Err(PyValueError::new_err(format!("no sampler is called {other:?}"))),
                },
                parent_based,
            },
            Err(_) => Decider::Python(sampler.unbind()),
        };
        let [attributes, value_length, events, links, event_attributes, link_attributes, other_value_length] = limits;
        let of = |count| AttributeLimits { count, value_length: other_value_length };
        Ok(Self {
            limits: SpanLimits {
                attributes: AttributeLimits { count: attributes, value_length },
                event_attributes: of(event_attributes),
                link_attributes: of(link_attributes),
                events,
                links,
            },
            decider,
            id_generator,
            supply: Mutex::new(Supply { ids: IdGenerator::new(), sampled_out: 0, records: Vec::new() }),
            contexts: Mutex::new(Vec::new()),
            queue: Mutex::new(Queue::new(max_queue_size)),
            scopes: Mutex::new(Vec::new()),
            resource: Mutex::new(Vec::new()),
            paused: AtomicBool::new(false),
            max_batch_items: max_batch_items.max(1),
            batch: Mutex::new(None),
            listens: AtomicBool::new(false),
            listener: Mutex::new(None),
            complain,
        })
    }

    #[pyo3(signature = (name, version, schema_url, attributes, scope))]
    fn tracer(
        slf: Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        schema_url: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        scope: Py<PyAny>,
    ) -> PyResult<Py<Tracer>> {
        let this = slf.get();
        let text = |value: &Bound<'_, PyAny>| convert::name(value).map(|text| convert::text(&text).into_owned());
        let encoded = this.collect(3, attributes)?;
        let encoded = Scope::new(&text(name)?, &text(version)?, &text(schema_url)?, &encoded);
        let scopes = &mut lock(&this.scopes);
        scopes.push(encoded);
        let tracer = Tracer { recorder: slf.clone().unbind(), scope_index: scopes.len() as u32 - 1, scope };
        Py::new(slf.py(), PyClassInitializer::from(TracerBase).add_subclass(tracer))
    }

    fn set_resource(&self, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut body = Vec::new();
        self.collect(1, Some(attributes))?.write(&mut body);
        *lock(&self.resource) = body;
        Ok(())
    }

    fn set_batch(&self, batch: Py<PyAny>) {
        let _before = lock(&self.batch).replace(batch);
    }

    fn set_listener(&self, listener: Option<Py<PyAny>>) {
        self.listens.store(listener.is_some(), Ordering::Relaxed);
        let _before = std::mem::replace(&mut *lock(&self.listener), listener);
    }

    fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
    }

    fn close(&self) {
        lock(&self.queue).close();
    }

    fn reseed(&self) {
        lock(&self.supply).ids.reseed();
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<(u64, u64, Bound<'py, PyDict>)> {
        let counts = lock(&self.queue).counts.clone();
        let dropped = PyDict::new(py);
        for (reason, count) in counts.dropped {
            dropped.set_item(reason, count)?;
        }
        let left_out = lock(&self.supply).sampled_out;
        Ok((counts.ended + left_out, counts.sampled_out + left_out, dropped))
    }

    fn pending(&self) -> usize {
        lock(&self.queue).pending()
    }

    fn drain<'py>(&self, py: Python<'py>, max_items: usize) -> Option<(Bound<'py, PyBytes>, usize)> {
        let request = {
            let (resource, scopes) = (lock(&self.resource), lock(&self.scopes));
            lock(&self.queue).drain(max_items, MAX_REQUEST_BYTES, &resource, &scopes)
        };
        request.map(|(body, items)| (PyBytes::new(py, &body), items))
    }

    fn discard(&self, reason: &str) {
        lock(&self.queue).discard(reason);
    }

    fn forget(&self) {
        lock(&self.supply).sampled_out = 0;
        lock(&self.queue).forget();
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.complain)?;
        visit.call(&self.id_generator)?;
        if let Decider::Python(sampler) = &self.decider {
            visit.call(sampler)?;
        }
        for held in [&self.batch, &self.listener] {
            if let Ok(held) = held.try_lock() {
                visit.call(&*held)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let _batch = lock(&self.batch).take();
        let _listener = lock(&self.listener).take();
        let _contexts = std::mem::take(&mut *lock(&self.contexts));
    }
}

impl Recorder {
    fn collect(&self, field: u8, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<Attributes> {
        let complain =
            |py: Python<'_>, error| self.complain(py, "attribute", "An attribute can't be kept", Some(error));
        let mut collected = Collected::new(field, AttributeLimits::default(), &complain);
        if let Some(attributes) = attributes.filter(|attributes| !attributes.is_none()) {
            convert::set_attributes(attributes, &mut collected)?;
        }
        Ok(collected.attributes)
    }

    /// Tells the listener of a span.
    pub fn tell(&self, what: &str, span: &Bound<'_, Span>, more: Option<Bound<'_, PyAny>>) {
        let py = span.py();
        let Some(listener) = self.listener(py) else { return };
        let told = match what {
            "on_start" => listener.call_method1(what, (span, more)),
            _ => listener.call_method1(what, (span,)),
        };
        if let Err(error) = told {
            self.complain(py, "listener", "A listener failed", Some(error));
        }
    }
}
