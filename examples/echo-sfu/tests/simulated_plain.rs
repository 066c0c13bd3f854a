//! Conformance item 42, plain transports: two SFUs on two machines, between which media goes as SRTP
//! over a bad link; on simulated threads, with many seeds.

use std::ops::RangeInclusive;
use std::time::Duration;

use echo_sfu::objects::{
    Consumer, ConsumerOptions, PlainConnectOptions, PlainTransport, PlainTransportOptions,
    Producer, ProducerEvent, ProducerOptions, Router, RtpCapabilities, RtpCodec, RtpSource, Worker,
};
use echo_sfu::{NetworkOptions, NetworkThreads, SrtpProfile};
use rtc_thread::{Simulation, Thread};
use socket_server::{Delay, HostOptions, LinkOptions, Loss, VirtualNetwork};
use str0m::format::{CodecConfig, PayloadParams};
use str0m::media::MediaKind;

const SEEDS: u64 = 25;
const SSRC: u32 = 77;
const PACKET_INTERVAL: Duration = Duration::from_millis(20);
/// No packet is under way for longer, but for those that are sent again.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// What is missing is asked for ten times in a second; then it takes a key frame.
const MADE_UP_FOR: usize = 75;

/// An SFU with a machine of its own.
struct Place {
    router: Router,
    plain: PlainTransport,
    _worker: Worker,
    _threads: [Thread; 2],
}

fn place(simulation: &Simulation, network: &VirtualNetwork, name: &str, learns: bool) -> Place {
    let ms = Duration::from_millis;
    let links = LinkOptions::new()
        .delay(Delay::Uniform(ms(5), ms(60)))
        .keep_order()
        .loss(Loss::Bursty {
            to_bad: 0.02,
            to_good: 0.3,
            good: 0.01,
            bad: 0.5,
        })
        .duplicate(0.01)
        .reorder(0.02, ms(30));
    let host = HostOptions::new(name).links(links);
    let host = network.add_host(host).unwrap();
    let moving = simulation.thread_on(&host, &format!("{name}: network"));
    let moving = moving.unwrap();
    let options = NetworkOptions {
        bind: (host.v4(), 5_000).into(),
        announced: vec![host.v4()],
    };
    let networks = NetworkThreads::new([(&moving.handle(), options)]).unwrap();
    let deciding = simulation.thread(&format!("{name}: worker")).unwrap();
    let worker = Worker::with_networks(&deciding, networks).unwrap();
    let router = worker.create_router().wait().unwrap();
    let options = PlainTransportOptions::new(host.v4())
        .srtp(Some(SrtpProfile::AeadAes256Gcm))
        .comedia(learns);
    let plain = router.create_plain_transport(options).wait().unwrap();
    Place {
        router,
        plain,
        _worker: worker,
        // The worker's ends first.
        _threads: [deciding, moving],
    }
}

/// Media that an application gives to one SFU, and another application takes from another.
struct Call {
    simulation: Simulation,
    codecs: Vec<PayloadParams>,
    source: Producer,
    /// What the far SFU has of it.
    piped: Producer,
    heard: Consumer,
    /// Packets sent.
    sent: u16,
    wants_key_frame: bool,
    log: Vec<Heard>,
    _places: [Place; 2],
}

/// A packet that came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    sequence: u16,
    number: u16,
    is_key: bool,
}

impl Call {
    fn new(seed: u64) -> Self {
        let simulation = Simulation::new(seed);
        let network = simulation.network();
        let near = place(&simulation, &network, "near", false);
        let far = place(&simulation, &network, "far", true);
        let mut config = CodecConfig::empty();
        config.enable_vp8(true);
        let codecs = config.params().to_vec();
        let given = near.router.create_direct_transport().wait().unwrap();
        let source = RtpSource::new(MediaKind::Video, codecs.clone(), SSRC);
        let source = given.produce_rtp(source).wait().unwrap();

        let takes = RtpCapabilities {
            codecs: vec![RtpCodec::vp8(96).with_rtx(97)],
            extensions: Vec::new(),
        };
        let sent = near
            .plain
            .consume(source.id(), takes, ConsumerOptions::new());
        let sent = sent.wait().unwrap();
        let piped = far.plain.produce(sent.parameters, ProducerOptions::new());
        let piped = piped.wait().unwrap();
        let key = |of: &Place| of.plain.srtp_key().unwrap().clone();
        let to_near = PlainConnectOptions::with_key(key(&near));
        far.plain.connect(to_near).wait().unwrap();
        let to_far = PlainConnectOptions::to(far.plain.local_address()).srtp_key(key(&far));
        near.plain.connect(to_far).wait().unwrap();
        let taken = far.router.create_direct_transport().wait().unwrap();
        let heard = taken.consume(piped.id(), ConsumerOptions::new());
        Self {
            heard: heard.wait().unwrap(),
            simulation,
            codecs,
            source,
            piped,
            sent: 0,
            wants_key_frame: false,
            log: Vec::new(),
            _places: [near, far],
        }
    }

    /// One packet a frame, and a key frame whenever one is asked for.
    fn send(&mut self) {
        let asked = self.source.events().drain();
        self.wants_key_frame |= asked.contains(&ProducerEvent::KeyFrameRequested);
        let number = self.sent;
        self.sent += 1;
        let is_key = std::mem::take(&mut self.wants_key_frame);
        let mut packet = vec![0x80, 0x80 | *self.codecs[0].pt()];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 1_800).to_be_bytes());
        packet.extend(SSRC.to_be_bytes());
        packet.extend([0x10, u8::from(!is_key)]);
        packet.extend(number.to_be_bytes());
        self.source.send_rtp(packet).wait().unwrap();
    }

    fn run_for(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / PACKET_INTERVAL.as_millis() {
            self.send();
            self.simulation.run_for(PACKET_INTERVAL);
            for packet in self.heard.packets().unwrap().drain() {
                let payload = packet.len() - 4;
                self.log.push(Heard {
                    sequence: u16::from_be_bytes([packet[2], packet[3]]),
                    number: u16::from_be_bytes([packet[payload + 2], packet[payload + 3]]),
                    is_key: packet[payload + 1] == 0,
                });
            }
        }
    }

    /// Pauses a producer, and lets it go on, a few times. Returns which packets were sent meanwhile.
    fn pause_and_resume(&mut self, which: impl Fn(&Self) -> &Producer) -> Vec<RangeInclusive<u16>> {
        let mut silences = Vec::new();
        for _ in 0..3 {
            self.run_for(Duration::from_millis(900));
            which(self).pause().wait().unwrap();
            let first = self.sent;
            self.run_for(Duration::from_millis(500));
            let last = self.sent - 1;
            self.run_for(UNDER_WAY);
            which(self).resume().wait().unwrap();
            silences.push(first..=last);
        }
        // A key frame, or the wish for one, may be lost several times.
        self.run_for(Duration::from_secs(8));
        silences
    }

    /// What was heard of what has been sent, in the order in which it was.
    fn log(mut self) -> Vec<Heard> {
        let end = self.sent;
        // What is missing may still come.
        self.run_for(Duration::from_secs(2));
        self.log.sort_by_key(|own| own.sequence);
        self.log.retain(|own| own.number < end);
        self.log
    }
}

/// Checks that there are no silences but these, that it goes on after each with a key frame, and that
/// where something is missing a key frame makes up for it. Returns how many packets are missing.
#[track_caller]
fn check(log: &[Heard], silences: &[RangeInclusive<u16>], seed: u64) -> u16 {
    assert!(log[0].is_key, "seed {seed}: {:?}", log[0]);
    let mut missing = 0;
    for (at, pair) in log.windows(2).enumerate() {
        let (before, after) = (pair[0], pair[1]);
        let not_heard = after.number - before.number - 1;
        let lost = after.sequence - before.sequence - 1;
        if lost > 0 {
            let mut soon = log[at + 1..].iter().take(MADE_UP_FOR);
            assert!(soon.any(|own| own.is_key), "seed {seed}: {pair:?}");
        }
        missing += lost;
        if not_heard > lost {
            let between = before.number..after.number;
            let paused = silences.iter().any(|own| between.contains(own.start()));
            assert!(paused, "seed {seed}: {pair:?} is missing something");
            let first = log[at + 1..]
                .iter()
                .find(|own| !between.contains(&own.number));
            assert!(first.is_some_and(|own| own.is_key), "seed {seed}: {pair:?}");
        }
    }
    for silence in silences {
        let heard = log.iter().find(|own| silence.contains(&own.number));
        assert_eq!(None, heard, "seed {seed}: {silence:?}");
        let is_after = |own: &Heard| own.number > *silence.end();
        assert!(log.iter().any(is_after), "seed {seed}: {silence:?}");
    }
    missing
}

/// Pauses what is chosen, in a call for each seed.
fn calls(which: impl Fn(&Call) -> &Producer) {
    let (mut heard, mut missing) = (0, 0);
    for seed in seeds() {
        let mut call = Call::new(seed);
        let silences = call.pause_and_resume(&which);
        let log = call.log();
        heard += log.len();
        missing += usize::from(check(&log, &silences, seed));
    }
    // The links lose one in ten; and what is missing when a pause begins is not asked for any more.
    assert!(missing * 50 < heard, "{missing} missing, {heard} heard");
}

fn seeds() -> Vec<u64> {
    match std::env::var("RTC_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

#[test]
fn item_42_what_a_bad_link_loses_is_sent_again_and_a_pause_leaves_no_gap() {
    calls(|call| &call.source);
}

#[test]
fn item_42_pausing_at_the_far_end_is_as_good() {
    calls(|call| &call.piped);
}
