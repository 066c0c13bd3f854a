//! Conformance items 43, 44 and 46 as those see them who receive the media: on simulated threads,
//! with many seeds.

#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use echo_sfu::objects::{Producer, ProducerId, Purpose, Router, WebRtcTransport, Worker};
use echo_sfu::{NetworkOptions, NetworkThreads, Offer, OfferedFlow, ThreadRole};
use rtc_thread::{Simulation, Thread};
use simulated::client::{Client, Received};
use simulated::random::Random;
use simulated::{Person, Stage, good_link, simulated_thread};
use str0m::media::Direction;

const SEEDS: u64 = 25;
const PACKET_INTERVAL: Duration = Duration::from_millis(50);
/// No packet is under way for longer.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// Two workers with a router each, and two network threads.
struct World {
    stage: Stage,
    random: Random,
    routers: [Router; 2],
    people: Vec<Person>,
    _threads: Vec<Thread>,
}

/// Somebody who receives.
struct Viewer {
    client: Client,
    transport: WebRtcTransport,
}

fn world(seed: u64) -> World {
    let stage = Stage::new(Simulation::new(seed));
    let thread = |role, name: &str| {
        let builder = Thread::builder().name(name);
        simulated_thread(role, builder).unwrap()
    };
    let moving = ["network-0", "network-1"].map(|name| thread(ThreadRole::Network, name));
    let place = |port| NetworkOptions {
        bind: SocketAddr::new(stage.ip(), port),
        announced: vec![stage.ip()],
    };
    let handles = moving.each_ref().map(Thread::handle);
    let places = [5_000, 5_001].map(place);
    let networks = NetworkThreads::new(handles.iter().zip(places)).unwrap();
    let deciding = ["worker-0", "worker-1"].map(|name| thread(ThreadRole::Worker, name));
    let router = |thread: &Thread| {
        let worker = Worker::with_networks(thread, networks.clone()).unwrap();
        worker.create_router().wait().unwrap()
    };
    let routers = deciding.each_ref().map(router);
    World {
        stage,
        random: Random::new(seed),
        routers,
        people: Vec::new(),
        _threads: moving.into_iter().chain(deciding).collect(),
    }
}

impl World {
    fn run_for(&self, duration: Duration) {
        self.stage.simulation.run_for(duration);
    }

    /// For some time, from a fifth of a second on.
    fn run_for_a_while(&mut self) {
        let extra = Duration::from_millis(self.random.below(2_500) as u64);
        self.run_for(UNDER_WAY + extra);
    }

    fn client(&mut self, name: &str, direction: Direction) -> (Client, String) {
        let person = self.stage.person(name, good_link());
        let made = Client::offer(&person, direction);
        self.people.push(person);
        made
    }

    fn publish(&mut self) -> (Client, WebRtcTransport) {
        let (client, offer) = self.client("publisher", Direction::SendOnly);
        let offer = Offer::parse(&offer, OfferedFlow::ToUs).unwrap();
        let transport = self.routers[0].create_webrtc_transport(offer, Purpose::Produce);
        let transport = transport.wait().unwrap();
        client.accept(transport.answer());
        client.send_every(PACKET_INTERVAL);
        (client, transport)
    }

    fn view(&mut self, name: &str, router: usize, producers: Vec<ProducerId>) -> Viewer {
        self.view_as(name, router, Purpose::Consume(producers))
    }

    fn view_as(&mut self, name: &str, router: usize, purpose: Purpose) -> Viewer {
        let (client, offer) = self.client(name, Direction::RecvOnly);
        let offer = Offer::parse(&offer, OfferedFlow::FromUs).unwrap();
        let transport = self.routers[router].create_webrtc_transport(offer, purpose);
        let transport = transport.wait().unwrap();
        client.accept(transport.answer());
        client.keep_log();
        Viewer { client, transport }
    }

    /// Pauses something, and lets it go on, a few times. Returns which packets were sent in between.
    fn pause_and_resume(
        &mut self,
        publisher: &Client,
        mut set_paused: impl FnMut(bool),
    ) -> Vec<RangeInclusive<u64>> {
        let mut silences = Vec::new();
        for _ in 0..3 {
            self.run_for_a_while();
            set_paused(true);
            let first = publisher.seen(|seen| seen.sent) + 1;
            self.run_for_a_while();
            let last = publisher.seen(|seen| seen.sent);
            self.run_for(UNDER_WAY);
            set_paused(false);
            silences.push(first..=last);
        }
        self.run_for(Duration::from_secs(2));
        silences
    }
}

impl Viewer {
    fn log(&self, is_video: bool) -> Vec<Received> {
        let log = self.client.seen(|seen| seen.log.clone().unwrap());
        let of_kind = log.into_iter().filter(|own| own.is_video == is_video);
        let mut log: Vec<_> = of_kind.collect();
        log.sort_by_key(|own| own.sequence);
        log
    }

    /// Checks what holds whatever is paused: numbers follow each other, and so do packets.
    #[track_caller]
    fn check_sequences(&self, seed: u64) {
        for is_video in [false, true] {
            let log = self.log(is_video);
            assert!(log.len() > 20, "seed {seed}: {} packets", log.len());
            for pair in log.windows(2) {
                assert_eq!(pair[0].sequence + 1, pair[1].sequence, "seed {seed}");
                assert!(pair[0].number < pair[1].number, "seed {seed}");
            }
        }
    }

    /// Checks that nothing came while it was paused, and that it began anew with a key frame.
    #[track_caller]
    fn check_silences(&self, silences: &[RangeInclusive<u64>], seed: u64) {
        for is_video in [false, true] {
            let log = self.log(is_video);
            for silence in silences {
                let heard = log.iter().find(|own| silence.contains(&own.number));
                assert_eq!(None, heard, "seed {seed}: {silence:?}");
                let first = log.iter().find(|own| own.number > *silence.end());
                let first = first.unwrap_or_else(|| panic!("seed {seed}: nothing comes again"));
                assert!(first.is_key || !is_video, "seed {seed}: {first:?}");
            }
        }
    }

    /// Checks that it has received everything that was sent since it began to.
    #[track_caller]
    fn check_nothing_missed(&self, seed: u64) {
        for is_video in [false, true] {
            for pair in self.log(is_video).windows(2) {
                // The number in between is that of the other kind.
                assert_eq!(pair[0].number + 2, pair[1].number, "seed {seed}");
            }
        }
    }
}

/// Calls all first, and waits then.
fn set_all_paused<'a>(producers: impl IntoIterator<Item = &'a Producer>, paused: bool) {
    let called = producers.into_iter().map(|own| match paused {
        true => own.pause(),
        false => own.resume(),
    });
    let called: Vec<_> = called.collect();
    called.into_iter().for_each(|call| call.wait().unwrap());
}

fn ids(transport: &mut WebRtcTransport) -> Vec<ProducerId> {
    transport.producers().iter().map(|own| own.id()).collect()
}

fn seeds() -> Vec<u64> {
    match std::env::var("RTC_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

#[test]
fn item_43_nothing_comes_of_a_paused_producer_and_a_resumed_one_begins_with_a_key_frame() {
    for seed in seeds() {
        let mut world = world(seed);
        let (publisher, mut transport) = world.publish();
        let producers = ids(&mut transport);
        let viewers = ["near", "far"].map(|name| world.view(name, 0, producers.clone()));
        world.run_for(Duration::from_secs(2));
        let silences = world.pause_and_resume(&publisher, |paused| {
            set_all_paused(transport.producers().iter(), paused);
        });
        for viewer in &viewers {
            viewer.check_sequences(seed);
            viewer.check_silences(&silences, seed);
        }
    }
}

#[test]
fn item_44_a_paused_consumer_is_silent_and_no_other_one_is() {
    for seed in seeds() {
        let mut world = world(seed);
        let (publisher, mut transport) = world.publish();
        let producers = ids(&mut transport);
        let [mut paused, other] =
            ["one", "other"].map(|name| world.view(name, 0, producers.clone()));
        world.run_for(Duration::from_secs(2));
        let silences = world.pause_and_resume(&publisher, |pause| {
            let called = paused.transport.consumers().iter().map(|own| match pause {
                true => own.pause(),
                false => own.resume(),
            });
            let called: Vec<_> = called.collect();
            called.into_iter().for_each(|call| call.wait().unwrap());
        });
        paused.check_sequences(seed);
        paused.check_silences(&silences, seed);
        other.check_sequences(seed);
        other.check_nothing_missed(seed);
    }
}

#[test]
fn item_44_a_consumer_that_begins_paused_is_silent_until_it_is_resumed() {
    for seed in seeds() {
        let mut world = world(seed);
        let (publisher, mut transport) = world.publish();
        let wanted = Purpose::ConsumePaused(ids(&mut transport));
        let mut viewer = world.view_as("viewer", 0, wanted);
        world.run_for_a_while();
        // The producer's pauses change nothing about it.
        set_all_paused(transport.producers().iter(), true);
        set_all_paused(transport.producers().iter(), false);
        world.run_for(Duration::from_secs(2));
        assert!(viewer.client.is_connected(), "seed {seed}");
        for consumer in viewer.transport.consumers() {
            let status = consumer.status().wait().unwrap();
            assert!(status.paused && !status.producer_paused, "seed {seed}");
        }
        let before = publisher.seen(|seen| seen.sent);
        for consumer in viewer.transport.consumers() {
            consumer.resume().wait().unwrap();
        }
        world.run_for(Duration::from_secs(2));
        viewer.check_sequences(seed);
        viewer.check_silences(&[1..=before.saturating_sub(8)], seed);
    }
}

#[test]
fn item_46_what_is_piped_to_another_worker_is_as_silent_as_its_source() {
    for seed in seeds() {
        let mut world = world(seed);
        let (publisher, mut transport) = world.publish();
        let pipes = ids(&mut transport).into_iter().map(|producer| {
            let piped = world.routers[0].pipe(producer, &world.routers[1]);
            piped.wait().unwrap().producer
        });
        let pipes: Vec<_> = pipes.collect();
        let piped: Vec<_> = pipes.iter().map(|own| own.id()).collect();
        let source = world.view("at the source", 0, ids(&mut transport));
        let viewers = ["one", "other"].map(|name| world.view(name, 1, piped.clone()));
        world.run_for(Duration::from_secs(2));
        let by_source = world.pause_and_resume(&publisher, |paused| {
            set_all_paused(transport.producers().iter(), paused);
        });
        // At the far end, too, it can be paused, for those there alone.
        let by_pipe = world.pause_and_resume(&publisher, |paused| set_all_paused(&pipes, paused));
        source.check_sequences(seed);
        source.check_silences(&by_source, seed);
        for viewer in &viewers {
            viewer.check_sequences(seed);
            viewer.check_silences(&by_source, seed);
            viewer.check_silences(&by_pipe, seed);
        }
        let heard = source.log(false);
        let both = by_pipe.iter().all(|silence| {
            let heard = heard.iter().any(|own| silence.contains(&own.number));
            heard || silence.end() - silence.start() < 4
        });
        assert!(both, "seed {seed}: the source was silent, too");
        // What the source closes is closed there as well, and nobody is sent anything any more.
        for producer in transport.producers() {
            producer.close().wait().unwrap();
        }
        world.run_for(UNDER_WAY);
        let before = viewers[0].client.seen(|seen| seen.audio + seen.video);
        world.run_for(Duration::from_secs(2));
        assert_eq!(
            before,
            viewers[0].client.seen(|seen| seen.audio + seen.video)
        );
    }
}
