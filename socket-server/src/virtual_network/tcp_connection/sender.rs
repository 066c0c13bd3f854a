//! What to send, and when to send it again.

use std::time::Instant;

use super::congestion::Congestion;
use super::round_trip::RoundTrip;
use super::segment::Segment;
use super::send_queue::SendQueue;
use super::{Limits, after};

/// The sequence number of the SYN. A network that has no strangers guessing, and that is to do the
/// same every time, needs no random one.
const INITIAL_SEQUENCE: u64 = 0;
/// A SYN is sent six times in all.
const MAX_SYN_RETRANSMISSIONS: u32 = 5;
/// How often something is sent again, or a window asked for, without any answer.
const MAX_RETRANSMISSIONS: u32 = 15;
/// The same when the application does not care any more.
const MAX_ORPHAN_RETRANSMISSIONS: u32 = 8;

/// The sending half: SYN, bytes and FIN, until they have been acknowledged.
///
/// Segments are made here without acknowledgement and window, which are the other half's.
#[derive(Debug)]
pub(super) struct Sender {
    queue: SendQueue,
    max_segment: u64,
    nodelay: bool,
    /// The first sequence number that is not acknowledged.
    unacknowledged: u64,
    /// The one to be sent next: after a timeout, everything is sent again.
    next: u64,
    /// The first one that has never been sent.
    highest: u64,
    /// Whether a FIN follows the bytes.
    finishing: bool,
    /// The first sequence number that the peer has no room for.
    window_edge: u64,
    congestion: Congestion,
    round_trip: RoundTrip,
    /// The round trip that is being measured: until this is acknowledged, since then.
    measured: Option<(u64, Instant)>,
    retransmit_at: Option<Instant>,
    /// In a row, by timeout.
    retransmissions: u32,
    /// The first unacknowledged segment is to be sent again, whatever the windows say: it was within
    /// them once.
    resend_first: bool,
    /// When to ask for the window, which is closed.
    probe_at: Option<Instant>,
    probe_due: bool,
    probe_backoff: u32,
    /// Probes since the peer was last heard.
    unanswered_probes: u32,
    /// Since when there is something to be acknowledged, without progress.
    waiting_since: Option<Instant>,
}

impl Sender {
    pub(super) fn new(now: Instant, limits: &Limits) -> Self {
        let max_segment = limits.max_segment as u64;
        Self {
            queue: SendQueue::new(INITIAL_SEQUENCE + 1, limits.send_buffer),
            max_segment,
            nodelay: limits.nodelay,
            unacknowledged: INITIAL_SEQUENCE,
            next: INITIAL_SEQUENCE,
            highest: INITIAL_SEQUENCE,
            finishing: false,
            window_edge: INITIAL_SEQUENCE,
            congestion: Congestion::new(max_segment),
            round_trip: RoundTrip::new(),
            measured: None,
            retransmit_at: None,
            retransmissions: 0,
            resend_first: false,
            probe_at: None,
            probe_due: false,
            probe_backoff: 0,
            unanswered_probes: 0,
            waiting_since: Some(now),
        }
    }

    pub(super) fn set_nodelay(&mut self, nodelay: bool) {
        self.nodelay = nodelay;
    }

    /// The first sequence number that has never been sent. A segment that takes up none carries it:
    /// the peer cannot have seen more, so that it is never old.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether the FIN has been sent.
    pub(super) fn has_sent_finish(&self) -> bool {
        self.finishing && self.highest > self.queue.end()
    }

    /// Whether a FIN follows the bytes, sent or not.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Whether all bytes are acknowledged, though perhaps not the FIN.
    pub(super) fn has_delivered_data(&self) -> bool {
        self.unacknowledged >= self.queue.end()
    }

    /// Whether everything, the FIN included, is acknowledged.
    pub(super) fn has_delivered_finish(&self) -> bool {
        self.finishing && !self.is_waiting()
    }

    /// Whether anything is to be sent or to be acknowledged.
    pub(super) fn is_waiting(&self) -> bool {
        self.unacknowledged < self.queue.end() + u64::from(self.finishing)
    }

    /// Since when that has been so without progress.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    pub(super) fn has_ample_room(&self) -> bool {
        self.queue.has_ample_room()
    }

    /// Takes as many bytes as there is room for, and says how many.
    pub(super) fn push(&mut self, now: Instant, data: &[u8]) -> usize {
        let taken = self.queue.push(data);
        self.watch(now);
        taken
    }

    /// Lets a FIN follow the bytes.
    pub(super) fn finish(&mut self, now: Instant) {
        self.finishing = true;
        self.watch(now);
    }

    /// The SYN is to be sent again, because the peer asked.
    pub(super) fn resend_syn(&mut self) {
        self.resend_first = true;
    }

    /// A segment is to be sent that makes the peer answer, and tells it nothing new.
    pub(super) fn probe(&mut self) {
        self.probe_due = true;
    }

    /// The peer lives.
    pub(super) fn on_heard(&mut self) {
        self.unanswered_probes = 0;
    }

    /// Nothing will be sent any more.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.retransmit_at, self.probe_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// `acknowledgement` is not above what has been sent. `is_pure` if the segment took up no
    /// sequence numbers: only then does it count as a duplicate.
    pub(super) fn on_acknowledgement(
        &mut self,
        now: Instant,
        acknowledgement: u64,
        window: u64,
        is_pure: bool,
    ) {
        let edge = acknowledgement.saturating_add(window);
        if acknowledgement > self.unacknowledged {
            self.advance(now, acknowledgement);
        } else if acknowledgement == self.unacknowledged
            && is_pure
            && edge == self.window_edge
            && self.highest > acknowledgement
            && self
                .congestion
                .on_duplicate(self.unacknowledged, self.highest)
        {
            self.resend_first = true;
        }
        // A window never shrinks: if this one is smaller, the segment has been overtaken.
        self.window_edge = self.window_edge.max(edge);
        self.watch(now);
    }

    fn advance(&mut self, now: Instant, acknowledgement: u64) {
        let count = acknowledgement - self.unacknowledged;
        let flight = self.highest - self.unacknowledged;
        let was_syn = self.unacknowledged == INITIAL_SEQUENCE;
        self.unacknowledged = acknowledgement;
        self.next = self.next.max(acknowledgement);
        self.queue.release(acknowledgement);
        if let Some((_, since)) = self.measured.take_if(|(end, _)| *end <= acknowledgement) {
            self.round_trip.sample(now.saturating_duration_since(since));
        }
        if !was_syn {
            self.resend_first =
                self.congestion
                    .on_progress(count, flight, acknowledgement, self.highest);
        } else {
            self.resend_first = false;
            if self.retransmissions > 0 {
                self.round_trip.syn_was_lost();
                self.congestion.syn_was_lost();
            }
        }
        self.retransmissions = 0;
        self.waiting_since = None;
        self.retransmit_at = if self.highest > acknowledgement {
            after(now, self.round_trip.timeout())
        } else {
            None
        };
    }

    /// Keeps what depends on whether there is something to send, and whether it may be sent.
    fn watch(&mut self, now: Instant) {
        if self.is_waiting() {
            self.waiting_since.get_or_insert(now);
        } else {
            self.waiting_since = None;
        }
        // As long as something is on its way, its acknowledgement will tell of the window.
        let is_shut_out = self.unacknowledged > INITIAL_SEQUENCE
            && self.unacknowledged == self.highest
            && self.next < self.queue.end()
            && self.next >= self.window_edge;
        if !is_shut_out {
            self.probe_at = None;
            self.probe_backoff = 0;
        } else if self.probe_at.is_none() {
            self.probe_at = after(now, self.round_trip.timeout());
        }
    }

    /// Handles the deadlines that have passed; says whether the peer is to be given up.
    pub(super) fn on_time(&mut self, now: Instant, is_orphan: bool) -> bool {
        let limit = if self.unacknowledged == INITIAL_SEQUENCE {
            MAX_SYN_RETRANSMISSIONS
        } else if is_orphan {
            MAX_ORPHAN_RETRANSMISSIONS
        } else {
            MAX_RETRANSMISSIONS
        };
        if self.retransmit_at.is_some_and(|at| at <= now) {
            if self.retransmissions >= limit {
                return true;
            }
            self.time_out(now);
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            // Someone who answers that there is no room may do so for ever, but not to an orphan.
            let in_vain = if is_orphan {
                self.probe_backoff
            } else {
                self.unanswered_probes
            };
            if in_vain >= limit {
                return true;
            }
            self.probe_due = true;
            self.probe_backoff = self.probe_backoff.saturating_add(1);
            self.unanswered_probes = self.unanswered_probes.saturating_add(1);
            self.probe_at = after(now, self.round_trip.timeout_after(self.probe_backoff));
        }
        false
    }

    fn time_out(&mut self, now: Instant) {
        if self.unacknowledged > INITIAL_SEQUENCE {
            let again = self.retransmissions > 0;
            self.congestion
                .on_timeout(self.unacknowledged, self.highest, again);
        }
        self.retransmissions += 1;
        self.round_trip.back_off();
        self.next = self.unacknowledged;
        self.resend_first = true;
        self.retransmit_at = after(now, self.round_trip.timeout());
    }

    /// What to send now, if anything.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Segment> {
        if self.unacknowledged == INITIAL_SEQUENCE {
            let is_first = self.highest == INITIAL_SEQUENCE;
            return (is_first || self.resend_first).then(|| self.emit_syn(now));
        }
        if self.resend_first && self.unacknowledged < self.highest {
            // What has not been sent yet has to heed the windows.
            let sent = (self.highest - self.unacknowledged).min(self.max_segment);
            return Some(self.emit(now, self.unacknowledged, sent));
        }
        self.resend_first = false;
        if let Some(length) = self.permitted() {
            return Some(self.emit(now, self.next, length));
        }
        if self.probe_due {
            self.probe_due = false;
            return Some(Segment {
                sequence: self.unacknowledged - 1,
                ..Segment::default()
            });
        }
        None
    }

    /// How many bytes of the next segment may be sent now: zero for a FIN alone.
    fn permitted(&self) -> Option<u64> {
        let unsent = self.queue.end().saturating_sub(self.next);
        if unsent == 0 {
            // A FIN takes no room at the peer's.
            return (self.finishing && self.next == self.queue.end()).then_some(0);
        }
        let flight = self.next - self.unacknowledged;
        let usable = self
            .window_edge
            .saturating_sub(self.next)
            .min(self.congestion.window().saturating_sub(flight));
        let length = unsent.min(self.max_segment).min(usable);
        if length == 0 {
            return None;
        }
        if length == self.max_segment || flight == 0 || self.next < self.highest {
            return Some(length);
        }
        // A small segment while others are on their way: not because the windows are almost full,
        // for the next acknowledgement opens them, and not for lack of data either (Nagle), unless
        // that is wanted, or there will never be more.
        (length == unsent && (self.nodelay || self.finishing)).then_some(length)
    }

    fn emit_syn(&mut self, now: Instant) -> Segment {
        self.note_sent(now, INITIAL_SEQUENCE, INITIAL_SEQUENCE + 1);
        Segment {
            syn: true,
            sequence: INITIAL_SEQUENCE,
            ..Segment::default()
        }
    }

    /// Makes a segment of up to so many bytes, with the FIN if it is its turn.
    fn emit(&mut self, now: Instant, sequence: u64, length: u64) -> Segment {
        let payload = self.queue.copy(sequence, length);
        let data_end = sequence + payload.len() as u64;
        let fin = self.finishing && data_end == self.queue.end();
        self.note_sent(now, sequence, data_end + u64::from(fin));
        Segment {
            fin,
            sequence,
            payload,
            ..Segment::default()
        }
    }

    fn note_sent(&mut self, now: Instant, start: u64, end: u64) {
        if start < self.highest {
            // Karn's rule: it would not be known which of the two was acknowledged.
            self.measured = None;
        } else if self.measured.is_none() {
            self.measured = Some((end, now));
        }
        if start == self.unacknowledged && self.resend_first {
            self.resend_first = false;
            self.retransmit_at = None;
        }
        self.next = self.next.max(end);
        self.highest = self.highest.max(end);
        if self.retransmit_at.is_none() {
            self.retransmit_at = after(now, self.round_trip.timeout());
        }
    }
}
