//! Spans and log records as data, from their start to the bytes of an OTLP request. Knows no Python, has no threads, touches no network.
#![forbid(unsafe_code)]

pub mod attributes;
pub mod b3;
pub mod clock;
pub mod http;
pub mod ids;
mod lane;
pub mod log;
pub mod queue;
pub mod request;
pub mod sampler;
pub mod span;
pub mod trace_context;
pub mod wire;
