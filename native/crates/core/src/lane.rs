//! What waits of one priority: encoded items in the order of their end.

use std::collections::VecDeque;

use crate::queue::Item;
use crate::request::part;

/// Items of one scope and one priority that ended one after the other.
pub(crate) struct Run {
    pub scope: u32,
    pub items: usize,
    pub bytes: usize,
    /// The number of the item that came after its last.
    pub end: u64,
}

impl Run {
    /// How many of its items came before the one of that number.
    pub fn items_until(&self, number: u64) -> usize {
        self.items - self.end.saturating_sub(number).min(self.items as u64) as usize
    }
}

/// A piece of a lane: items as fields of a `ScopeSpans`, and whose they are.
#[derive(Default)]
pub(crate) struct Chunk {
    pub bytes: Vec<u8>,
    pub runs: Vec<Run>,
    /// Where the oldest item that waits begins, and in which run.
    pub head: usize,
    pub first: usize,
}

/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 64 << 10;
/// A chunk with less room than this takes no further item. One with more takes an item of any size and grows by no more
/// than that needs, so that of the memory for full chunks at most this share is empty.
const ROOM: usize = 4 << 10;
/// Chunks that are kept for later, all lanes together.
const SPARE: usize = 16;

/// Emptied chunks for those to come.
#[derive(Default)]
pub(crate) struct Spare(Vec<Chunk>);

impl Spare {
    /// Keeps a chunk, unless a large item has made it large.
    fn put(&mut self, mut chunk: Chunk) {
        if self.0.len() < SPARE && chunk.bytes.capacity() <= 2 * CHUNK {
            chunk.bytes.clear();
            chunk.runs.clear();
            chunk.head = 0;
            chunk.first = 0;
            self.0.push(chunk);
        }
    }

    #[cfg(test)]
    pub(crate) fn capacities(&self) -> Vec<usize> {
        self.0.iter().map(|chunk| chunk.bytes.capacity()).collect()
    }
}

/// A queue in pieces, so that it never copies all that waits when it grows: that would stop the application for
/// milliseconds.
#[derive(Default)]
pub(crate) struct Lane {
    pub chunks: VecDeque<Chunk>,
    pub items: usize,
    pub bytes: usize,
}

impl Lane {
    /// :param number: the item's; they grow by one from item to item, all lanes together.
    /// :param len: the item's `message_len`; `bytes`, that of its field.
    #[inline]
    pub fn append(&mut self, spare: &mut Spare, number: u64, scope: u32, item: &impl Item, len: usize, bytes: usize) {
        if self.chunks.back().is_none_or(|chunk| chunk.bytes.len() > CHUNK - ROOM) {
            self.grow(spare, bytes);
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        chunk.bytes.reserve_exact(bytes);
        let before = chunk.bytes.len();
        item.write(len, &mut chunk.bytes);
        debug_assert_eq!(chunk.bytes.len() - before, bytes, "an item is as long as it says");
        match chunk.runs.last_mut() {
            Some(run) if run.scope == scope && run.end == number => {
                run.items += 1;
                run.bytes += bytes;
                run.end += 1;
            }
            _ => chunk.runs.push(Run { scope, items: 1, bytes, end: number + 1 }),
        }
        self.items += 1;
        self.bytes += bytes;
    }

    #[cold]
    fn grow(&mut self, spare: &mut Spare, bytes: usize) {
        let new = || Chunk { bytes: Vec::with_capacity(CHUNK.max(bytes)), ..Chunk::default() };
        self.chunks.push_back(spare.0.pop().unwrap_or_else(new));
    }

    /// Takes out the oldest items of the first run.
    pub fn remove(&mut self, spare: &mut Spare, items: usize, bytes: usize) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        let run = &mut chunk.runs[chunk.first];
        run.items -= items;
        run.bytes -= bytes;
        chunk.first += usize::from(run.items == 0);
        chunk.head += bytes;
        self.items -= items;
        self.bytes -= bytes;
        if chunk.first == chunk.runs.len() {
            self.retire(spare);
        }
    }

    /// Takes out the oldest; says how many bytes it had.
    pub fn remove_oldest(&mut self, spare: &mut Spare) -> usize {
        let Some(chunk) = self.chunks.front() else { return 0 };
        let run = &chunk.runs[chunk.first];
        let (_, bytes) = part(&chunk.bytes[chunk.head..chunk.head + run.bytes], 1, usize::MAX, true);
        self.remove(spare, 1, bytes);
        bytes
    }

    /// The number of the oldest.
    pub fn head(&self) -> Option<u64> {
        let chunk = self.chunks.front()?;
        let run = &chunk.runs[chunk.first];
        Some(run.end - run.items as u64)
    }

    /// Takes out all.
    pub fn clear(&mut self, spare: &mut Spare) {
        while !self.chunks.is_empty() {
            self.retire(spare);
        }
        (self.items, self.bytes) = (0, 0);
    }

    fn retire(&mut self, spare: &mut Spare) {
        if let Some(chunk) = self.chunks.pop_front() {
            spare.put(chunk);
        }
    }
}
