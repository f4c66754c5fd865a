//! Ended spans on their way to an OTLP request, and the counts of what became of them.

use std::collections::{BTreeMap, VecDeque};

use crate::attributes::Attributes;
use crate::wire;

/// An instrumentation scope, encoded once.
pub struct Scope {
    scope: Vec<u8>,
    schema_url: Vec<u8>,
}

impl Scope {
    /// :param attributes: made for field 3.
    pub fn new(name: &str, version: &str, schema_url: &str, attributes: &Attributes) -> Self {
        let mut body = Vec::new();
        for (field, text) in [(1, name), (2, version)] {
            if !text.is_empty() {
                wire::len_field(&mut body, field, text.as_bytes());
            }
        }
        attributes.write(&mut body);
        let mut scope = Self { scope: Vec::new(), schema_url: Vec::new() };
        wire::len_field(&mut scope.scope, 1, &body);
        if !schema_url.is_empty() {
            wire::len_field(&mut scope.schema_url, 3, schema_url.as_bytes());
        }
        scope
    }
}

/// Counts since the recorder was made; they only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Spans that ended or were left out.
    pub ended: u64,
    /// Spans that the sampler or a pause left out.
    pub sampled_out: u64,
    /// Ended spans given up, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// Encoded spans in the order of their end, in one buffer.
pub struct Queue {
    bytes: Vec<u8>,
    head: usize,
    spans: VecDeque<(u32, usize)>,
    max_items: usize,
    closed: bool,
    pub counts: Counts,
}

// Memory that an empty queue keeps.
const KEPT: usize = 1 << 20;

impl Queue {
    /// :param max_items: most spans that wait; the newest is refused when full.
    pub fn new(max_items: usize) -> Self {
        let counts = Counts::default();
        Self { bytes: Vec::new(), head: 0, spans: VecDeque::new(), max_items, closed: false, counts }
    }

    /// Takes an ended span, which `write` appends, or counts why not: `shutdown`, `queue_full`.
    ///
    /// Returns how many wait, 0 when it was refused.
    pub fn offer(&mut self, scope: u32, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.counts.ended += 1;
        if self.closed {
            self.drop_counted(1, "shutdown");
            return 0;
        }
        if self.spans.len() >= self.max_items {
            self.drop_counted(1, "queue_full");
            return 0;
        }
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.spans.push_back((scope, self.bytes.len() - before));
        self.spans.len()
    }

    /// Counts spans that were left out.
    pub fn sampled_out(&mut self, count: u64) {
        self.counts.ended += count;
        self.counts.sampled_out += count;
    }

    fn drop_counted(&mut self, count: u64, reason: &str) {
        if let Some(dropped) = self.counts.dropped.get_mut(reason) {
            *dropped += count;
        } else {
            self.counts.dropped.insert(reason.to_owned(), count);
        }
    }

    /// How many wait.
    pub fn pending(&self) -> usize {
        self.spans.len()
    }

    /// Spans that end from now on are dropped as `shutdown`.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Takes up to `max_items` of the oldest spans and at most `max_bytes` of them, but one at least, as the body of an
    /// `ExportTraceServiceRequest`.
    ///
    /// :param resource: the body of the `Resource`.
    pub fn drain(
        &mut self,
        max_items: usize,
        max_bytes: usize,
        resource: &[u8],
        scopes: &[Scope],
    ) -> Option<(Vec<u8>, usize)> {
        // Each scope that has spans, in the order of its first: its length, and the places of its spans.
        let mut groups: Vec<(u32, usize)> = Vec::new();
        let (mut taken, mut bytes) = (0, 0);
        for (scope, len) in self.spans.iter().take(max_items) {
            if taken > 0 && bytes + len > max_bytes {
                break;
            }
            taken += 1;
            bytes += len;
            match groups.iter_mut().find(|(known, _)| known == scope) {
                Some((_, total)) => *total += len,
                None => groups.push((*scope, *len)),
            }
        }
        if taken == 0 {
            return None;
        }
        let empty = Scope { scope: Vec::new(), schema_url: Vec::new() };
        let scope_of = |index: u32| scopes.get(index as usize).unwrap_or(&empty);
        let scope_len = |scope: &Scope, total: usize| scope.scope.len() + total + scope.schema_url.len();
        let body_len = wire::len_field_len(resource.len())
            + groups
                .iter()
                .map(|(index, total)| wire::len_field_len(scope_len(scope_of(*index), *total)))
                .sum::<usize>();
        let mut out = Vec::with_capacity(wire::len_field_len(body_len));
        out.push(wire::len_tag(1));
        wire::varint(&mut out, body_len as u64);
        wire::len_field(&mut out, 1, resource);
        for (index, total) in &groups {
            let scope = scope_of(*index);
            out.push(wire::len_tag(2));
            wire::varint(&mut out, scope_len(scope, *total) as u64);
            out.extend_from_slice(&scope.scope);
            let mut position = self.head;
            if groups.len() == 1 {
                out.extend_from_slice(&self.bytes[position..position + total]);
            } else {
                for (of, len) in self.spans.iter().take(taken) {
                    if of == index {
                        out.extend_from_slice(&self.bytes[position..position + len]);
                    }
                    position += len;
                }
            }
            out.extend_from_slice(&scope.schema_url);
        }
        self.spans.drain(..taken);
        self.head += bytes;
        self.reclaim();
        Some((out, taken))
    }

    fn reclaim(&mut self) {
        if self.spans.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.head = 0;
        } else if self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }

    /// Drops every waiting span under `reason`.
    pub fn discard(&mut self, reason: &str) {
        let waiting = self.spans.len() as u64;
        if waiting > 0 {
            self.drop_counted(waiting, reason);
            self.spans.clear();
            self.reclaim();
        }
    }

    /// Lets go of every waiting span and of every count: in a fork child they are the parent's.
    pub fn forget(&mut self) {
        self.spans.clear();
        self.reclaim();
        self.counts = Counts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Field, Fields};

    fn scope(name: &str) -> Scope {
        Scope::new(name, "", "", &Attributes::new(3))
    }

    fn offer(queue: &mut Queue, scope: u32, name: u8) -> usize {
        queue.offer(scope, |out| wire::len_field(out, 2, &[name]))
    }

    /// The spans of each scope of a request.
    fn decoded(request: &[u8]) -> Vec<(String, Vec<u8>)> {
        let Some((1, Field::Len(resource_spans))) = Fields(request).next() else { panic!("no resource") };
        assert_eq!(Fields(request).count(), 1);
        Fields(resource_spans)
            .filter_map(|(number, field)| match (number, field) {
                (2, Field::Len(scope_spans)) => Some(scope_spans),
                _ => None,
            })
            .map(|scope_spans| {
                let (mut name, mut spans) = (String::new(), Vec::new());
                for (number, field) in Fields(scope_spans) {
                    match (number, field) {
                        (1, Field::Len(body)) => name = String::from_utf8(body[2..].to_vec()).unwrap(),
                        (2, Field::Len(span)) => spans.push(span[0]),
                        _ => {}
                    }
                }
                (name, spans)
            })
            .collect()
    }

    #[test]
    fn a_request_groups_by_scope_and_keeps_the_order() {
        let scopes = [scope("a"), scope("b")];
        let mut queue = Queue::new(10);
        for (scope, name) in [(1, 1), (0, 2), (1, 3), (0, 4), (1, 5)] {
            offer(&mut queue, scope, name);
        }
        let (request, count) = queue.drain(4, 1 << 20, b"", &scopes).unwrap();
        assert_eq!(count, 4);
        assert_eq!(decoded(&request), [("b".to_owned(), vec![1, 3]), ("a".to_owned(), vec![2, 4])]);
        let (request, count) = queue.drain(4, 1 << 20, b"", &scopes).unwrap();
        assert_eq!((decoded(&request), count), (vec![("b".to_owned(), vec![5])], 1));
        assert!(queue.drain(4, 1 << 20, b"", &scopes).is_none());
    }

    #[test]
    fn a_request_is_no_longer_than_asked_but_has_one_span() {
        let scopes = [scope("a")];
        let mut queue = Queue::new(10);
        (0..3).for_each(|name| {
            offer(&mut queue, 0, name);
        });
        assert_eq!(queue.drain(10, 7, b"", &scopes).unwrap().1, 2);
        assert_eq!(queue.drain(10, 0, b"", &scopes).unwrap().1, 1);
    }

    #[test]
    fn counts_balance() {
        let mut queue = Queue::new(2);
        for name in 0..3 {
            offer(&mut queue, 0, name);
        }
        queue.sampled_out(1);
        queue.discard("why");
        queue.close();
        assert_eq!(offer(&mut queue, 0, 9), 0);
        let counts = queue.counts.clone();
        assert_eq!((counts.ended, counts.sampled_out), (5, 1));
        assert_eq!(counts.dropped.values().sum::<u64>(), 4);
        assert_eq!(counts.dropped["why"], 2);
        queue.forget();
        assert_eq!((queue.counts, queue.spans.len()), (Counts::default(), 0));
    }

    #[test]
    fn a_long_run_takes_no_more_room_than_what_waits() {
        let scopes = [scope("a")];
        let mut queue = Queue::new(100);
        for round in 0..10_000 {
            offer(&mut queue, 0, 1);
            offer(&mut queue, 0, 2);
            if round > 10 {
                queue.drain(2, 1 << 20, b"", &scopes);
            }
        }
        assert!(queue.bytes.len() < 1000);
    }
}
