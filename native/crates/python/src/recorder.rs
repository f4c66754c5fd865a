//! What tracers and spans of one provider share: limits, ids, the sampler, the queue, the resource.

use std::sync::atomic::{AtomicBool, Ordering};

use otelagent_core::attributes::{AttributeLimits, Attributes};
use otelagent_core::ids::IdGenerator;
use otelagent_core::queue::{Item, Queue};
use otelagent_core::request::Scope;
use otelagent_core::sampler::Sampler;
use otelagent_core::span::{Record, SpanLimits};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::api::Api;
use crate::convert::{self, Collected};
use crate::current::CurrentSpan;
use crate::ffi::{self, GilCell};
use crate::span::Span;
use crate::tracer::{Tracer, TracerBase};

/// Most bytes of spans in one request, unless one alone has more: 4 MiB, the most that a gRPC server takes by default,
/// without room for the resource and the scopes.
const MAX_REQUEST_BYTES: usize = (4 << 20) - (64 << 10);

const GENERATOR_FAILED: &str = "The id generator failed; otelagent's own gives the id";

/// Ended spans' records that wait for the next span.
const POOLED_RECORDS: usize = 64;

/// Contexts and context managers that wait for the next block.
const POOLED_BLOCKS: usize = 16;

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

/// What the batch might want to know of an item that was offered.
#[derive(Clone, Copy)]
pub enum News {
    None,
    /// It is the only one that waits.
    First,
    /// With it, as much waits as is worth a request.
    Request,
}

/// What spans begin with.
struct Supply {
    ids: IdGenerator,
    sampled_out: u64,
    #[expect(clippy::vec_box, reason = "records move between here and spans")]
    records: Vec<Box<Record>>,
    contexts: Vec<Py<PyDict>>,
    blocks: Vec<Py<CurrentSpan>>,
}

/// Where ended spans go.
struct Outgoing {
    queue: Queue,
    scopes: Vec<Scope>,
    resource: Vec<u8>,
}

/// Who is told of spans.
#[derive(Default)]
struct Told {
    batch: Option<Py<PyAny>>,
    listener: Option<Py<PyAny>>,
}

/// Records spans; the batch's source.
///
/// Its state changes only in moments in which no Python code runs, so that a signal handler or a `__del__` may end a
/// span anywhere, and a fork may happen anywhere.
#[pyclass(frozen, weakref, module = "otelagent_native")]
pub struct Recorder {
    pub limits: SpanLimits,
    pub decider: Decider,
    /// An object with the SDK's `generate_trace_id` and so on; None: this recorder's own ids.
    id_generator: Option<Py<PyAny>>,
    supply: GilCell<Supply>,
    outgoing: GilCell<Outgoing>,
    told: GilCell<Told>,
    paused: AtomicBool,
    listens: AtomicBool,
    max_batch_items: usize,
    /// So many bytes that wait are to be drained, however few the items.
    enough_bytes: usize,
    complain: Py<PyAny>,
}

impl Recorder {
    /// Ids of a span, and its trace's unless it has one; a record if `samples` says so for the trace, or counts the
    /// span as sampled out.
    #[inline]
    pub fn begin(
        &self,
        py: Python<'_>,
        trace_id: Option<u128>,
        samples: impl FnOnce(u128) -> bool,
    ) -> (u128, u64, Option<Box<Record>>) {
        self.supply.with(py, |supply| {
            let trace_id = trace_id.unwrap_or_else(|| supply.ids.trace_id());
            let span_id = supply.ids.span_id();
            let record = if samples(trace_id) {
                Some(supply.records.pop().unwrap_or_default())
            } else {
                supply.sampled_out += 1;
                None
            };
            (trace_id, span_id, record)
        })
    }

    /// A trace id.
    pub fn new_trace_id(&self, py: Python<'_>) -> u128 {
        self.supply.with(py, |supply| supply.ids.trace_id())
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
        self.isolate(py, "ids", GENERATOR_FAILED, error)?;
        Ok(None)
    }

    /// Whether the application's generator says of its trace ids that they are random.
    pub fn given_ids_are_random(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(generator) = &self.id_generator else { return Ok(true) };
        match generator.bind(py).call_method0("is_trace_id_random").and_then(|random| random.is_truthy()) {
            Ok(random) => Ok(random),
            Err(error) => self.isolate(py, "ids", GENERATOR_FAILED, error).map(|()| false),
        }
    }

    /// A context without a span, if one is left from a block that nobody else has seen.
    pub fn take_context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.supply.with(py, |supply| supply.contexts.pop()).map(|context| context.into_bound(py))
    }

    /// Takes such a context.
    pub fn return_context(&self, context: Bound<'_, PyDict>) {
        let (py, context) = (context.py(), context.unbind());
        let refused = self.supply.with(py, |supply| put(&mut supply.contexts, context));
        refused.map(|context| context.into_bound(py));
    }

    /// A context manager whose block is over and that nobody else holds.
    pub fn take_block<'py>(&self, py: Python<'py>) -> Option<Bound<'py, CurrentSpan>> {
        let block = self.supply.with(py, |supply| supply.blocks.pop())?.into_bound(py);
        (!ffi::is_shared(&block)).then_some(block)
    }

    /// Takes a context manager whose block is over.
    pub fn return_block(&self, block: Bound<'_, CurrentSpan>) {
        let (py, block) = (block.py(), block.unbind());
        let refused = self.supply.with(py, |supply| put(&mut supply.blocks, block));
        refused.map(|block| block.into_bound(py));
    }

    /// Takes a record back.
    pub fn return_record(&self, py: Python<'_>, mut record: Box<Record>) {
        self.supply.with(py, |supply| {
            if supply.records.len() < POOLED_RECORDS {
                record.clear();
                supply.records.push(record);
            }
        });
    }

    /// Takes an ended span or a log record, or counts why not.
    #[inline]
    pub fn offer(&self, py: Python<'_>, scope: u32, item: &impl Item) -> News {
        self.outgoing.with(py, |outgoing| {
            let before = outgoing.queue.bytes();
            let pending = outgoing.queue.offer(scope, item);
            match pending {
                0 => News::None,
                _ if pending.is_multiple_of(self.max_batch_items) => News::Request,
                _ if before < self.enough_bytes && outgoing.queue.bytes() >= self.enough_bytes => News::Request,
                1 => News::First,
                _ => News::None,
            }
        })
    }

    /// Counts a span that was recorded for its listeners alone, or a log record of a pause.
    pub fn left_out(&self, py: Python<'_>) {
        self.outgoing.with(py, |outgoing| outgoing.queue.sampled_out(1));
    }

    /// Whether anybody wants to hear of spans.
    #[inline]
    pub fn has_listener(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    /// Whether a span's start and end run no Python code but the batch's.
    #[inline]
    pub fn is_plain(&self) -> bool {
        matches!(self.decider, Decider::Standard { .. }) && self.id_generator.is_none() && !self.has_listener()
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Tells the batch what it might want to know.
    #[inline]
    pub fn added(&self, py: Python<'_>, news: News) -> PyResult<()> {
        match news {
            News::None => Ok(()),
            News::First => self.tell_batch(py, false),
            News::Request => self.tell_batch(py, true),
        }
    }

    fn tell_batch(&self, py: Python<'_>, enough: bool) -> PyResult<()> {
        let batch = self.told.with(py, |told| told.batch.as_ref().map(|batch| batch.bind(py).clone()));
        match batch.map_or(Ok(()), |batch| batch.call_method1("added", (enough,)).map(drop)) {
            Err(error) => self.isolate(py, "batch", "The batch can't be told of a span", error),
            Ok(()) => Ok(()),
        }
    }

    /// Tells the listener of a span.
    ///
    /// :param what: `on_start`, which also hears of the parent's Context, `on_ending` or `on_end`.
    pub fn tell(&self, what: &str, span: &Bound<'_, Span>, context: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if !self.has_listener() {
            return Ok(());
        }
        let py = span.py();
        let listener = self.told.with(py, |told| told.listener.as_ref().map(|listener| listener.bind(py).clone()));
        let Some(listener) = listener else { return Ok(()) };
        let done = match what {
            "on_start" => listener.call_method1(what, (span, context)),
            _ => listener.call_method1(what, (span,)),
        };
        match done {
            Err(error) => self.isolate(py, "listener", "A listener failed", error),
            Ok(_) => Ok(()),
        }
    }

    /// Complains of an error; returns the one that must come through, such as KeyboardInterrupt.
    fn isolate(&self, py: Python<'_>, topic: &str, message: &str, error: PyErr) -> PyResult<()> {
        if !convert::isolated(py, &error) {
            return Err(error);
        }
        self.complain(py, topic, message, Some(error))
    }

    /// `complain`, for who is to be told by it.
    pub fn complaints(&self) -> impl Fn(Python<'_>, &str, &str, Option<PyErr>) -> PyResult<()> + '_ {
        |py, topic, message, error| self.complain(py, topic, message, error)
    }

    /// See `convert::text`.
    pub fn text(&self, value: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
        convert::text(value, what, &self.complaints())
    }

    /// Tells the application's log, seldom. Returns an error only for what must come through.
    pub fn complain(&self, py: Python<'_>, topic: &str, message: &str, error: Option<PyErr>) -> PyResult<()> {
        let error = error.map(|error| error.into_value(py).into_bound(py));
        match self.complain.bind(py).call1((topic, message, error)) {
            Err(error) if convert::isolated(py, &error) => {
                error.write_unraisable(py, None);
                Ok(())
            }
            done => done.map(drop),
        }
    }
}

#[pymethods]
impl Recorder {
    #[new]
    #[pyo3(signature = (*, sampler, ratio, parent_based, limits, max_queue_size, max_queue_bytes, max_batch_items, complain, id_generator=None))]
    #[expect(clippy::too_many_arguments)]
    fn new(
        sampler: Bound<'_, PyAny>,
        ratio: f64,
        parent_based: bool,
        limits: [Option<usize>; 7],
        max_queue_size: usize,
        max_queue_bytes: usize,
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
            supply: GilCell::new(Supply {
                ids: IdGenerator::new(),
                sampled_out: 0,
                records: Vec::new(),
                contexts: Vec::new(),
                blocks: Vec::new(),
            }),
            outgoing: GilCell::new(Outgoing {
                queue: Queue::new(max_queue_size, max_queue_bytes),
                scopes: Vec::new(),
                resource: Vec::new(),
            }),
            told: GilCell::new(Told::default()),
            paused: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            max_batch_items: max_batch_items.max(1),
            enough_bytes: MAX_REQUEST_BYTES.min(max_queue_bytes / 2).max(1),
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
        let scope_index = this.add_scope(name, version, schema_url, attributes)?;
        let tracer = Tracer { recorder: slf.clone().unbind(), scope_index, scope };
        Py::new(slf.py(), PyClassInitializer::from(TracerBase).add_subclass(tracer))
    }

    fn set_resource(&self, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut body = Vec::new();
        self.collect(1, Some(attributes))?.write(&mut body);
        self.outgoing.with(attributes.py(), |outgoing| outgoing.resource = body);
        Ok(())
    }

    fn set_batch(&self, py: Python<'_>, batch: Py<PyAny>) {
        let _before = self.told.with(py, |told| told.batch.replace(batch));
    }

    fn set_listener(&self, py: Python<'_>, listener: Option<Py<PyAny>>) {
        self.listens.store(listener.is_some(), Ordering::Relaxed);
        let _before = self.told.with(py, |told| std::mem::replace(&mut told.listener, listener));
    }

    fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
    }

    fn close(&self, py: Python<'_>) {
        self.outgoing.with(py, |outgoing| outgoing.queue.close());
    }

    fn reseed(&self, py: Python<'_>) {
        self.supply.with(py, |supply| supply.ids.reseed());
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<(u64, u64, Bound<'py, PyDict>)> {
        let counts = self.outgoing.with(py, |outgoing| outgoing.queue.counts.clone());
        let left_out = self.supply.with(py, |supply| supply.sampled_out);
        let dropped = PyDict::new(py);
        for (reason, count) in counts.dropped {
            dropped.set_item(reason, count)?;
        }
        Ok((counts.ended + left_out, counts.sampled_out + left_out, dropped))
    }

    fn dropped<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        Ok(self.counts(py)?.2)
    }

    fn enough(&self, py: Python<'_>) -> bool {
        self.outgoing.with(py, |outgoing| {
            outgoing.queue.pending() >= self.max_batch_items || outgoing.queue.bytes() >= self.enough_bytes
        })
    }

    fn mark(&self, py: Python<'_>) -> u64 {
        self.outgoing.with(py, |outgoing| outgoing.queue.mark())
    }

    fn waits(&self, py: Python<'_>, until: u64) -> bool {
        self.outgoing.with(py, |outgoing| outgoing.queue.waits(until))
    }

    #[pyo3(signature = (until=None))]
    fn drain<'py>(&self, py: Python<'py>, until: Option<u64>) -> PyResult<Option<(Bound<'py, PyBytes>, usize)>> {
        self.outgoing.with(py, |outgoing| {
            let Outgoing { queue, scopes, resource } = outgoing;
            let request =
                queue.request(self.max_batch_items, MAX_REQUEST_BYTES, until.unwrap_or(u64::MAX), resource, scopes);
            let Some(request) = request else { return Ok(None) };
            // Runs no Python code: bytes are nothing to the garbage collector.
            let body = PyBytes::new_with(py, request.byte_len(), |out| {
                request.write(out);
                Ok(())
            })?;
            Ok(Some((body, request.take())))
        })
    }

    fn discard(&self, py: Python<'_>, reason: &str) {
        self.outgoing.with(py, |outgoing| outgoing.queue.discard(reason));
    }

    fn forget(&self, py: Python<'_>) {
        self.supply.with(py, |supply| supply.sampled_out = 0);
        self.outgoing.with(py, |outgoing| outgoing.queue.forget());
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.complain)?;
        visit.call(&self.id_generator)?;
        if let Decider::Python(sampler) = &self.decider {
            visit.call(sampler)?;
        }
        self.told.visit(&visit, |told| {
            visit.call(&told.batch)?;
            visit.call(&told.listener)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _told = self.told.with(py, std::mem::take);
        let _contexts = self.supply.with(py, |supply| std::mem::take(&mut supply.contexts));
        let _blocks = self.supply.with(py, |supply| std::mem::take(&mut supply.blocks));
    }
}

impl Recorder {
    /// Takes an instrumentation scope; returns its index.
    pub fn add_scope(
        &self,
        name: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        schema_url: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u32> {
        let text = |value: &Bound<'_, PyAny>| self.text(value, "A part of an instrumentation scope");
        let encoded = self.collect(3, attributes)?;
        let encoded = Scope::new(&text(name)?, &text(version)?, &text(schema_url)?, &encoded);
        Ok(self.outgoing.with(name.py(), |outgoing| {
            outgoing.scopes.push(encoded);
            outgoing.scopes.len() as u32 - 1
        }))
    }

    fn collect(&self, field: u8, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<Attributes> {
        let complain = self.complaints();
        let mut collected = Collected::new(field, AttributeLimits::default(), &complain);
        if let Some(attributes) = attributes.filter(|attributes| !attributes.is_none()) {
            convert::set_attributes(attributes, &mut collected)?;
        }
        Ok(collected.attributes)
    }
}

/// Puts one into a pool; gives it back when that is full.
fn put<T>(pool: &mut Vec<T>, one: T) -> Option<T> {
    if pool.len() >= POOLED_BLOCKS {
        return Some(one);
    }
    pool.push(one);
    None
}
