//! Ended items on their way to an OTLP request, and the counts of what became of them.

use std::collections::BTreeMap;

use crate::lane::{Lane, Spare};
use crate::request::{Piece, Request, Scope, part};
use crate::wire;

/// Counts since the recorder was made; they only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Items that ended or were left out.
    pub ended: u64,
    /// Items that the sampler or a pause left out.
    pub sampled_out: u64,
    /// Ended items given up, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// Who gives way to whom when there is no room, and who is sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    High,
    Normal,
    Low,
}

/// How many priorities there are.
const PRIORITIES: usize = 3;

/// What the queue takes: an ended span or a log record, yet to be written.
pub trait Item {
    fn priority(&self) -> Priority;

    /// Bytes of the message.
    fn message_len(&self) -> usize;

    /// Appends it as one field.
    ///
    /// :param len: its `message_len`.
    fn write(&self, len: usize, out: &mut Vec<u8>);
}

/// Encoded items, of each priority in the order of their end.
///
/// Bounded by items and by encoded bytes, exactly. What it takes of memory besides is an empty fifteenth of the full
/// chunks, for each priority two chunks that are not full, and 16 spare ones of at most 128 KiB; for each item at most
/// 64 bytes of whose it is.
pub struct Queue {
    lanes: [Lane; PRIORITIES],
    spare: Spare,
    pending: usize,
    bytes: usize,
    /// How many were ever taken in: the number of the next.
    taken_in: u64,
    max_items: usize,
    max_bytes: usize,
    closed: bool,
    pub counts: Counts,
}

impl Queue {
    /// :param max_items: most items that wait.
    /// :param max_bytes: most bytes of encoded items that wait.
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        Self {
            lanes: Default::default(),
            spare: Spare::default(),
            pending: 0,
            bytes: 0,
            taken_in: 0,
            max_items,
            max_bytes,
            closed: false,
            counts: Counts::default(),
        }
    }

    /// Takes an ended item, or counts why not: `shutdown`, `queue_full`, `too_large` for one that alone has more than
    /// all may have.
    ///
    /// When there is no room, the oldest of the lowest priority give way, counted as `queue_full`, as many as it needs;
    /// none, if those below its own priority are not enough. The oldest, for they begin the lane: there nothing has to
    /// be moved, and what is said of the present is said by the newest.
    ///
    /// Returns how many wait, 0 when it was refused.
    pub fn offer(&mut self, scope: u32, item: &impl Item) -> usize {
        self.counts.ended += 1;
        let priority = item.priority();
        let len = item.message_len();
        let bytes = wire::len_field_len(len);
        let room = self.pending < self.max_items && bytes <= self.max_bytes - self.bytes;
        if !room && !self.make_room(priority, bytes) {
            return 0;
        }
        self.lanes[priority as usize].append(&mut self.spare, self.taken_in, scope, item, len, bytes);
        self.taken_in += 1;
        self.bytes += bytes;
        self.pending += 1;
        self.pending
    }

    /// Makes lower priorities give way; counts an item for which they can't.
    #[cold]
    fn make_room(&mut self, priority: Priority, bytes: usize) -> bool {
        let lower = &self.lanes[priority as usize + 1..];
        let items = self.pending - lower.iter().map(|lane| lane.items).sum::<usize>();
        let kept = self.bytes - lower.iter().map(|lane| lane.bytes).sum::<usize>();
        let refused = if self.closed {
            "shutdown"
        } else if bytes > self.max_bytes {
            "too_large"
        } else if items >= self.max_items || kept + bytes > self.max_bytes {
            "queue_full"
        } else {
            ""
        };
        if !refused.is_empty() {
            self.drop_counted(1, refused);
            return false;
        }
        let mut shed = 0;
        while self.pending >= self.max_items || bytes > self.max_bytes - self.bytes {
            let Some(lane) = self.lanes.iter_mut().rfind(|lane| lane.items > 0) else { break };
            self.bytes -= lane.remove_oldest(&mut self.spare);
            self.pending -= 1;
            shed += 1;
        }
        self.drop_counted(shed, "queue_full");
        true
    }

    /// Counts items that were left out.
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

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The moment, for `waits` and `request`: the number of the item that comes next.
    pub fn mark(&self) -> u64 {
        self.taken_in
    }

    /// Whether anything still waits that came before a moment.
    pub fn waits(&self, until: u64) -> bool {
        self.lanes.iter().any(|lane| lane.head().is_some_and(|head| head < until))
    }

    /// Items that end from now on are dropped as `shutdown`.
    pub fn close(&mut self) {
        self.closed = true;
        self.max_items = 0; // So that `offer` need not ask.
    }

    /// The oldest items of the highest priority, then of the next, up to `max_items` and at most `max_bytes` of them, but
    /// one at least, as the body of an `ExportTraceServiceRequest`: there they are in the order of their end. They wait
    /// until the request is taken.
    ///
    /// :param until: a `mark`: leaves out what came later.
    /// :param resource: the body of the `Resource`.
    pub fn request<'a>(
        &'a mut self,
        max_items: usize,
        max_bytes: usize,
        until: u64,
        resource: &'a [u8],
        scopes: &'a [Scope],
    ) -> Option<Request<'a>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut items, mut bytes) = (0, 0);
        'lanes: for (number, lane) in self.lanes.iter().enumerate() {
            for (place, chunk) in lane.chunks.iter().enumerate() {
                let mut start = chunk.head;
                for run in &chunk.runs[chunk.first..] {
                    let (waiting, left) = (run.items_until(until), max_bytes.saturating_sub(bytes));
                    let most_items = (max_items - items).min(waiting);
                    let (run_items, run_bytes) = if run.items == most_items && run.bytes <= left {
                        (run.items, run.bytes)
                    } else {
                        part(&chunk.bytes[start..start + run.bytes], most_items, left, items == 0)
                    };
                    if run_items > 0 {
                        let (scope, end) = (run.scope, run.end);
                        pieces.push(Piece {
                            scope,
                            lane: number,
                            chunk: place,
                            start,
                            items: run_items,
                            bytes: run_bytes,
                            end,
                        });
                        start += run_bytes;
                        items += run_items;
                        bytes += run_bytes;
                    }
                    if run_items < waiting {
                        break 'lanes;
                    }
                    if waiting < run.items {
                        continue 'lanes;
                    }
                }
            }
        }
        (items > 0).then(|| Request::new(self, pieces, items, resource, scopes))
    }

    pub(crate) fn take(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            self.lanes[piece.lane].remove(&mut self.spare, piece.items, piece.bytes);
            self.pending -= piece.items;
            self.bytes -= piece.bytes;
        }
    }

    /// Encoded items of a chunk.
    pub(crate) fn piece(&self, piece: &Piece) -> &[u8] {
        &self.lanes[piece.lane].chunks[piece.chunk].bytes[piece.start..piece.start + piece.bytes]
    }

    fn clear(&mut self) {
        for lane in &mut self.lanes {
            lane.clear(&mut self.spare);
        }
        (self.pending, self.bytes) = (0, 0);
    }

    /// Drops every waiting item under `reason`.
    pub fn discard(&mut self, reason: &str) {
        if self.pending > 0 {
            self.drop_counted(self.pending as u64, reason);
            self.clear();
        }
    }

    /// Lets go of every waiting item and of every count: in a fork child they are the parent's.
    pub fn forget(&mut self) {
        self.clear();
        self.counts = Counts::default();
    }
}

#[cfg(test)]
mod tests;
