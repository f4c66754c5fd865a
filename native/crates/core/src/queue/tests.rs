use super::*;
use crate::attributes::Attributes;
use crate::lane::CHUNK;
use crate::wire::{Field, Fields};

struct Raw<'a>(Priority, &'a [u8]);

impl Item for Raw<'_> {
    fn priority(&self) -> Priority {
        self.0
    }

    fn message_len(&self) -> usize {
        self.1.len()
    }

    fn write(&self, _: usize, out: &mut Vec<u8>) {
        wire::len_field(out, 2, self.1);
    }
}

const PLENTY: usize = 1 << 30;

fn scope(name: &str) -> Scope {
    Scope::new(name, "", "", &Attributes::new(3))
}

fn offer(queue: &mut Queue, scope: u32, name: u8) -> usize {
    queue.offer(scope, &Raw(Priority::Normal, &[name]))
}

fn drain(queue: &mut Queue, max_items: usize, max_bytes: usize, scopes: &[Scope]) -> Option<(Vec<u8>, usize)> {
    let request = queue.request(max_items, max_bytes, u64::MAX, b"", scopes)?;
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
    let mut queue = Queue::new(10, PLENTY);
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
    let mut queue = Queue::new(10, PLENTY);
    (0..3).for_each(|name| {
        offer(&mut queue, 0, name);
    });
    assert_eq!(drain(&mut queue, 10, 7, &scopes).unwrap().1, 2);
    assert_eq!(drain(&mut queue, 10, 0, &scopes).unwrap().1, 1);
}

#[test]
fn counts_balance() {
    let mut queue = Queue::new(2, PLENTY);
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
    let mut queue = Queue::new(100, PLENTY);
    for round in 0..10_000 {
        offer(&mut queue, 0, 1);
        offer(&mut queue, 0, 2);
        if round > 10 {
            drain(&mut queue, 2, 1 << 20, &scopes);
        }
    }
    assert_eq!(queue.pending(), 22);
    assert!(queue.lanes.each_ref().map(|lane| lane.chunks.len()).iter().sum::<usize>() <= 2);
    assert!(queue.spare.capacities().len() <= 3);
}

#[test]
fn a_request_that_is_not_taken_leaves_the_queue_as_it_was() {
    let scopes = [scope("a")];
    let mut queue = Queue::new(10, PLENTY);
    offer(&mut queue, 0, 1);
    assert_eq!(queue.request(10, 1 << 20, u64::MAX, b"", &scopes).unwrap().items(), 1);
    assert_eq!(queue.pending(), 1);
    assert_eq!(drain(&mut queue, 10, 1 << 20, &scopes).unwrap().1, 1);
    assert_eq!(queue.pending(), 0);
}

#[test]
fn however_it_is_cut_every_span_comes_once_and_in_order() {
    let scopes = [scope("a"), scope("b")];
    // Lengths from a byte to more than a chunk, runs of several lengths, requests across chunks.
    for (max_items, max_bytes) in [(1, 1 << 20), (7, 1 << 20), (512, 1 << 20), (10_000, 70_000), (10_000, 1 << 30)] {
        let mut queue = Queue::new(usize::MAX, usize::MAX);
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
                let mut body = vec![0; len];
                body[..2].copy_from_slice(&number.to_le_bytes());
                queue.offer(scope, &Raw(Priority::Normal, &body));
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
        assert!(queue.lanes.iter().all(|lane| lane.chunks.is_empty()));
        assert!(queue.spare.capacities().iter().all(|capacity| *capacity <= 2 * CHUNK));
    }
}

/// Names of the items that a request for all takes, in order.
fn rest(queue: &mut Queue, scopes: &[Scope]) -> Vec<u8> {
    let request = drain(queue, usize::MAX, usize::MAX, scopes);
    request.map_or(vec![], |(request, _)| decoded(&request).into_iter().flat_map(|(_, names)| names).collect())
}

#[test]
fn the_oldest_of_the_lowest_priority_gives_way_and_no_higher_one() {
    use Priority::{High, Low, Normal};
    let scopes = [scope("a")];
    let mut queue = Queue::new(4, PLENTY);
    for (name, priority) in [(1, Normal), (2, Low), (3, Low), (4, High)] {
        queue.offer(0, &Raw(priority, &[name]));
    }
    let pending = [(5, Low), (6, High), (7, Normal), (8, Normal), (9, High), (10, High), (11, High), (12, High)]
        .map(|(name, priority)| queue.offer(0, &Raw(priority, &[name])));
    // 5 and 8 find nothing below them; 6 and 7 take the place of 2 and 3; 9 and 10 that of 1 and 7; 11 and 12 none.
    assert_eq!(pending, [0, 4, 4, 0, 4, 4, 0, 0]);
    assert_eq!(queue.counts.dropped["queue_full"], 8);
    assert_eq!(rest(&mut queue, &scopes), [4, 6, 9, 10]);
}

#[test]
fn bytes_bound_what_waits_and_nothing_goes_in_vain() {
    use Priority::{High, Low, Normal};
    let scopes = [scope("a")];
    let mut queue = Queue::new(usize::MAX, 100);
    let item = |priority, name: u8, len: usize| (priority, vec![name; len - 2]);
    for (priority, body) in [item(Normal, 1, 40), item(Low, 2, 20), item(Low, 3, 20), item(Low, 4, 20)] {
        assert!(queue.offer(0, &Raw(priority, &body)) > 0);
    }
    assert_eq!(queue.bytes(), 100);
    // Too much even if all that is low went: it stays.
    let (priority, body) = item(Normal, 5, 61);
    assert_eq!((queue.offer(0, &Raw(priority, &body)), queue.pending()), (0, 4));
    // Two of three are enough.
    let (priority, body) = item(High, 6, 30);
    assert_eq!(queue.offer(0, &Raw(priority, &body)), 3);
    assert_eq!(queue.bytes(), 90);
    let (priority, body) = item(High, 7, 101);
    assert_eq!(queue.offer(0, &Raw(priority, &body)), 0);
    assert_eq!(queue.counts.dropped, BTreeMap::from([("queue_full".to_owned(), 3), ("too_large".to_owned(), 1)]));
    assert_eq!(rest(&mut queue, &scopes), [1, 4, 6], "in the order of their end");
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn what_came_after_a_mark_is_left_out() {
    use Priority::{High, Normal};
    let scopes = [scope("a")];
    let mut queue = Queue::new(4, PLENTY);
    let offer = |queue: &mut Queue, priority, name| queue.offer(0, &Raw(priority, &[name]));
    (1..=3).for_each(|name| {
        offer(&mut queue, Normal, name);
    });
    let mark = queue.mark();
    (4..=5).for_each(|name| {
        offer(&mut queue, High, name);
    });
    let mut drain = |max_items, mark| {
        let request = queue.request(max_items, PLENTY, mark, b"", &scopes)?;
        let mut bytes = vec![0; request.byte_len()];
        request.write(&mut bytes);
        request.take();
        Some(decoded(&bytes)[0].1.clone())
    };
    // 1 has given way to 5.
    assert_eq!(drain(1, mark), Some(vec![2]));
    assert_eq!(drain(9, mark), Some(vec![3]));
    assert_eq!(drain(9, mark), None);
    assert_eq!(drain(9, u64::MAX), Some(vec![4, 5]));
}

/// What the queue is to do, item by item.
#[derive(Default)]
struct Model {
    waiting: Vec<(Priority, u32, usize)>,
    dropped: BTreeMap<String, u64>,
}

impl Model {
    fn drop(&mut self, reason: &str) {
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
    }

    fn fits(&self, bytes: usize, max_items: usize, max_bytes: usize) -> bool {
        self.waiting.len() < max_items && self.bytes() + bytes <= max_bytes
    }

    fn bytes(&self) -> usize {
        self.waiting.iter().map(|(.., bytes)| bytes).sum()
    }

    fn offer(&mut self, item: (Priority, u32, usize), max_items: usize, max_bytes: usize) {
        if item.2 > max_bytes {
            return self.drop("too_large");
        }
        let before = self.waiting.clone();
        let mut shed = 0;
        while !self.fits(item.2, max_items, max_bytes) {
            let lowest = self.waiting.iter().map(|(priority, ..)| *priority).max();
            match lowest {
                Some(lowest) if lowest > item.0 => {
                    let oldest = self.waiting.iter().position(|(priority, ..)| *priority == lowest);
                    self.waiting.remove(oldest.unwrap());
                    shed += 1;
                }
                _ => {
                    self.waiting = before;
                    return self.drop("queue_full");
                }
            }
        }
        (0..shed).for_each(|_| self.drop("queue_full"));
        self.waiting.push(item);
    }

    fn take(&mut self, max_items: usize, max_bytes: usize) -> Vec<u32> {
        self.waiting.sort_by_key(|(priority, ..)| *priority); // stable
        let (mut items, mut bytes) = (0, 0);
        for (.., len) in &self.waiting {
            if items == max_items || (items > 0 && bytes + len > max_bytes) {
                break;
            }
            items += 1;
            bytes += len;
        }
        self.waiting.drain(..items).map(|(_, number, _)| number).collect()
    }
}

#[test]
fn it_does_as_its_model_whatever_comes() {
    let scopes = [scope("a"), scope("b")];
    for seed in 1..=60u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (max_items, max_bytes) = (1 + random(400), 1_000 + random(400_000));
        let (mut queue, mut model, mut taken) = (Queue::new(max_items, max_bytes), Model::default(), 0);
        for number in 0..1_500u32 {
            let priority = [Priority::High, Priority::Normal, Priority::Low][random(3)];
            let len = match random(100) {
                0 => 4 + random(500_000),
                1..=9 => 4 + random(20_000),
                _ => 4 + random(400),
            };
            let mut body = vec![0; len];
            body[..4].copy_from_slice(&number.to_le_bytes());
            let pending = queue.offer(random(2) as u32, &Raw(priority, &body));
            let before = model.dropped.values().sum::<u64>();
            model.offer((priority, number, wire::len_field_len(len)), max_items, max_bytes);
            if pending == 0 {
                assert_eq!(model.dropped.values().sum::<u64>(), before + 1);
            }
            if random(200) == 0 {
                let (most_items, most_bytes) = (1 + random(300), random(200_000));
                let got = drain(&mut queue, most_items, most_bytes, &scopes);
                let numbers = got.map_or(vec![], |(request, _)| numbers(&request));
                let mut expected = model.take(most_items, most_bytes);
                expected.sort_unstable();
                taken += expected.len();
                assert_eq!(numbers, expected, "seed {seed}");
            }
            assert_eq!((queue.pending(), queue.bytes()), (model.waiting.len(), model.bytes()), "seed {seed}");
            assert_eq!(queue.counts.dropped, model.dropped);
            let held = queue.lanes.iter().flat_map(|lane| &lane.chunks).map(|chunk| chunk.bytes.capacity());
            assert!(held.sum::<usize>() <= queue.bytes() * 16 / 15 + 6 * CHUNK);
        }
        let accounted = taken + queue.pending() + queue.counts.dropped.values().sum::<u64>() as usize;
        assert_eq!((queue.counts.ended, accounted), (1_500, 1_500));
    }
}

fn numbers(request: &[u8]) -> Vec<u32> {
    let Some((1, Field::Len(resource_spans))) = Fields(request).next() else { panic!("no resource") };
    let mut numbers = Vec::new();
    for (number, field) in Fields(resource_spans) {
        let (2, Field::Len(scope_spans)) = (number, field) else { continue };
        let before = numbers.len();
        for (number, field) in Fields(scope_spans) {
            if let (2, Field::Len(span)) = (number, field) {
                numbers.push(u32::from_le_bytes(span[..4].try_into().unwrap()));
            }
        }
        assert!(numbers[before..].is_sorted(), "each scope's in the order of their end");
    }
    numbers.sort_unstable();
    numbers
}
