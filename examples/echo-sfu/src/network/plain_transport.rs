//! RTP as it is, or with SRTP whose keys the application has exchanged: no ICE, no DTLS, no library.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rtc_thread::DelayedTask;
use socket_server::{Envelope, SendBatch, UdpSocket};

use super::arriving::{Arriving, PlainProduced, Requests, Stream};
use super::demux::Stranger;
use super::outbox::Outbox;
use super::transport::Way;
use super::webrtc::is_rtcp;
use crate::objects::{ProducerId, TransportId};
use crate::rtp::incoming::IncomingStats;
use crate::rtp::rtcp::{Compound, ReportBlock, Rtcp, read_compound};
use crate::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::rtp::wire::RtpView;
use crate::stats::NetworkCounters;

/// How often missing packets are looked after, while there are any.
const BETWEEN_NACKS: Duration = Duration::from_millis(20);
/// What may wait for room in a socket's buffer.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// How many ports are tried. Each costs a call of the system, on a thread that moves media.
const MAX_TRIES: usize = 1_000;
/// How often the system may choose a port whose neighbour is taken.
const CHOICES: usize = 16;

/// Which of a transport's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// Of RTP, and of RTCP unless that has its own.
    Rtp,
    Rtcp,
}

/// A socket, and what goes through it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) socket: UdpSocket,
    waiting: SendBatch,
    remote: Option<SocketAddr>,
    /// By which of our addresses the other end reaches us, if it has.
    local_ip: Option<IpAddr>,
}

impl Channel {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self {
            socket,
            waiting: SendBatch::new().with_limit_bytes(MAX_WAITING_BYTES),
            remote: None,
            local_ip: None,
        }
    }

    fn envelope(&self) -> Option<Envelope> {
        Some(Envelope::to(self.remote?).from_ip(self.local_ip))
    }

    fn flush(&mut self, counters: &NetworkCounters) {
        if self.waiting.is_empty() {
            return;
        }
        let report = self.socket.send_batch(&mut self.waiting);
        counters.packets_out.add(report.datagrams);
        counters.bytes_out.add(report.bytes);
        counters.send_errors.add(report.failed);
        if let Some(error) = report.last_error {
            tracing::debug!(%error, failed = report.failed, "sending failed");
        }
    }
}

/// How what is sent and received is encrypted.
#[derive(Debug)]
pub(super) enum Protection {
    None,
    Srtp {
        sender: Box<SrtpSender>,
        /// Until the other end's key is known, nothing of it is believed, and nothing is sent.
        receiver: Option<Box<SrtpReceiver>>,
    },
}

/// Where the other end is, and its key, as far as they are told.
#[derive(Debug, Default)]
pub(crate) struct PlainRemote {
    pub(crate) rtp: Option<SocketAddr>,
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) receiver: Option<Box<SrtpReceiver>>,
}

/// A transport of RTP over a socket of its own. It lives on a network thread.
///
/// With SRTP, only what is authentic changes anything. Without, whoever can send from the other end's
/// address can send media; and if that address is to be learned, whoever knows an SSRC, or sends RTCP,
/// before the other end does.
#[derive(Debug)]
pub(super) struct PlainTransport {
    id: TransportId,
    rtp: Channel,
    rtcp: Option<Channel>,
    /// Whether the other end is wherever its first packet comes from.
    learns: bool,
    /// How long the other end may be silent, and since when it is.
    silence: Option<(Duration, Instant)>,
    protection: Protection,
    /// Who we are in reports about what arrives.
    ssrc: u32,
    /// What arrives, by SSRC.
    streams: HashMap<u32, Stream>,
    /// In order: what is asked for is the same in every run.
    arriving: BTreeMap<ProducerId, Arriving>,
    decrypted: Vec<u8>,
    pub(super) timer: Option<(Instant, DelayedTask)>,
}

impl PlainTransport {
    pub(super) fn new(
        id: TransportId,
        (rtp, rtcp): (Channel, Option<Channel>),
        learns: bool,
        silence: Option<(Duration, Instant)>,
        sender: Option<SrtpSender>,
        ssrc: u32,
    ) -> Self {
        Self {
            id,
            rtp,
            rtcp,
            learns,
            silence,
            protection: sender.map_or(Protection::None, |sender| Protection::Srtp {
                sender: Box::new(sender),
                receiver: None,
            }),
            ssrc,
            streams: HashMap::new(),
            arriving: BTreeMap::new(),
            decrypted: Vec::new(),
            timer: None,
        }
    }

    pub(super) fn channel(&self, port: Port) -> Option<&Channel> {
        match port {
            Port::Rtp => Some(&self.rtp),
            Port::Rtcp => self.rtcp.as_ref(),
        }
    }

    /// Takes in where the other end is. What has been learned already stays.
    pub(super) fn connect(&mut self, remote: PlainRemote, outbox: &mut Outbox) {
        let was_connected = self.is_connected();
        self.rtp.remote = self.rtp.remote.or(remote.rtp);
        if let Some(rtcp) = &mut self.rtcp {
            rtcp.remote = rtcp.remote.or(remote.rtcp);
        }
        if let Protection::Srtp { receiver, .. } = &mut self.protection
            && receiver.is_none()
        {
            *receiver = remote.receiver;
        }
        if !was_connected && self.is_connected() {
            outbox.connected.push(self.id);
        }
    }

    /// Whether the other end has been silent for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let too_long = |(limit, since)| now.saturating_duration_since(since) >= limit;
        self.silence.is_some_and(too_long)
    }

    /// Whether much of what can be sent with its key has been.
    pub(super) fn has_worn_key(&self) -> bool {
        match &self.protection {
            Protection::Srtp { sender, .. } => sender.is_worn(),
            Protection::None => false,
        }
    }

    /// Whether media can go out.
    pub(super) fn is_connected(&self) -> bool {
        self.rtp.remote.is_some() && self.protection.is_agreed()
    }

    pub(super) fn add_producer(&mut self, now: Instant, produced: PlainProduced) {
        self.streams.extend(Arriving::streams(&produced));
        let arriving = Arriving::new(now, &produced);
        self.arriving.insert(produced.producer, arriving);
    }

    pub(super) fn remove_producer(&mut self, producer: ProducerId) {
        self.arriving.remove(&producer);
        if let Protection::Srtp {
            receiver: Some(receiver),
            ..
        } = &mut self.protection
        {
            let streams = self.streams.iter();
            for (ssrc, _) in streams.filter(|(_, stream)| stream.producer == producer) {
                receiver.forget(*ssrc);
            }
        }
        self.streams.retain(|_, stream| stream.producer != producer);
    }

    pub(super) fn produced(&self) -> impl Iterator<Item = ProducerId> {
        self.arriving.keys().copied()
    }

    /// Takes in a datagram. Returns when it wants to hear of time again.
    ///
    /// # Errors
    ///
    /// It is not of the other end, or not of anything that is to arrive here.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        port: Port,
        source: SocketAddr,
        local_ip: Option<IpAddr>,
        datagram: &[u8],
        outbox: &mut Outbox,
    ) -> Result<Option<Instant>, Stranger> {
        let channel = self.channel(port).ok_or(Stranger::UnknownSource)?;
        let is_known = channel.remote == Some(source);
        if !is_known && (channel.remote.is_some() || !self.learns) {
            return Err(Stranger::UnknownSource);
        }
        let mut decrypted = std::mem::take(&mut self.decrypted);
        let taken = if port == Port::Rtcp || is_rtcp(datagram) {
            let taken = self.take_rtcp(now, datagram, &mut decrypted, outbox);
            taken.map(|()| None)
        } else {
            let taken = self.take_rtp(now, datagram, &mut decrypted, outbox);
            taken.map(Some)
        };
        self.decrypted = decrypted;
        let producer = taken?;
        if let Some((_, since)) = &mut self.silence {
            *since = now;
        }
        self.note_path(port, source, local_ip, outbox);
        // Nothing has changed for the others, of which there may be hundreds.
        Ok(producer.and_then(|producer| self.ask(now, Some(producer), outbox)))
    }

    /// Where an authentic packet came from is where the other end is.
    fn note_path(
        &mut self,
        port: Port,
        source: SocketAddr,
        local_ip: Option<IpAddr>,
        outbox: &mut Outbox,
    ) {
        let was_connected = self.is_connected();
        let channel = match (port, &mut self.rtcp) {
            (Port::Rtcp, Some(rtcp)) => rtcp,
            _ => &mut self.rtp,
        };
        channel.local_ip = local_ip;
        if channel.remote.is_none() {
            tracing::debug!(transport = ?self.id, ?port, "the other end is found");
            channel.remote = Some(source);
        }
        if !was_connected && self.is_connected() {
            outbox.connected.push(self.id);
        }
    }

    fn take_rtp(
        &mut self,
        now: Instant,
        datagram: &[u8],
        decrypted: &mut Vec<u8>,
        outbox: &mut Outbox,
    ) -> Result<ProducerId, Stranger> {
        let view = RtpView::parse(datagram).map_err(|_| Stranger::Malformed)?;
        let stream = self.streams.get(&view.ssrc());
        let stream = *stream.ok_or(Stranger::UnknownSource)?;
        let payload = match &mut self.protection {
            Protection::None => view.payload(),
            Protection::Srtp { receiver, .. } => {
                let receiver = receiver.as_mut().ok_or(Stranger::UnknownSource)?;
                receiver
                    .unprotect_rtp(datagram, view.header_len(), decrypted)
                    .map_err(|_| Stranger::UnknownSource)?;
                decrypted
            }
        };
        let payload = view
            .without_padding(payload)
            .map_err(|_| Stranger::Malformed)?;
        let arriving = self.arriving.get_mut(&stream.producer);
        let arriving = arriving.ok_or(Stranger::UnknownSource)?;
        let packet = arriving.take(now, &view, stream, payload, datagram.len());
        if let Some(packet) = packet {
            outbox.packets.push((stream.producer, packet));
        }
        Ok(stream.producer)
    }

    fn take_rtcp(
        &mut self,
        now: Instant,
        datagram: &[u8],
        decrypted: &mut Vec<u8>,
        outbox: &mut Outbox,
    ) -> Result<(), Stranger> {
        let compound = match &mut self.protection {
            Protection::None => datagram,
            Protection::Srtp { receiver, .. } => {
                let receiver = receiver.as_mut().ok_or(Stranger::UnknownSource)?;
                receiver
                    .unprotect_rtcp(datagram, decrypted)
                    .map_err(|_| Stranger::UnknownSource)?;
                decrypted
            }
        };
        let reports = read_compound(compound);
        if reports.is_empty() {
            return Err(Stranger::Malformed);
        }
        for report in reports {
            if let Rtcp::SenderReport { ssrc, sent, .. } = &report
                && let Some(stream) = self.streams.get(ssrc)
                && let Some(arriving) = self.arriving.get_mut(&stream.producer)
                && !stream.is_rtx
            {
                let ntp = sent.ntp.middle32();
                arriving.on_sender_report(now, stream.layer, ntp);
            }
            outbox.reports.push((self.id, report));
        }
        Ok(())
    }

    /// Asks for what is missing, if it is time to. Returns when that is to be looked at again.
    pub(super) fn after(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Instant> {
        self.ask(now, None, outbox)
    }

    /// The same of one producer's, or of everybody's.
    fn ask(
        &mut self,
        now: Instant,
        only: Option<ProducerId>,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let mut said = std::mem::take(&mut outbox.plain);
        let mut requests = Requests::new(self.ssrc, &mut said);
        let has_missing = match only {
            Some(producer) => {
                let arriving = self.arriving.get_mut(&producer);
                arriving.is_some_and(|own| own.ask(now, &mut requests))
            }
            None => {
                let mut has_missing = false;
                for arriving in self.arriving.values_mut() {
                    has_missing |= arriving.ask(now, &mut requests);
                }
                has_missing
            }
        };
        if requests.is_begun() {
            self.say(&said, outbox);
        }
        outbox.plain = said;
        has_missing.then(|| now + BETWEEN_NACKS)
    }

    /// Asks the other end for a key frame of something that it sends.
    pub(super) fn request_key_frame(
        &mut self,
        producer: ProducerId,
        layer: u8,
        outbox: &mut Outbox,
    ) {
        let arriving = self.arriving.get(&producer);
        let Some(media) = arriving.and_then(|own| own.ssrc(layer)) else {
            return;
        };
        let own = self.ssrc;
        let mut said = std::mem::take(&mut outbox.plain);
        let mut compound = Compound::new(&mut said);
        compound.receiver_report(own, &[]).pli(own, media);
        self.say(&said, outbox);
        outbox.plain = said;
    }

    fn say(&mut self, compound: &[u8], outbox: &mut Outbox) {
        let Outbox {
            encrypted, touched, ..
        } = outbox;
        // To nobody, as long as nobody is there.
        if let Some(way) = self.reporting_way(touched)
            && !way.send_compound(compound, encrypted)
        {
            outbox.datagrams_dropped += 1;
        }
    }

    /// How what arrives arrives: who says so, and what there is to say.
    pub(super) fn reception(&mut self, now: Instant) -> (u32, Vec<ReportBlock>) {
        let arriving = self.arriving.values_mut();
        let blocks = arriving.flat_map(|own| own.report_blocks(now));
        (self.ssrc, blocks.collect())
    }

    /// How a producer arrives here, by its smallest layer.
    pub(super) fn reception_of(
        &mut self,
        now: Instant,
        producer: ProducerId,
    ) -> Option<IncomingStats> {
        self.arriving.get_mut(&producer)?.stats(now)
    }

    pub(super) const fn remote(&self) -> Option<SocketAddr> {
        self.rtp.remote
    }

    /// How media goes out, once it can go anywhere.
    pub(super) fn way<'a>(
        &'a mut self,
        touched: &mut Vec<TransportId>,
        clock: Duration,
    ) -> Option<Way<'a>> {
        if !self.is_connected() {
            return None;
        }
        let envelope = self.rtp.envelope()?;
        note_touched(self.id, &self.rtp, touched);
        Some(Way {
            envelope,
            srtp: self.protection.sender(),
            datagrams: &mut self.rtp.waiting,
            clock,
        })
    }

    /// The same for RTCP.
    pub(super) fn reporting_way<'a>(
        &'a mut self,
        touched: &mut Vec<TransportId>,
    ) -> Option<Way<'a>> {
        if !self.protection.is_agreed() {
            return None;
        }
        let channel = self.rtcp.as_mut().unwrap_or(&mut self.rtp);
        let envelope = channel.envelope()?;
        note_touched(self.id, channel, touched);
        Some(Way {
            envelope,
            srtp: self.protection.sender(),
            datagrams: &mut channel.waiting,
            clock: Duration::ZERO,
        })
    }

    /// Hands to the system what waits. What does not fit its buffer waits for room.
    pub(super) fn flush(&mut self, counters: &NetworkCounters) {
        self.rtp.flush(counters);
        if let Some(rtcp) = &mut self.rtcp {
            rtcp.flush(counters);
        }
    }

    /// Says that something that is sent has ended.
    pub(super) fn say_goodbye(&mut self, ssrc: u32, outbox: &mut Outbox) {
        let mut said = std::mem::take(&mut outbox.plain);
        Compound::new(&mut said)
            .receiver_report(ssrc, &[])
            .bye(&[ssrc]);
        self.say(&said, outbox);
        outbox.plain = said;
    }
}

impl Protection {
    fn is_agreed(&self) -> bool {
        !matches!(self, Self::Srtp { receiver: None, .. })
    }

    fn sender(&mut self) -> Option<&mut SrtpSender> {
        match self {
            Self::None => None,
            Self::Srtp { sender, .. } => Some(sender),
        }
    }
}

fn note_touched(id: TransportId, channel: &Channel, touched: &mut Vec<TransportId>) {
    // One that has something waiting has been noted, or waits for room.
    if channel.waiting.is_empty() {
        touched.push(id);
    }
}

/// Which ports a transport may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// Where to begin to look, so that several transports do not all try the same.
    pub(crate) begin: u16,
}

impl PortRange {
    /// Those at which as many ports in a row begin.
    fn candidates(self, in_a_row: u16) -> Vec<u16> {
        let ports = (self.first..=self.last).step_by(in_a_row.into());
        let has_room = |port: &u16| self.last - port >= in_a_row - 1;
        let mut ports: Vec<u16> = ports.filter(has_room).collect();
        let begin = usize::from(self.begin) % ports.len().max(1);
        ports.rotate_left(begin);
        ports.truncate(MAX_TRIES);
        ports
    }
}

/// Opens a socket, and the next port's for RTCP if it is to have one.
pub(super) fn open_ports(
    ports: Option<PortRange>,
    with_rtcp: bool,
    mut open: impl FnMut(u16) -> io::Result<UdpSocket>,
) -> io::Result<(Channel, Option<Channel>)> {
    let mut open_at = |port: u16| {
        let rtp = open(port)?;
        let rtcp = match with_rtcp {
            true => {
                let next = rtp.local_addr().port().checked_add(1);
                let next = next.ok_or(io::ErrorKind::AddrInUse)?;
                Some(Channel::new(open(next)?))
            }
            false => None,
        };
        Ok((Channel::new(rtp), rtcp))
    };
    let candidates = match ports {
        Some(ports) => ports.candidates(if with_rtcp { 2 } else { 1 }),
        // The system chooses; but the port after may be somebody else's.
        None => vec![0; CHOICES],
    };
    let mut outcome = Err(io::Error::from(io::ErrorKind::AddrInUse));
    for port in candidates {
        outcome = open_at(port);
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_tried_from_somewhere_on_and_all_of_them() {
        let range = |first, last, begin| PortRange { first, last, begin };
        assert_eq!(vec![7], range(7, 7, 9).candidates(1));
        assert_eq!(vec![6, 7, 5], range(5, 7, 1).candidates(1));
        assert_eq!(vec![10, 12], range(10, 14, 2).candidates(2));
        assert!(range(7, 7, 0).candidates(2).is_empty());
        assert!(range(8, 7, 0).candidates(1).is_empty());
        assert_eq!(MAX_TRIES, range(0, u16::MAX, 77).candidates(1).len());
        assert_eq!(vec![65_534], range(65_534, 65_535, 77).candidates(2));
    }
}
