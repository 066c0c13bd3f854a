//! All clients of one process, driven by one thread.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use str0m::{Event, RtcError};

use super::Peer;
use crate::measures::histogram;
use crate::sfu::arrivals::{Arrival, Arrivals};
use crate::sfu::media::{Fared, Ledger, Mark, MediaPacket, Source, wall_clock};
use crate::sfu::ready::{LOOK_EVERY, Ready};

pub(crate) struct Crowd {
    /// The publishers first, by room.
    clients: Vec<Client>,
    /// When each wants to hear of time.
    deadlines: Vec<Instant>,
    rooms: usize,
    sources: Vec<Source>,
    ledgers: Vec<Ledger>,
    ready: Ready,
    readable: Vec<usize>,
    arrivals: Arrivals,
    outgoing: Vec<MediaPacket>,
    /// Viewers that have been sent something, and how long that took.
    pub(crate) viewing: usize,
    pub(crate) joins: Histogram<u64>,
    pub(crate) fared: Fared,
    /// Packets that were lost, and then sent again.
    pub(crate) repaired: u64,
    /// Packets that nobody has sent so.
    pub(crate) foreign: u64,
}

struct Client {
    peer: Peer,
    /// When a viewer asked that has not been sent anything yet.
    waiting_since: Option<Instant>,
}

impl Crowd {
    pub(crate) fn new(rooms: usize) -> Result<Self, String> {
        let now = wall_clock();
        Ok(Self {
            clients: Vec::new(),
            deadlines: Vec::new(),
            rooms,
            sources: (0..rooms)
                .map(|room| Source::new(room, rooms, now))
                .collect(),
            ledgers: (0..rooms).map(|_| Ledger::default()).collect(),
            ready: Ready::new()?,
            readable: Vec::new(),
            arrivals: Arrivals::new(),
            outgoing: Vec::new(),
            viewing: 0,
            joins: histogram(),
            fared: Fared::default(),
            repaired: 0,
            foreign: 0,
        })
    }

    pub(crate) fn add_publisher(&mut self, peer: Peer) -> Result<(), String> {
        self.add(peer, None)
    }

    pub(crate) fn add_viewer(&mut self, peer: Peer, asked: Instant) -> Result<(), String> {
        self.add(peer, Some(asked))
    }

    fn add(&mut self, peer: Peer, waiting_since: Option<Instant>) -> Result<(), String> {
        self.ready.add(&peer.socket, self.clients.len())?;
        self.clients.push(Client {
            peer,
            waiting_since,
        });
        self.deadlines.push(Instant::now());
        Ok(())
    }

    pub(crate) fn all_publish(&self) -> bool {
        let publishers = self.clients.iter().take(self.rooms);
        publishers.filter(|client| client.peer.connected).count() == self.rooms
    }

    pub(crate) fn start_counting(&mut self) {
        for (ledger, source) in self.ledgers.iter_mut().zip(&self.sources) {
            ledger.start(source);
        }
    }

    /// Returns how many packets have been sent that count.
    pub(crate) fn stop_counting(&mut self) -> u64 {
        let rooms = self.ledgers.iter_mut().zip(&self.sources);
        rooms.map(|(ledger, source)| ledger.stop(source)).sum()
    }

    pub(crate) fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        self.run_until(|_| Instant::now() >= end)
    }

    pub(crate) fn run_until(
        &mut self,
        mut is_so: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        while !is_so(self) {
            let turn = self.publish().and_then(|()| {
                self.receive()?;
                self.let_time_pass()
            });
            turn.map_err(|error| format!("a client failed: {error}"))?;
            let due = self.sources.iter().map(Source::due).min();
            let until_due = due.map_or(LOOK_EVERY, |due| due.saturating_sub(wall_clock()));
            std::thread::sleep(until_due.min(LOOK_EVERY));
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), RtcError> {
        for (room, source) in self.sources.iter_mut().enumerate() {
            let Some(publisher) = self.clients.get_mut(room) else {
                break;
            };
            let now = wall_clock();
            // Time goes on before a publisher has come: nothing of it is made up for.
            source.take(now, &mut self.outgoing);
            if !publisher.peer.connected {
                continue;
            }
            let marks: Vec<_> = self.outgoing.iter().map(|p| (p.kind, p.number)).collect();
            for packet in self.outgoing.drain(..) {
                publisher.peer.write(Instant::now(), packet)?;
            }
            // Encrypted, and about to leave: here the way begins.
            let sent_at = wall_clock();
            for (kind, number) in marks {
                self.ledgers[room].sent(kind, number, sent_at);
            }
            publisher.peer.flush();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), RtcError> {
        let mut ready = std::mem::take(&mut self.readable);
        self.ready.look(&mut ready);
        for client in &ready {
            self.receive_for(*client)?;
        }
        self.readable = ready;
        Ok(())
    }

    fn receive_for(&mut self, at: usize) -> Result<(), RtcError> {
        let now = Instant::now();
        let client = &mut self.clients[at];
        loop {
            let received = self.arrivals.receive(&client.peer.socket);
            for arrival in received.iter() {
                let (mut media, mut key_frame) = (None, false);
                let deadline = client
                    .peer
                    .receive(now, arrival.source, arrival.data, |event| match event {
                        Event::RtpPacket(packet) => {
                            media = Some((packet.header.payload_type, Mark::read(&packet.payload)));
                        }
                        Event::KeyframeRequest(_) => key_frame = true,
                        _ => {}
                    });
                self.deadlines[at] = deadline?;
                if let Some(source) = self.sources.get_mut(at)
                    && key_frame
                {
                    source.ask_for_key_frame();
                }
                let Some((payload_type, mark)) = media else {
                    continue;
                };
                if let Some(asked) = client.waiting_since.take() {
                    self.viewing += 1;
                    let took = asked.elapsed().as_nanos() as u64;
                    self.joins.saturating_record(took);
                }
                let room = mark.and_then(|mark| self.ledgers.get(usize::from(mark.room)));
                let Some((mark, room)) = mark.zip(room) else {
                    self.foreign += 1;
                    continue;
                };
                if let Some(latency) = room.latency(mark, arrival.at) {
                    self.fared.note(latency);
                    self.repaired += u64::from(is_repair(&arrival, *payload_type));
                }
            }
            if !received.may_be_more() {
                break;
            }
        }
        client.peer.flush();
        Ok(())
    }

    fn let_time_pass(&mut self) -> Result<(), RtcError> {
        let now = Instant::now();
        for (client, deadline) in self.clients.iter_mut().zip(&mut self.deadlines) {
            if *deadline <= now {
                *deadline = client.peer.advance(now, |_| {})?;
                client.peer.flush();
            }
        }
        Ok(())
    }
}

/// A packet that is sent again has another payload type on its way than the one it is handed out
/// with (RFC 4588).
fn is_repair(arrival: &Arrival<'_>, payload_type: u8) -> bool {
    arrival.data[1] & 0x7f != payload_type
}
