//! How transports to WebRTC clients are, and how well what arrives on them does: conformance items 42
//! and 43, on simulated threads.

#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::net::SocketAddr;
use std::time::Duration;

use echo_sfu::objects::{
    CloseReason, DtlsState, IceState, ObjectError, Producer, ProducerEvent, Purpose, Router,
    TransportEvent, WebRtcTransport, Worker,
};
use echo_sfu::{IceCredentials, NetworkOptions, NetworkThreads, Offer, OfferedFlow, ThreadRole};
use rtc_thread::{Simulation, Thread};
use simulated::client::Client;
use simulated::{Person, Stage, good_link, simulated_thread};
use str0m::media::Direction;

struct World {
    stage: Stage,
    router: Router,
    others: [Router; 2],
    person: Person,
    _threads: [Thread; 2],
}

fn world(seed: u64) -> World {
    let stage = Stage::new(Simulation::new(seed));
    let thread = |role, name: &str| {
        let builder = Thread::builder().name(name);
        simulated_thread(role, builder).unwrap()
    };
    let moving = thread(ThreadRole::Network, "network");
    let place = NetworkOptions {
        bind: SocketAddr::new(stage.ip(), 5_000),
        announced: vec![stage.ip()],
    };
    let networks = NetworkThreads::new([(&moving.handle(), place)]).unwrap();
    let deciding = thread(ThreadRole::Worker, "worker");
    let worker = Worker::with_networks(&deciding, networks).unwrap();
    let other = |_| worker.create_router().wait().unwrap();
    World {
        others: [(); 2].map(other),
        router: worker.create_router().wait().unwrap(),
        person: stage.person("client", good_link()),
        stage,
        _threads: [moving, deciding],
    }
}

impl World {
    fn publish(&self) -> (Client, WebRtcTransport) {
        let (client, offer) = Client::offer(&self.person, Direction::SendOnly);
        let offer = Offer::parse(&offer, OfferedFlow::ToUs).unwrap();
        let transport = self.router.create_webrtc_transport(offer, Purpose::Produce);
        let transport = transport.wait().unwrap();
        (client, transport)
    }

    fn pass(&self, seconds: u64) {
        self.stage.simulation.run_for(Duration::from_secs(seconds));
    }
}

#[test]
fn item_42_how_a_transport_comes_to_be_is_told_in_order_and_agrees_with_how_it_is() {
    for seed in 0..10 {
        let world = world(seed);
        let (client, mut transport) = world.publish();
        world.pass(1);
        let status = transport.status().wait().unwrap();
        assert_eq!((IceState::New, DtlsState::New), (status.ice, status.dtls));
        assert_eq!(None, transport.events().try_next());
        client.accept(transport.answer());
        client.send_every(Duration::from_millis(50));
        world.pass(3);
        let status = transport.status().wait().unwrap();
        let connected = (IceState::Completed, DtlsState::Connected);
        assert_eq!(connected, (status.ice, status.dtls), "seed {seed}");
        let remote = status.remote.unwrap();
        assert_eq!(world.person.ip, remote.ip());
        let events = transport.events().drain();
        let mut replayed = (IceState::New, DtlsState::New, None);
        for event in &events {
            match event {
                TransportEvent::IceStateChanged(state) => replayed.0 = *state,
                TransportEvent::DtlsStateChanged(state) => {
                    assert!(*state > replayed.1, "seed {seed}: {events:?}");
                    replayed.1 = *state;
                }
                TransportEvent::RemoteChanged(remote) => replayed.2 = Some(*remote),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert_eq!((connected.0, connected.1, Some(remote)), replayed);

        // It goes elsewhere, through the same DTLS session.
        let offer = client.offer_elsewhere();
        let offer = Offer::parse(&offer, OfferedFlow::ToUs).unwrap();
        let credentials = offer.ice_credentials().unwrap();
        let restarted = transport.restart_ice(credentials).wait().unwrap();
        client.accept(&restarted.answer);
        world.pass(3);
        let moved = transport.status().wait().unwrap();
        assert_ne!(status.remote, moved.remote);
        let told = TransportEvent::RemoteChanged(moved.remote.unwrap());
        assert_eq!(vec![told], transport.events().drain(), "seed {seed}");

        // Without a goodbye.
        drop(client);
        world.pass(40);
        let events = transport.events().drain();
        let closed = TransportEvent::Closed(CloseReason::Disconnected);
        assert_eq!(Some(&closed), events.last(), "seed {seed}: {events:?}");
        let gone = Err(ObjectError::TransportClosed(transport.id()));
        assert_eq!(gone, transport.status().wait());
        let limited = transport.set_max_incoming_bitrate(None).wait();
        assert_eq!(Err(ObjectError::TransportClosed(transport.id())), limited);
    }
}

fn other_credentials() -> IceCredentials {
    IceCredentials::new("wxyz", "p".repeat(22)).unwrap()
}

#[test]
fn item_42_a_restart_counts_as_hearing_from_the_client() {
    for seed in 0..5 {
        let world = world(seed);
        let (client, transport) = world.publish();
        client.accept(transport.answer());
        world.pass(5);
        // It has lost its network, and has another just in time.
        drop(client);
        world.pass(13);
        transport.restart_ice(other_credentials()).wait().unwrap();
        world.pass(12);
        assert!(transport.status().wait().is_ok(), "seed {seed}");
        world.pass(10);
        let gone = Err(ObjectError::TransportClosed(transport.id()));
        assert_eq!(gone, transport.status().wait(), "seed {seed}");
    }
}

#[test]
fn item_42_checks_with_the_credentials_before_are_not_answered_wherever_they_come_from() {
    for seed in 0..5 {
        let world = world(seed);
        let (client, transport) = world.publish();
        client.accept(transport.answer());
        world.pass(5);
        let before = transport.status().wait().unwrap();
        let answers = || client.seen(|seen| seen.answers);
        assert!(answers() > 0);
        // It is not told, and goes on with what it has, where it is known to be.
        transport.restart_ice(other_credentials()).wait().unwrap();
        world.pass(1);
        let answered = answers();
        world.pass(10);
        assert_eq!(answered, answers(), "seed {seed}");
        let now = transport.status().wait().unwrap();
        assert_eq!(before.remote, now.remote, "seed {seed}");
    }
}

#[test]
fn item_43_a_producer_of_a_webrtc_client_is_scored_by_what_is_missing() {
    for seed in 0..10 {
        let world = world(seed);
        let (client, mut transport) = world.publish();
        client.accept(transport.answer());
        client.send_every(Duration::from_millis(20));
        world.pass(5);
        let drained = |transport: &mut WebRtcTransport| {
            let producers = transport.producers().iter_mut();
            producers
                .map(|own| own.events().drain())
                .collect::<Vec<_>>()
        };
        let nothing = vec![Vec::<ProducerEvent>::new(); 2];
        assert_eq!(nothing, drained(&mut transport), "seed {seed}");
        client.skip_one_in(Some(5));
        world.pass(8);
        // Piped while it is bad, and from there again: it is as bad there.
        let video = transport.producers()[1].id();
        let near = world.router.pipe(video, &world.others[0]).wait().unwrap();
        let piped = near.producer.id();
        let mut far = world.others[0]
            .pipe(piped, &world.others[1])
            .wait()
            .unwrap();
        for events in drained(&mut transport) {
            let Some(ProducerEvent::Score { layer: 0, score }) = events.last() else {
                panic!("seed {seed}: {events:?}");
            };
            // A fifth is lost.
            assert!((3..=5).contains(score), "seed {seed}: {events:?}");
        }
        let scores = |transport: &mut WebRtcTransport| {
            let status = transport.producers()[1].status().wait().unwrap();
            status.scores
        };
        assert!(scores(&mut transport)[0] < 6);
        let at_far_end = |far: &Producer| far.status().wait().unwrap().scores;
        assert_eq!(scores(&mut transport), at_far_end(&near.producer));
        assert_eq!(scores(&mut transport), at_far_end(&far.producer));
        // What is paused is nobody's loss, and keeps its score.
        let before = scores(&mut transport);
        transport.producers()[1].pause().wait().unwrap();
        world.pass(5);
        assert_eq!(before, scores(&mut transport), "seed {seed}");
        transport.producers()[1].resume().wait().unwrap();
        client.skip_one_in(None);
        world.pass(10);
        assert_eq!(vec![10], scores(&mut transport), "seed {seed}");
        assert_eq!(vec![10], at_far_end(&far.producer), "seed {seed}");
        let told = far.producer.events().drain();
        let last = ProducerEvent::Score {
            layer: 0,
            score: 10,
        };
        assert_eq!(Some(&last), told.last(), "seed {seed}: {told:?}");
        // A client that falls silent, before it counts as gone.
        drop(client);
        world.pass(5);
        assert_eq!(vec![0], scores(&mut transport), "seed {seed}");
        assert_eq!(vec![0], at_far_end(&far.producer), "seed {seed}");
    }
}
