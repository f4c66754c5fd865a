//! Ended spans on their way to an OTLP request, and the counts of what became of them.

use std::collections::{BTreeMap, VecDeque};

use crate::request::{Group, Piece, Request, Scope, part};

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

/// Spans of one scope that ended one after the other.
struct Run {
    scope: u32,
    items: usize,
    bytes: usize,
}

/// A piece of the queue: spans as fields of a `ScopeSpans`, and whose they are.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Where the oldest span that waits begins, and in which run.
    head: usize,
    first: usize,
}

/// Encoded spans in the order of their end.
///
/// In pieces, so that it never copies what waits when it grows, whatever its size: that would stop the application for
/// milliseconds.
pub struct Queue {
    chunks: VecDeque<Chunk>,
    spare: Vec<Chunk>,
    pending: usize,
    max_items: usize,
    closed: bool,
    pub counts: Counts,
}

/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// A chunk with less room than this takes no further span.
const ROOM: usize = 4 << 10;
/// Chunks that an empty queue keeps.
const SPARE: usize = 16;

impl Chunk {
    fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
        self.head = 0;
        self.first = 0;
    }
}

impl Queue {
    /// :param max_items: most spans that wait; the newest is refused when full.
    pub fn new(max_items: usize) -> Self {
        let (chunks, spare) = (VecDeque::new(), Vec::new());
        Self { chunks, spare, pending: 0, max_items, closed: false, counts: Counts::default() }
    }

    /// Takes an ended span, which `write` appends as one field, or counts why not: `shutdown`, `queue_full`.
    ///
    /// Returns how many wait, 0 when it was refused.
    pub fn offer(&mut self, scope: u32, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.counts.ended += 1;
        if self.closed {
            self.drop_counted(1, "shutdown");
            return 0;
        }
        if self.pending >= self.max_items {
            self.drop_counted(1, "queue_full");
            return 0;
        }
        if self.chunks.back().is_none_or(|chunk| chunk.bytes.len() > CHUNK - ROOM) {
            self.grow();
        }
        let Some(chunk) = self.chunks.back_mut() else { return 0 };
        let before = chunk.bytes.len();
        write(&mut chunk.bytes);
        let bytes = chunk.bytes.len() - before;
        match chunk.runs.last_mut() {
            Some(run) if run.scope == scope => {
                run.items += 1;
                run.bytes += bytes;
            }
            _ => chunk.runs.push(Run { scope, items: 1, bytes }),
        }
        self.pending += 1;
        self.pending
    }

    #[cold]
    fn grow(&mut self) {
        let chunk = self.spare.pop().unwrap_or_else(|| Chunk { bytes: Vec::with_capacity(CHUNK), ..Chunk::default() });
        self.chunks.push_back(chunk);
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
        self.pending
    }

    /// Spans that end from now on are dropped as `shutdown`.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The oldest spans, up to `max_items` and at most `max_bytes` of them, but one at least, as the body of an
    /// `ExportTraceServiceRequest`. They wait until the request is taken.
    ///
    /// :param resource: the body of the `Resource`.
    pub fn request<'a>(
        &'a mut self,
        max_items: usize,
        max_bytes: usize,
        resource: &'a [u8],
        scopes: &'a [Scope],
    ) -> Option<Request<'a>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        let (mut items, mut bytes) = (0, 0);
        'all: for (place, chunk) in self.chunks.iter().enumerate() {
            let mut start = chunk.head;
            for run in &chunk.runs[chunk.first..] {
                let (most_items, most_bytes) = (max_items - items, max_bytes.saturating_sub(bytes));
                let (run_items, run_bytes) = if run.items <= most_items && run.bytes <= most_bytes {
                    (run.items, run.bytes)
                } else {
                    let most_items = most_items.min(run.items);
                    part(&chunk.bytes[start..start + run.bytes], most_items, most_bytes, items == 0)
                };
                if run_items == 0 {
                    break 'all;
                }
                let group = match groups.iter().position(|group| group.scope == run.scope) {
                    Some(known) => known,
                    None => {
                        groups.push(Group { scope: run.scope, bytes: 0 });
                        groups.len() - 1
                    }
                };
                groups[group].bytes += run_bytes;
                pieces.push(Piece { group, chunk: place, start, items: run_items, bytes: run_bytes });
                start += run_bytes;
                items += run_items;
                bytes += run_bytes;
                if run_items < run.items {
                    break 'all;
                }
            }
        }
        (items > 0).then(|| Request::new(self, pieces, groups, items, resource, scopes))
    }

    pub(crate) fn take(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let Some(chunk) = self.chunks.front_mut() else { return };
            let run = &mut chunk.runs[chunk.first];
            run.items -= piece.items;
            run.bytes -= piece.bytes;
            chunk.first += usize::from(run.items == 0);
            chunk.head += piece.bytes;
            self.pending -= piece.items;
            if chunk.first == chunk.runs.len() {
                self.retire();
            }
        }
    }

    /// Encoded spans of a chunk.
    pub(crate) fn bytes(&self, piece: &Piece) -> &[u8] {
        &self.chunks[piece.chunk].bytes[piece.start..piece.start + piece.bytes]
    }

    /// Empties the oldest chunk and keeps it for later, unless a large span has made it large.
    fn retire(&mut self) {
        if let Some(mut chunk) = self.chunks.pop_front()
            && self.spare.len() < SPARE
            && chunk.bytes.capacity() <= 2 * CHUNK
        {
            chunk.clear();
            self.spare.push(chunk);
        }
    }

    fn clear(&mut self) {
        while !self.chunks.is_empty() {
            self.retire();
        }
        self.pending = 0;
    }

    /// Drops every waiting span under `reason`.
    pub fn discard(&mut self, reason: &str) {
        if self.pending > 0 {
            self.drop_counted(self.pending as u64, reason);
            self.clear();
        }
    }

    /// Lets go of every waiting span and of every count: in a fork child they are the parent's.
    pub fn forget(&mut self) {
        self.clear();
        self.counts = Counts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;
    use crate::wire::{self, Field, Fields};

    fn scope(name: &str) -> Scope {
        Scope::new(name, "", "", &Attributes::new(3))
    }

    fn offer(queue: &mut Queue, scope: u32, name: u8) -> usize {
        queue.offer(scope, |out| wire::len_field(out, 2, &[name]))
    }

    fn drain(queue: &mut Queue, max_items: usize, max_bytes: usize, scopes: &[Scope]) -> Option<(Vec<u8>, usize)> {
        let request = queue.request(max_items, max_bytes, b"", scopes)?;
        let mut bytes = vec![0; request.byte_len()];
        request.write(&mut bytes);
        Some((bytes, request.take()))
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
        let (request, count) = drain(&mut queue, 4, 1 << 20, &scopes).unwrap();
        assert_eq!(count, 4);
        assert_eq!(decoded(&request), [("b".to_owned(), vec![1, 3]), ("a".to_owned(), vec![2, 4])]);
        let (request, count) = drain(&mut queue, 4, 1 << 20, &scopes).unwrap();
        assert_eq!((decoded(&request), count), (vec![("b".to_owned(), vec![5])], 1));
        assert!(drain(&mut queue, 4, 1 << 20, &scopes).is_none());
    }

    #[test]
    fn a_request_is_no_longer_than_asked_but_has_one_span() {
        let scopes = [scope("a")];
        let mut queue = Queue::new(10);
        (0..3).for_each(|name| {
            offer(&mut queue, 0, name);
        });
        assert_eq!(drain(&mut queue, 10, 7, &scopes).unwrap().1, 2);
        assert_eq!(drain(&mut queue, 10, 0, &scopes).unwrap().1, 1);
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
        assert_eq!((queue.counts.clone(), queue.pending()), (Counts::default(), 0));
    }

    #[test]
    fn a_long_run_takes_no_more_room_than_what_waits() {
        let scopes = [scope("a")];
        let mut queue = Queue::new(100);
        for round in 0..10_000 {
            offer(&mut queue, 0, 1);
            offer(&mut queue, 0, 2);
            if round > 10 {
                drain(&mut queue, 2, 1 << 20, &scopes);
            }
        }
        assert_eq!(queue.pending(), 22);
        assert!(queue.chunks.len() + queue.spare.len() <= 3);
    }

    #[test]
    fn a_request_that_is_not_taken_leaves_the_queue_as_it_was() {
        let scopes = [scope("a")];
        let mut queue = Queue::new(10);
        offer(&mut queue, 0, 1);
        assert_eq!(queue.request(10, 1 << 20, b"", &scopes).unwrap().items(), 1);
        assert_eq!(queue.pending(), 1);
        assert_eq!(drain(&mut queue, 10, 1 << 20, &scopes).unwrap().1, 1);
        assert_eq!(queue.pending(), 0);
    }

    #[test]
    fn however_it_is_cut_every_span_comes_once_and_in_order() {
        let scopes = [scope("a"), scope("b")];
        // Lengths from a byte to more than a chunk, runs of several lengths, requests across chunks.
        for (max_items, max_bytes) in [(1, 1 << 20), (7, 1 << 20), (512, 1 << 20), (10_000, 70_000), (10_000, 1 << 30)]
        {
            let mut queue = Queue::new(usize::MAX);
            let mut got: [Vec<u16>; 2] = Default::default();
            let mut expected = got.clone();
            let mut numbers = 0..2000u16;
            loop {
                for number in numbers.by_ref().take(700) {
                    let scope = u32::from(number / 5 % 3 == 0);
                    let len = match number % 400 {
                        399 => 100_000,
                        _ => 2 + usize::from(number) % 300,
                    };
                    expected[scope as usize].push(number);
                    queue.offer(scope, |out| {
                        let mut body = vec![0; len];
                        body[..2].copy_from_slice(&number.to_le_bytes());
                        wire::len_field(out, 2, &body);
                    });
                }
                let before = queue.pending();
                let Some((request, items)) = drain(&mut queue, max_items, max_bytes, &scopes) else { break };
                assert!(items <= max_items && (request.len() <= max_bytes + 100 || items == 1));
                assert_eq!(queue.pending(), before - items);
                let Some((1, Field::Len(body))) = Fields(&request).next() else { panic!("no resource") };
                for (number, field) in Fields(body) {
                    let (2, Field::Len(scope_spans)) = (number, field) else { continue };
                    let mut scope = 0;
                    for field in Fields(scope_spans) {
                        match field {
                            (1, Field::Len(body)) => scope = usize::from(body[2] - b'a'),
                            (2, Field::Len(span)) => got[scope].push(u16::from_le_bytes([span[0], span[1]])),
                            _ => panic!("another field"),
                        }
                    }
                }
            }
            assert_eq!(got, expected, "{max_items} {max_bytes}");
            assert!(queue.chunks.is_empty() && queue.spare.iter().all(|chunk| chunk.bytes.capacity() <= 2 * CHUNK));
        }
    }
}
