//! A connection like TCP's, as a state machine: segments, calls and the time come in, and segments
//! and events go out. It reads no clock, and does the same whenever the same comes in.
//!
//! It follows RFC 9293, without what a simulated network does not need: options (both sides are of
//! this make), urgent data, simultaneous open, delayed acknowledgements, and initial sequence
//! numbers that cannot be guessed. That they begin with 0 every time means that a pair of addresses
//! and ports must not be used again while segments of its last connection may be on their way.

mod congestion;
mod event;
mod incoming;
mod limits;
mod receive_queue;
mod round_trip;
mod segment;
mod send_queue;
mod sender;
#[cfg(test)]
mod tests;

use std::io;
use std::time::{Duration, Instant};

pub(crate) use event::Event;
use event::Events;
pub(crate) use limits::{KeepAlive, Limits};
use receive_queue::ReceiveQueue;
pub(crate) use segment::{Segment, reset_for};
use sender::Sender;

/// How long the side that closed first stays to acknowledge the other's FIN once more.
///
/// Real stacks wait for a minute, mostly for the sake of old segments, which random sequence numbers
/// and fresh ports keep away here.
pub(crate) const TIME_WAIT: Duration = Duration::from_secs(10);
/// How long a connection that the application has closed waits for the peer to finish, too.
const ORPHAN_TIME: Duration = Duration::from_secs(60);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the SYN-ACK.
    SynSent,
    /// Waits for the acknowledgement of the SYN-ACK.
    SynReceived,
    /// From the handshake until both streams are over: how far each is, its own half knows.
    Established,
    /// Both are over, and this side finished first: the peer's FIN may come again until then.
    TimeWait(Option<Instant>),
    Closed,
}

/// When to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Acknowledge {
    Nothing,
    /// With data, if there are any.
    Soon,
    /// In a segment of its own, as only those count as duplicates: the peer must learn of a gap, or
    /// of what it has wrong.
    Alone,
}

/// One side of a connection.
///
/// After every call that takes it by `&mut`, [`poll_segment`](Self::poll_segment) and then
/// [`poll_event`](Self::poll_event) are to be called until they return `None`, and
/// [`deadline`](Self::deadline) may have changed.
#[derive(Debug)]
pub(crate) struct Connection {
    phase: Phase,
    sender: Sender,
    receiver: ReceiveQueue,
    /// The sequence number of the peer's SYN, which is 0 to the receiver.
    peer_initial: u64,
    acknowledge: Acknowledge,
    /// A reset, which goes out before all else.
    reset: Option<Segment>,
    /// Whether the application has closed or aborted it, and is told nothing any more.
    is_released: bool,
    /// Whether the peer finished before this side did: so it is the peer that stays in TIME-WAIT.
    peer_finished_first: bool,
    /// Why it failed, until the application has been told by `recv` or `send`.
    error: Option<io::ErrorKind>,
    events: Events,
    /// Whether `send` could not take everything, and nothing has been said since.
    wants_room: bool,
    user_timeout: Option<Duration>,
    keep_alive: Option<KeepAlive>,
    keep_alive_at: Option<Instant>,
    keep_alive_probes: u32,
    /// When an orphan whose peer does not finish is forgotten.
    forget_at: Option<Instant>,
}

impl Connection {
    /// Begins the handshake: a SYN is to be sent.
    pub(crate) fn connect(now: Instant, limits: &Limits) -> Self {
        Self::new(now, limits, Phase::SynSent, 0)
    }

    /// Answers a SYN: a SYN-ACK is to be sent.
    pub(crate) fn accept(now: Instant, limits: &Limits, syn: &Segment) -> Self {
        Self::new(now, limits, Phase::SynReceived, syn.sequence)
    }

    fn new(now: Instant, limits: &Limits, phase: Phase, peer_initial: u64) -> Self {
        let limits = limits.clamped();
        let max_segment = limits.max_segment as u64;
        Self {
            phase,
            sender: Sender::new(now, &limits),
            receiver: ReceiveQueue::new(limits.receive_buffer, max_segment),
            peer_initial,
            acknowledge: Acknowledge::Nothing,
            reset: None,
            is_released: false,
            peer_finished_first: false,
            error: None,
            events: Events::default(),
            wants_room: false,
            user_timeout: limits.user_timeout,
            keep_alive: limits.keep_alive,
            keep_alive_at: None,
            keep_alive_probes: 0,
            forget_at: None,
        }
    }

    /// Whether the handshake is over, and not yet both streams.
    pub(crate) fn is_connected(&self) -> bool {
        self.phase == Phase::Established
    }

    /// Whether nothing more will be sent or received: the network may forget it, and answer what
    /// comes nevertheless with [`reset_for`]. What has arrived may still be read.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Closed && self.reset.is_none()
    }

    /// Whether `recv` has something to say: data, the end of the peer's stream, or an error.
    pub(crate) fn is_readable(&self) -> bool {
        !self.is_released
            && (self.receiver.has_data()
                || self.receiver.is_finished()
                || self.phase == Phase::Closed)
    }

    /// When `on_time` is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::TimeWait(end) => end,
            Phase::SynSent | Phase::SynReceived | Phase::Established => [
                self.sender.deadline(),
                self.user_deadline(),
                self.keep_alive_deadline(),
                self.forget_at,
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    fn user_deadline(&self) -> Option<Instant> {
        after(self.sender.waiting_since()?, self.user_timeout?)
    }

    /// While something waits for an acknowledgement, retransmissions ask more often.
    fn keep_alive_deadline(&self) -> Option<Instant> {
        self.keep_alive_at.filter(|_| !self.sender.is_waiting())
    }

    /// Handles the deadlines that have passed.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        match self.phase {
            Phase::Closed => {}
            Phase::TimeWait(end) => {
                if has_passed(end) {
                    self.end();
                }
            }
            Phase::SynSent | Phase::SynReceived | Phase::Established => {
                if has_passed(self.forget_at) {
                    self.end();
                } else if has_passed(self.user_deadline())
                    || self.sender.on_time(now, self.is_released)
                {
                    self.fail(io::ErrorKind::TimedOut);
                } else if has_passed(self.keep_alive_deadline()) {
                    self.ask_whether_alive(now);
                }
            }
        }
    }

    fn ask_whether_alive(&mut self, now: Instant) {
        let Some(keep_alive) = self.keep_alive else {
            return;
        };
        if self.keep_alive_probes >= keep_alive.count {
            // It may live on the far side of a path that is cut in one direction.
            self.send_reset();
            self.fail(io::ErrorKind::TimedOut);
            return;
        }
        self.keep_alive_probes += 1;
        self.keep_alive_at = after(now, keep_alive.interval);
        self.sender.probe();
    }

    pub(crate) fn set_nodelay(&mut self, nodelay: bool) {
        self.sender.set_nodelay(nodelay);
    }

    pub(crate) fn set_user_timeout(&mut self, timeout: Option<Duration>) {
        self.user_timeout = timeout;
    }

    pub(crate) fn set_keep_alive(&mut self, now: Instant, keep_alive: Option<KeepAlive>) {
        self.keep_alive = keep_alive;
        self.keep_alive_probes = 0;
        self.keep_alive_at = keep_alive
            .filter(|_| self.phase == Phase::Established)
            .and_then(|keep_alive| after(now, keep_alive.idle));
    }

    /// What to send now.
    pub(crate) fn poll_segment(&mut self, now: Instant) -> Option<Segment> {
        if let Some(reset) = self.reset.take() {
            return Some(reset);
        }
        if self.phase == Phase::Closed {
            return None;
        }
        let to_send = if self.acknowledge == Acknowledge::Alone {
            None
        } else {
            self.sender.poll(now)
        };
        let mut segment = match to_send {
            Some(segment) => segment,
            None if self.acknowledge == Acknowledge::Nothing => return None,
            None => Segment {
                sequence: self.sender.highest(),
                ..Segment::default()
            },
        };
        self.acknowledge = Acknowledge::Nothing;
        segment.acknowledgement = self.acknowledgement();
        segment.window = self.receiver.advertise();
        Some(segment)
    }

    fn acknowledgement(&self) -> Option<u64> {
        let acknowledgement = self.receiver.acknowledgement();
        (self.phase != Phase::SynSent).then(|| self.peer_initial.wrapping_add(acknowledgement))
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let is_readable = self.is_readable();
        self.events.poll(is_readable)
    }

    /// Takes data to be sent, as many bytes as there is room for.
    ///
    /// If that is not all of them, one [`Event::Writable`] follows, once a third of the buffer is
    /// free.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room, `NotConnected` before the handshake is over, and
    /// `BrokenPipe` after `shutdown_write`, `close`, `abort` or the end of the connection. If it
    /// failed, and `recv` has not told so yet, that error once.
    pub(crate) fn send(&mut self, now: Instant, data: &[u8]) -> io::Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        if self.is_released || self.sender.is_finishing() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self.phase {
            Phase::SynSent | Phase::SynReceived => Err(io::ErrorKind::NotConnected.into()),
            Phase::TimeWait(_) | Phase::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Phase::Established => {
                let taken = self.sender.push(now, data);
                self.wants_room |= taken < data.len();
                if taken == 0 && !data.is_empty() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(taken)
            }
        }
    }

    /// Reads what has arrived in order; `Ok(0)` at the end of the peer's stream.
    ///
    /// A connection that fails loses nothing of what had arrived: that is read first, then comes the
    /// error, once, and then `Ok(0)`. So it is on Linux, where a server that answers and closes
    /// without having read everything resets the connection, and its answer can be read all the
    /// same. And as there, the end of the peer's stream stays its end, whatever comes after.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has arrived, `NotConnected` after `close` or `abort`, and why the
    /// connection failed, unless `send` has told already.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_released {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let length = self.receiver.read(buffer);
        if length > 0 {
            if self.is_connected() && self.receiver.is_update_due() {
                self.acknowledge = self.acknowledge.max(Acknowledge::Soon);
            }
            return Ok(length);
        }
        if buffer.is_empty() || self.receiver.is_finished() {
            return Ok(0);
        }
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        if self.phase == Phase::Closed {
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Nothing more will be sent: a FIN follows the data. Before the handshake is over, it follows
    /// that.
    pub(crate) fn shutdown_write(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::TimeWait(_) | Phase::Closed) {
            self.sender.finish(now);
            self.wants_room = false;
            self.events.writable = false;
        }
    }

    /// The application is done with it: what it has sent is delivered, and nothing is received any
    /// more. If the peer has sent something that was not read, or sends something yet, it is told by
    /// a reset that this is lost.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.is_released {
            return;
        }
        let has_unread = self.receiver.has_data() || self.receiver.has_gap();
        self.release();
        match self.phase {
            Phase::SynSent => self.end(),
            Phase::SynReceived | Phase::Established => {
                if has_unread {
                    self.send_reset();
                    self.end();
                } else {
                    self.sender.finish(now);
                    self.settle(now);
                }
            }
            Phase::TimeWait(_) | Phase::Closed => self.receiver.forget_everything(),
        }
    }

    /// Ends it at once, for the peer by a reset.
    pub(crate) fn abort(&mut self) {
        self.release();
        if matches!(self.phase, Phase::SynReceived | Phase::Established) {
            self.send_reset();
        }
        self.end();
    }

    fn release(&mut self) {
        self.is_released = true;
        self.events = Events::default();
        self.wants_room = false;
        self.error = None;
    }

    /// Draws the conclusions from what has happened to either half.
    fn settle(&mut self, now: Instant) {
        if self.phase != Phase::Established {
            return;
        }
        if self.wants_room && self.sender.has_ample_room() {
            self.wants_room = false;
            self.events.writable = true;
        }
        if !self.sender.has_delivered_finish() {
            return;
        }
        if self.receiver.is_finished() {
            self.close_cleanly(if self.peer_finished_first {
                Phase::Closed
            } else {
                Phase::TimeWait(after(now, TIME_WAIT))
            });
        } else if self.is_released && self.forget_at.is_none() {
            self.forget_at = after(now, ORPHAN_TIME);
        }
    }

    fn close_cleanly(&mut self, phase: Phase) {
        self.phase = phase;
        self.sender.clear();
        if !self.is_released {
            self.events.closed = Some(None);
        }
    }

    fn fail(&mut self, error: io::ErrorKind) {
        self.end();
        if !self.is_released {
            // To a reader, the end of the stream hides it, and a writer is told of a broken pipe.
            self.error = (!self.receiver.is_finished()).then_some(error);
            self.events.writable = false;
            self.events.closed = Some(Some(error));
        }
    }

    fn send_reset(&mut self) {
        self.reset = Some(Segment {
            rst: true,
            sequence: self.sender.highest(),
            acknowledgement: self.acknowledgement(),
            ..Segment::default()
        });
    }

    /// Nothing will be sent or received any more, but for a reset.
    fn end(&mut self) {
        self.phase = Phase::Closed;
        self.sender.clear();
        self.wants_room = false;
        if self.is_released {
            self.receiver.forget_everything();
        } else {
            self.receiver.forget_islands();
        }
    }
}

/// A moment so far away that the clock does not reach it is none.
fn after(now: Instant, duration: Duration) -> Option<Instant> {
    now.checked_add(duration)
}
