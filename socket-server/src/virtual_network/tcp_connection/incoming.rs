//! What a connection makes of the segments that arrive.

use std::io;
use std::time::Instant;

use super::{Acknowledge, Connection, Phase, Segment, TIME_WAIT, after, reset_for};

impl Connection {
    /// Takes in what has arrived from the peer, or from whoever sends in its name.
    pub(crate) fn on_segment(&mut self, now: Instant, segment: &Segment) {
        match self.phase {
            Phase::Closed => {}
            Phase::SynSent => self.on_handshake_segment(now, segment),
            Phase::SynReceived | Phase::Established | Phase::TimeWait(_) => {
                self.on_synchronized_segment(now, segment);
            }
        }
    }

    fn on_handshake_segment(&mut self, now: Instant, segment: &Segment) {
        let Some(acknowledgement) = segment.acknowledgement else {
            return;
        };
        if acknowledgement == 0 || acknowledgement > self.sender.highest() {
            // The peer has a connection in mind that this side has forgotten.
            self.reset = reset_for(segment);
        } else if segment.rst {
            self.fail(io::ErrorKind::ConnectionRefused);
        } else if segment.syn {
            self.peer_initial = segment.sequence;
            self.acknowledge = Acknowledge::Soon;
            self.establish(now);
            self.sender
                .on_acknowledgement(now, acknowledgement, segment.window, false);
        }
    }

    fn establish(&mut self, now: Instant) {
        self.phase = Phase::Established;
        self.events.connected = !self.is_released;
        self.on_heard(now);
    }

    fn on_heard(&mut self, now: Instant) {
        self.sender.on_heard();
        self.keep_alive_probes = 0;
        self.keep_alive_at = self.keep_alive.and_then(|k| after(now, k.idle));
    }

    fn on_synchronized_segment(&mut self, now: Instant, segment: &Segment) {
        // What lies before the peer's SYN becomes a very large number, far beyond the window.
        let sequence = segment.sequence.wrapping_sub(self.peer_initial);
        let expected = self.receiver.acknowledgement();
        // A FIN stands one beyond the window if that is full, and what follows it, one further.
        let last = self.receiver.edge() + 1;
        if segment.rst {
            // Only one that is in its turn is believed (RFC 5961). One that has overtaken data, or
            // was made up, is asked about: the peer, if it has no connection, resets again.
            if sequence == expected {
                self.on_reset();
            } else if (expected..=last).contains(&sequence) {
                self.acknowledge = Acknowledge::Alone;
            }
            return;
        }
        if segment.syn {
            if self.phase == Phase::SynReceived && sequence == 0 {
                self.sender.resend_syn();
            } else {
                self.acknowledge = Acknowledge::Alone;
            }
            return;
        }
        let Some(acknowledgement) = segment.acknowledgement else {
            return;
        };
        if sequence > last || acknowledgement > self.sender.highest() {
            if segment.occupies() {
                self.acknowledge = Acknowledge::Alone;
            }
            return;
        }
        if self.phase == Phase::SynReceived {
            if acknowledgement == 0 {
                return;
            }
            self.establish(now);
        }
        self.on_heard(now);
        let is_pure = !segment.occupies();
        self.sender
            .on_acknowledgement(now, acknowledgement, segment.window, is_pure);
        if is_pure {
            // A probe repeats the last sequence number, to be answered. All other pure
            // acknowledgements are not, or two connections would answer each other for ever.
            if sequence + 1 == expected {
                self.acknowledge = Acknowledge::Alone;
            }
        } else {
            self.on_data(now, sequence, segment);
        }
        self.settle(now);
    }

    fn on_reset(&mut self) {
        let is_clean = self.receiver.is_finished()
            && self.sender.is_finishing()
            && self.sender.has_delivered_data();
        match self.phase {
            // The FIN that it was to acknowledge has been: so nothing is lost (and RFC 1337 warns of
            // believing it).
            Phase::TimeWait(_) => {}
            // The peer has both streams, and only forgot the connection before the last
            // acknowledgement got here.
            _ if is_clean => self.close_cleanly(Phase::Closed),
            _ => self.fail(io::ErrorKind::ConnectionReset),
        }
    }

    fn on_data(&mut self, now: Instant, sequence: u64, segment: &Segment) {
        let expected = self.receiver.acknowledgement();
        let is_new = sequence.saturating_add(segment.payload.len() as u64) > expected;
        if self.is_released && is_new && !segment.payload.is_empty() && self.is_connected() {
            self.send_reset();
            self.end();
            return;
        }
        let was_readable = self.is_readable();
        let was_finished = self.receiver.is_finished();
        self.receiver
            .insert(sequence, &segment.payload, segment.fin);
        let is_in_turn = self.receiver.acknowledgement() > expected && !self.receiver.has_gap();
        self.acknowledge = self.acknowledge.max(if is_in_turn {
            Acknowledge::Soon
        } else {
            Acknowledge::Alone
        });
        if self.receiver.is_finished() && !was_finished {
            self.peer_finished_first = !self.sender.has_sent_finish();
            self.events.peer_finished = !self.is_released;
        }
        if self.is_readable() && !was_readable {
            self.events.readable = true;
        }
        if segment.fin && matches!(self.phase, Phase::TimeWait(_)) {
            self.phase = Phase::TimeWait(after(now, TIME_WAIT));
        }
    }
}
