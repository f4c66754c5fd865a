//! An OTLP request of what waits in a queue.

use crate::attributes::Attributes;
use crate::queue::Queue;
use crate::wire::{self, Fields};

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

/// How many of the first spans, of so many and so many bytes at most, and their bytes.
///
/// :param one: whether the first is taken whatever its size.
pub(crate) fn part(spans: &[u8], max_items: usize, max_bytes: usize, one: bool) -> (usize, usize) {
    let mut rest = Fields(spans);
    let (mut items, mut bytes) = (0, 0);
    while items < max_items && rest.next().is_some() {
        let end = spans.len() - rest.0.len();
        if end > max_bytes && !(one && items == 0) {
            break;
        }
        items += 1;
        bytes = end;
    }
    (items, bytes)
}

/// Items of one run that go into a request.
pub(crate) struct Piece {
    pub scope: u32,
    pub lane: usize,
    pub chunk: usize,
    pub start: usize,
    pub items: usize,
    pub bytes: usize,
    /// The run's, which says which of two pieces ended first.
    pub end: u64,
}

/// A scope that has items in a request, in the order of its first, and its pieces in the order of their end.
struct Group {
    scope: u32,
    bytes: usize,
    pieces: Vec<usize>,
}

fn grouped(pieces: &[Piece]) -> Vec<Group> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_unstable_by_key(|place| pieces[*place].end);
    let mut groups: Vec<Group> = Vec::new();
    for place in order {
        let Piece { scope, bytes, .. } = pieces[place];
        match groups.iter_mut().find(|group| group.scope == scope) {
            Some(group) => {
                group.bytes += bytes;
                group.pieces.push(place);
            }
            None => groups.push(Group { scope, bytes, pieces: vec![place] }),
        }
    }
    groups
}

/// A request that is yet to be written, so that its bytes are copied once, to where they are to be.
pub struct Request<'a> {
    queue: &'a mut Queue,
    pieces: Vec<Piece>,
    groups: Vec<Group>,
    items: usize,
    resource: &'a [u8],
    scopes: &'a [Scope],
    body_len: usize,
}

static NO_SCOPE: Scope = Scope { scope: Vec::new(), schema_url: Vec::new() };

impl<'a> Request<'a> {
    pub(crate) fn new(
        queue: &'a mut Queue,
        pieces: Vec<Piece>,
        items: usize,
        resource: &'a [u8],
        scopes: &'a [Scope],
    ) -> Self {
        let groups = grouped(&pieces);
        let mut request = Self { queue, pieces, groups, items, resource, scopes, body_len: 0 };
        let lens = request.groups.iter().map(|group| wire::len_field_len(request.scope_len(group)));
        request.body_len = wire::len_field_len(resource.len()) + lens.sum::<usize>();
        request
    }

    fn scope(&self, group: &Group) -> &'a Scope {
        self.scopes.get(group.scope as usize).unwrap_or(&NO_SCOPE)
    }

    fn scope_len(&self, group: &Group) -> usize {
        let scope = self.scope(group);
        scope.scope.len() + group.bytes + scope.schema_url.len()
    }

    /// Bytes that it takes.
    pub fn byte_len(&self) -> usize {
        wire::len_field_len(self.body_len)
    }

    /// Spans in it.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Writes it.
    ///
    /// # Panics
    ///
    /// If `out` isn't `byte_len` long.
    pub fn write(&self, mut out: &mut [u8]) {
        let mut put = |bytes: &[u8]| {
            let (head, rest) = std::mem::take(&mut out).split_at_mut(bytes.len());
            head.copy_from_slice(bytes);
            out = rest;
        };
        let mut head = Vec::new();
        head.push(wire::len_tag(1));
        wire::varint(&mut head, self.body_len as u64);
        wire::len_field(&mut head, 1, self.resource);
        put(&head);
        for group in &self.groups {
            let scope = self.scope(group);
            head.clear();
            head.push(wire::len_tag(2));
            wire::varint(&mut head, self.scope_len(group) as u64);
            put(&head);
            put(&scope.scope);
            for place in &group.pieces {
                put(self.queue.piece(&self.pieces[*place]));
            }
            put(&scope.schema_url);
        }
        assert!(out.is_empty(), "a request is longer than was said");
    }

    /// Takes its spans out of the queue; returns how many.
    pub fn take(self) -> usize {
        self.queue.take(&self.pieces);
        self.items
    }
}
