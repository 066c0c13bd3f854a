//! Datagrams that have been received, many at a time.

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use crate::dscp::Dscp;
use crate::ecn::Ecn;
use crate::envelope::segments;
use crate::packet::{Buffer, Packet};

/// A UDP datagram, and what the kernel coalesces of several, is shorter than this.
const BUFFER_BYTES: usize = 1 << 16;
/// What one receive call takes at most, coalesced ones counted as one.
const MAX_SLOTS: usize = 32;
/// What a receive call takes where datagrams come one by one: one, and room for another, so that the
/// call finds out that there is none.
const FEWEST_SLOTS: usize = 2;
/// How many buffers there may be by default, those included that are lent to [`Packet`]s.
const DEFAULT_LIMIT: usize = 256;

/// Reusable memory for datagrams that arrive together. One batch serves any number of sockets of a
/// thread.
///
/// Every buffer holds the longest datagram there is, and whatever the kernel may coalesce, so that
/// nothing is cut off. A buffer takes 64 KiB of addresses, and as much memory as was ever written to
/// it. There are as few of them as the traffic needs, at most 32, and those that are lent.
///
/// What is to outlive the next receive call, or to go to another thread, is
/// [shared](Datagram::share): the batch lends its buffer, and goes on with another one until it has
/// it back. So there is neither a copy nor, once the pool has grown, an allocation of the data.
pub struct RecvBatch {
    slots: Vec<Slot>,
    filled: usize,
    /// How many datagrams the next receive call is prepared for.
    wanted: usize,
    /// Buffers that were lent. Those that have come back are used again.
    lent: Vec<Arc<Buffer>>,
    /// How many slots of this filling have been lent.
    lending: Cell<usize>,
    max_slots: usize,
    limit: usize,
}

struct Slot {
    buffer: Arc<Buffer>,
    arrival: Arrival,
    is_lent: Cell<bool>,
}

/// What a server tells of a datagram, or of several that arrived as one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// How long each datagram is of those that arrived as one; zero if it is one.
    pub(crate) stride: usize,
    pub(crate) source: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    /// The TOS or traffic-class byte.
    pub(crate) tos: u8,
    pub(crate) received_at: Option<SystemTime>,
    pub(crate) is_truncated: bool,
    /// A firewall has turned it away.
    pub(crate) is_denied: bool,
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            len: 0,
            stride: 0,
            source: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            local_ip: None,
            tos: 0,
            received_at: None,
            is_truncated: false,
            is_denied: false,
        }
    }
}

impl Arrival {
    fn count(&self) -> usize {
        match self.stride {
            _ if self.is_denied => 0,
            0 => 1,
            stride => self.len.div_ceil(stride).max(1),
        }
    }
}

/// A datagram that has been received.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// What was sent; possibly nothing.
    pub data: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of this machine that it came to, if the system tells: on a socket bound to the
    /// unspecified address, the one to answer from.
    pub local_ip: Option<IpAddr>,
    /// The mark that the network may have put on it.
    pub ecn: Option<Ecn>,
    /// Its code point, which the network may have changed.
    pub dscp: Dscp,
    /// When the kernel received it, by the wall clock, if it tells.
    /// [`UdpSocket::arrived_at`](crate::UdpSocket::arrived_at) is the same by the monotonic clock.
    pub received_at: Option<SystemTime>,
    /// The end of it is missing: it was longer than the buffer.
    pub is_truncated: bool,
    batch: &'a RecvBatch,
    slot: &'a Slot,
    start: usize,
}

impl Datagram<'_> {
    /// The datagram's data, to be kept or sent to another thread. Not copied, unless so many buffers
    /// are lent already that the batch may run out of them.
    pub fn share(&self) -> Packet {
        match self.batch.may_lend(self.slot) {
            true => Packet::of_buffer(self.slot.buffer.clone(), self.start, self.data.len()),
            false => Packet::copied(self.data),
        }
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            filled: 0,
            wanted: FEWEST_SLOTS,
            lent: Vec::new(),
            lending: Cell::new(0),
            max_slots: MAX_SLOTS,
            limit: DEFAULT_LIMIT,
        }
    }
}

impl RecvBatch {
    /// An empty batch that owns, and lends, up to 256 buffers: 16 MiB of addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many buffers there may be, those included that are lent. The batch keeps 32 for itself;
    /// with no more than that, nothing is lent.
    #[must_use]
    pub fn with_buffer_limit(mut self, buffers: usize) -> Self {
        self.limit = buffers.max(1);
        self.max_slots = MAX_SLOTS.min(self.limit);
        self.wanted = self.wanted.min(self.max_slots);
        self
    }

    /// A batch that takes what one call for one datagram gives.
    pub(crate) fn single() -> Self {
        Self {
            wanted: 1,
            max_slots: 1,
            limit: 1,
            ..Self::default()
        }
    }

    /// The datagrams, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let filled = self.slots[..self.filled].iter();
        filled
            .filter(|slot| !slot.arrival.is_denied)
            .flat_map(move |slot| {
                let arrival = slot.arrival;
                let run = &slot.buffer[..arrival.len.min(slot.buffer.len())];
                let mut start = 0;
                segments(run, arrival.stride).map(move |data| {
                    let datagram = Datagram {
                        data,
                        source: arrival.source,
                        local_ip: arrival.local_ip,
                        ecn: Ecn::from_bits(arrival.tos),
                        dscp: Dscp::of_tos(arrival.tos),
                        received_at: arrival.received_at,
                        is_truncated: arrival.is_truncated,
                        batch: self,
                        slot,
                        start,
                    };
                    start += data.len();
                    datagram
                })
            })
    }

    /// How many datagrams there are.
    pub(crate) fn len(&self) -> usize {
        self.arrivals().map(Arrival::count).sum()
    }

    pub(crate) fn arrivals(&self) -> impl Iterator<Item = &Arrival> {
        self.slots[..self.filled].iter().map(|slot| &slot.arrival)
    }

    /// Fills the batch with datagrams that are in memory, as many as it is prepared for.
    pub(crate) fn fill<D: AsRef<[u8]>>(&mut self, mut next: impl FnMut() -> Option<(D, Arrival)>) {
        let asked = self.prepare();
        let mut filled = 0;
        for (buffer, slot) in self.buffers().take(asked) {
            let Some((data, arrival)) = next() else {
                break;
            };
            let data = data.as_ref();
            let len = data.len().min(buffer.len());
            buffer[..len].copy_from_slice(&data[..len]);
            *slot = Arrival { len, ..arrival };
            filled += 1;
        }
        self.set_filled(filled, asked);
    }

    /// Copies what a batch for [single](Self::single) datagrams holds behind the first so many of
    /// those that arrived as one. Returns how many that are.
    pub(crate) fn take_rest(&mut self, single: &Self, skipped: usize) -> usize {
        let Some(arrival) = single.arrivals().next() else {
            return 0;
        };
        let run = &single.slots[0].buffer[..arrival.len][skipped * arrival.stride..];
        let mut rest = Some((run, *arrival));
        self.fill(|| rest.take());
        self.len()
    }

    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Turns away what does not pass.
    pub(crate) fn filter(&mut self, mut passes: impl FnMut(&Arrival) -> bool) {
        for slot in &mut self.slots[..self.filled] {
            slot.arrival.is_denied = !passes(&slot.arrival);
        }
    }

    /// Empties the batch, and prepares it for the next receive call. Returns for how many datagrams.
    pub(crate) fn prepare(&mut self) -> usize {
        self.filled = 0;
        self.lending.set(0);
        for n in 0..self.wanted {
            if n == self.slots.len() {
                self.slots.push(Slot {
                    buffer: Buffer::new(BUFFER_BYTES),
                    arrival: Arrival::default(),
                    is_lent: Cell::new(false),
                });
            }
            if self.slots[n].is_lent.get() && !self.renew(n) {
                return n;
            }
        }
        self.wanted
    }

    /// Gives a slot a buffer that nobody else has. False if there is none.
    fn renew(&mut self, slot: usize) -> bool {
        let is_back = |buffer: &mut Arc<Buffer>| Arc::get_mut(buffer).is_some();
        let slot_ref = &mut self.slots[slot];
        if !is_back(&mut slot_ref.buffer) {
            match self.lent.iter_mut().position(is_back) {
                Some(other) => std::mem::swap(&mut slot_ref.buffer, &mut self.lent[other]),
                None if self.slots.len() + self.lent.len() < self.limit => {
                    let own = &mut self.slots[slot].buffer;
                    self.lent
                        .push(std::mem::replace(own, Buffer::new(BUFFER_BYTES)));
                }
                None => return false,
            }
        }
        self.slots[slot].is_lent.set(false);
        true
    }

    /// Where a server writes, for as many datagrams as [`prepare`](Self::prepare) has said.
    pub(crate) fn buffers(&mut self) -> impl Iterator<Item = (&mut [u8], &mut Arrival)> {
        self.slots.iter_mut().map(|slot| {
            // Nobody else has it after `prepare`.
            let bytes = Arc::get_mut(&mut slot.buffer).map_or(&mut [][..], |bytes| bytes);
            (bytes, &mut slot.arrival)
        })
    }

    /// So many slots have been written to, of so many that were asked for.
    pub(crate) fn set_filled(&mut self, filled: usize, asked: usize) {
        self.filled = filled;
        // As many as came, and some more, so that bursts need few calls and single ones are cheap.
        let wanted = if filled == asked {
            asked * 2
        } else {
            (filled + 1).max(asked / 2)
        };
        self.wanted = wanted.max(FEWEST_SLOTS).min(self.max_slots);
    }

    /// Whether there is a buffer for this slot if its own is lent.
    fn may_lend(&self, slot: &Slot) -> bool {
        if slot.is_lent.get() {
            return true;
        }
        // Those that are lent may not come back before all slots are needed.
        let needed = self.max_slots + self.lent.len() + self.lending.get() + 1;
        let may = needed <= self.limit;
        if may {
            slot.is_lent.set(true);
            self.lending.set(self.lending.get() + 1);
        }
        may
    }
}

impl fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("source", &self.source)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a batch; returns with how many.
    fn fill(batch: &mut RecvBatch, datagrams: &[&[u8]]) -> usize {
        let mut datagrams = datagrams.iter();
        batch.fill(|| datagrams.next().map(|data| (data, Arrival::default())));
        batch.filled
    }

    #[test]
    fn what_is_shared_outlives_the_next_filling_and_other_threads() {
        let mut batch = RecvBatch::new();
        fill(&mut batch, &[b"one", b"two"]);
        let packets: Vec<Packet> = batch.iter().map(|datagram| datagram.share()).collect();
        fill(&mut batch, &[b"three"]);
        let there = std::thread::spawn(move || packets.iter().map(|p| p.to_vec()).collect());
        let seen: Vec<Vec<u8>> = there.join().unwrap();
        assert_eq!(vec![b"one".to_vec(), b"two".to_vec()], seen);
        assert_eq!(b"three", batch.iter().next().unwrap().data);
    }

    #[test]
    fn a_buffer_that_came_back_is_used_again() {
        let mut batch = RecvBatch::new();
        for _ in 0..1000 {
            fill(&mut batch, &[b"x"]);
            let packet = batch.iter().next().unwrap().share();
            fill(&mut batch, &[b"y"]);
            assert_eq!(b"x", &packet[..]);
        }
        assert!(batch.slots.len() + batch.lent.len() <= FEWEST_SLOTS + 2);
    }

    #[test]
    fn whoever_keeps_everything_gets_copies_and_receiving_goes_on() {
        let mut batch = RecvBatch::new().with_buffer_limit(40);
        let mut kept = Vec::new();
        for n in 0..1000_u32 {
            let data = n.to_be_bytes();
            assert!(fill(&mut batch, &[&data[..]; 40]) >= FEWEST_SLOTS);
            kept.extend(batch.iter().map(|datagram| (n, datagram.share())));
        }
        assert!((33..=40).contains(&(batch.slots.len() + batch.lent.len())));
        assert!(kept.iter().all(|(n, packet)| n.to_be_bytes() == packet[..]));
    }

    #[test]
    fn a_batch_grows_with_what_arrives_and_not_before() {
        let mut batch = RecvBatch::new();
        fill(&mut batch, &[b"x"]);
        assert_eq!(FEWEST_SLOTS, batch.slots.len());
        let sizes: Vec<_> = (0..5)
            .map(|_| fill(&mut batch, &[&b"x"[..]; 100]))
            .collect();
        assert_eq!(vec![2, 4, 8, 16, 32], sizes);
    }

    #[test]
    fn a_shared_part_of_a_run_is_that_part() {
        let mut batch = RecvBatch::new();
        fill(&mut batch, &[b"aabbc"]);
        batch.slots[0].arrival.stride = 2;
        assert_eq!(3, batch.len());
        let parts: Vec<_> = batch.iter().map(|datagram| datagram.share()).collect();
        assert_eq!(
            [&b"aa"[..], b"bb", b"c"],
            [&*parts[0], &*parts[1], &*parts[2]]
        );
        assert_eq!(1, batch.lending.get());
    }

    #[test]
    fn the_rest_of_a_run_is_what_has_not_been_read_of_it() {
        let mut single = RecvBatch::single();
        fill(&mut single, &[b"aabbc"]);
        single.slots[0].arrival.stride = 2;
        let mut batch = RecvBatch::new();
        for (skipped, expected) in [(1, &[&b"bb"[..], b"c"][..]), (2, &[b"c"])] {
            assert_eq!(expected.len(), batch.take_rest(&single, skipped));
            let rest: Vec<_> = batch.iter().map(|datagram| datagram.data).collect();
            assert_eq!(expected, rest);
        }
    }
}
