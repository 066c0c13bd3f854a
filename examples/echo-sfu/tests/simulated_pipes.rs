//! What becomes of pipes between processes when a worker fails: conformance items 41 and 46. Two SFUs
//! in one simulation, linked as if by a network.

mod plain_rtp;
#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::net::SocketAddr;
use std::time::Duration;

use echo_sfu::objects::{
    CloseReason, DataConsumerOptions, DataProducerEvent, DataProducerOptions, PipeListenerEvent,
    PlainTransportOptions, ProducerOptions, RemotePipeEvent, Router, Worker,
};
use echo_sfu::{NetworkOptions, NetworkThreads, PipeSecret, Sfu, Signaling, ThreadRole};
use plain_rtp::vp8;
use rtc_thread::{JoinError, Simulation, Thread, ThreadHandle};
use simulated::client::Client;
use simulated::random::Random;
use simulated::{Person, Stage, connect, good_link, room, simulated_thread};
use str0m::media::Direction;

const SECOND: Duration = Duration::from_secs(1);
const PACKET_INTERVAL: Duration = Duration::from_millis(100);
const SEEDS: u64 = 10;

/// What is published at the near one is piped to the far one.
struct World {
    stage: Stage,
    near: Option<Sfu>,
    far: Option<Sfu>,
    /// Their workers, in the order in which they were made.
    near_workers: Vec<ThreadHandle>,
    far_workers: Vec<ThreadHandle>,
    person: Person,
}

fn world(seed: u64, workers: usize) -> World {
    let stage = Stage::new(Simulation::new(seed));
    let secret = PipeSecret::new(b"known to both of the processes").unwrap();
    let ip = stage.ip();
    let far = stage.sfu(|options| {
        options.workers = workers;
        options.network_threads = 2;
        options.pipe_listen = Some(SocketAddr::new(ip, 5_100));
        options.pipe_secret = Some(secret.clone());
    });
    let far_workers = stage.threads(ThreadRole::Worker);
    let near = stage.sfu(|options| {
        options.workers = workers;
        options.udp_port = 5_010;
        options.pipe_to = vec![SocketAddr::new(ip, 5_100)];
        options.pipe_secret = Some(secret);
    });
    let near_workers = stage.threads(ThreadRole::Worker).split_off(workers);
    stage.simulation.run_for(SECOND);
    let person = stage.person("somebody", good_link());
    World {
        stage,
        near: Some(near),
        far: Some(far),
        near_workers,
        far_workers,
        person,
    }
}

impl World {
    fn signaling(&self) -> [Signaling; 2] {
        [&self.near, &self.far].map(|sfu| sfu.as_ref().unwrap().signaling())
    }

    fn publish(&self, name: &str) -> Client {
        let [near, _] = self.signaling();
        let open = |offer| near.publish(room(name), None, offer);
        let (client, _) = connect(&self.person, Direction::SendOnly, open).unwrap();
        client.send_every(PACKET_INTERVAL);
        client
    }

    fn is_there(&self, name: &str) -> bool {
        let [_, far] = self.signaling();
        far.room(room(name)).wait().is_ok()
    }

    #[track_caller]
    fn check_is_seen_from_afar(&self, name: &str) {
        let [_, far] = self.signaling();
        let open = |offer| far.view(room(name), None, offer);
        let (viewer, _) = connect(&self.person, Direction::RecvOnly, open).unwrap();
        self.stage.simulation.run_for(3 * SECOND);
        let seen = viewer.seen(|seen| seen.audio.min(seen.video));
        assert!(seen > 10, "{name}: {seen} packets");
    }

    fn fail(&self, worker: &ThreadHandle) {
        worker.post(|| panic!("on purpose")).unwrap();
    }

    /// Ends it, with one worker of one of the two having failed.
    fn end(mut self, who_failed: usize) {
        let ended = [self.near.take(), self.far.take()].map(|sfu| sfu.unwrap().shutdown());
        for (at, outcome) in ended.iter().enumerate() {
            let has_failed = matches!(outcome, Err(JoinError::Panicked(_)));
            assert_eq!(at == who_failed, has_failed, "{outcome:?}");
        }
    }
}

const NEAR: usize = 0;
const FAR: usize = 1;

#[test]
fn item_41_the_worker_that_listens_for_pipes_fails_and_what_others_publish_comes_back() {
    for seed in 0..SEEDS {
        let world = world(seed, 1);
        let _publisher = world.publish("hall");
        world.stage.simulation.run_for(SECOND);
        world.check_is_seen_from_afar("hall");
        world.fail(&world.far_workers[0]);
        world.stage.simulation.run_for(SECOND / 2);
        assert!(!world.is_there("hall"));
        // Another worker is there after a second, listens, and is connected to soon after.
        world.stage.simulation.run_for(8 * SECOND);
        world.check_is_seen_from_afar("hall");
        world.end(FAR);
    }
}

#[test]
fn item_41_the_worker_that_links_to_others_fails_and_whoever_publishes_next_is_piped() {
    for seed in 0..SEEDS {
        let world = world(seed, 1);
        let publisher = world.publish("hall");
        world.stage.simulation.run_for(SECOND);
        assert!(world.is_there("hall"));
        world.fail(&world.near_workers[0]);
        world.stage.simulation.run_for(SECOND / 2);
        assert!(publisher.seen(|seen| seen.closed));
        assert!(!world.is_there("hall"));
        world.stage.simulation.run_for(5 * SECOND);
        let _publisher = world.publish("hall");
        world.stage.simulation.run_for(SECOND);
        world.check_is_seen_from_afar("hall");
        world.end(NEAR);
    }
}

#[test]
fn item_41_a_worker_of_rooms_fails_and_remote_publishers_come_back_without_being_offered_again() {
    for seed in 0..SEEDS {
        let world = world(seed, 2);
        let _publishers = ["one", "two", "three"].map(|name| {
            let publisher = world.publish(name);
            world.stage.simulation.run_for(SECOND);
            publisher
        });
        let all = || ["one", "two", "three"].map(|name| world.is_there(name));
        assert_eq!([true; 3], all());
        // The first has the links, and every other room; so they stay.
        world.fail(&world.far_workers[1]);
        world.stage.simulation.run_for(SECOND / 2);
        assert!(all().contains(&false), "seed {seed}");
        assert!(all().contains(&true), "seed {seed}");
        world.stage.simulation.run_for(5 * SECOND);
        assert_eq!([true; 3], all());
        for name in ["one", "two", "three"] {
            world.check_is_seen_from_afar(name);
        }
        world.end(FAR);
    }
}

#[test]
fn item_41_the_hub_fails_and_rooms_of_other_workers_are_piped_again() {
    for seed in 0..SEEDS {
        let world = world(seed, 2);
        let publishers = ["one", "two"].map(|name| (name, world.publish(name)));
        world.stage.simulation.run_for(SECOND);
        // Of the rooms, one is with the hub, and is gone.
        world.fail(&world.near_workers[0]);
        world.stage.simulation.run_for(8 * SECOND);
        let stayed = publishers
            .iter()
            .filter(|(_, own)| !own.seen(|seen| seen.closed));
        let stayed: Vec<_> = stayed.map(|(name, _)| *name).collect();
        assert_eq!(1, stayed.len(), "seed {seed}");
        world.check_is_seen_from_afar(stayed[0]);
        world.end(NEAR);
    }
}

#[test]
fn item_46_who_could_not_be_let_in_is_let_in_when_there_is_room() {
    let stage = Stage::new(Simulation::new(7));
    let secret = PipeSecret::new(b"known to both of the processes").unwrap();
    let ip = stage.ip();
    let far = stage.sfu(|options| {
        options.max_rooms = 1;
        options.pipe_listen = Some(SocketAddr::new(ip, 5_100));
        options.pipe_secret = Some(secret.clone());
    });
    let near = stage.sfu(|options| {
        options.udp_port = 5_010;
        options.pipe_to = vec![SocketAddr::new(ip, 5_100)];
        options.pipe_secret = Some(secret);
    });
    let person = stage.person("somebody", good_link());
    let publish = |signaling: Signaling, name: &'static str| {
        let open = |offer| signaling.publish(room(name), None, offer);
        connect(&person, Direction::SendOnly, open).unwrap()
    };
    let (_local, answer) = publish(far.signaling(), "own");
    let _remote = publish(near.signaling(), "hall");
    stage.simulation.run_for(5 * SECOND);
    assert!(far.signaling().room(room("hall")).wait().is_err());
    far.signaling().close(answer.session).wait().unwrap();
    stage.simulation.run_for(5 * SECOND);
    assert!(far.signaling().room(room("hall")).wait().is_ok());
}

/// A router on threads of its own.
fn router(stage: &Stage, port: u16) -> (Router, [Thread; 2]) {
    let thread = |role, name: String| {
        let builder = Thread::builder().name(name);
        simulated_thread(role, builder).unwrap()
    };
    let moving = thread(ThreadRole::Network, format!("network-{port}"));
    let deciding = thread(ThreadRole::Worker, format!("worker-{port}"));
    let options = NetworkOptions {
        bind: SocketAddr::new(stage.ip(), port),
        announced: vec![stage.ip()],
    };
    let networks = NetworkThreads::new([(&moving.handle(), options)]).unwrap();
    let worker = Worker::with_networks(&deciding, networks).unwrap();
    (worker.create_router().wait().unwrap(), [deciding, moving])
}

#[test]
fn item_46_whatever_is_not_awaited_media_and_data_agree_at_both_ends_once_quiet() {
    for seed in 0..5 * SEEDS {
        let stage = Stage::new(Simulation::new(seed));
        let (near, _near_threads) = router(&stage, 5_000);
        let (far, _far_threads) = router(&stage, 5_001);
        let secret = PipeSecret::new(b"known to both of the processes").unwrap();
        let bind = SocketAddr::new(stage.ip(), 5_100);
        let mut listener = far.listen_for_pipes(bind, secret.clone()).wait().unwrap();
        let pipe = near.connect_pipe(bind, secret).wait().unwrap();
        stage.simulation.run_for(SECOND);
        let Some(PipeListenerEvent::Connected(id)) = listener.events().try_next() else {
            panic!("seed {seed}: nobody has connected");
        };
        let mut there = far.remote_pipe(id).wait().unwrap();

        let direct = near.create_direct_transport().wait().unwrap();
        let data = direct.produce_data(DataProducerOptions::new("chat"));
        let data = data.wait().unwrap();
        let options = PlainTransportOptions::new(stage.ip());
        let plain = near.create_plain_transport(options).wait().unwrap();
        let media = plain.produce(vp8(1), ProducerOptions::new());
        let media = media.wait().unwrap();
        let mut random = Random::new(seed);
        let piped_at = random.below(4);
        for turn in 0..8 {
            if turn == piped_at {
                drop(pipe.pipe(media.id(), "media"));
                drop(pipe.pipe_data(data.id(), "data"));
            }
            match random.below(5) {
                0 => drop((data.pause(), media.pause())),
                1 => drop((data.resume(), media.resume())),
                2 => drop(data.pause()),
                3 => drop(media.resume()),
                _ => {
                    let steps = stage.simulation.steps() + random.below(20) as u64;
                    stage
                        .simulation
                        .run_until(|| stage.simulation.steps() >= steps);
                }
            }
        }
        stage.simulation.run_for(SECOND);
        let events = there.events().drain();
        let [
            RemotePipeEvent::Produced { producer, .. },
            RemotePipeEvent::ProducedData { producer: id, .. },
        ] = &events[..]
        else {
            panic!("seed {seed}: {events:?}");
        };
        let media_there = far.producer(*producer).wait().unwrap();
        let mut data_there = far.data_producer(*id).wait().unwrap();
        let paused = [&media, &media_there].map(|own| own.status().wait().unwrap().paused);
        assert_eq!(paused[0], paused[1], "seed {seed}");
        let paused = [&data, &data_there].map(|own| own.status().wait().unwrap().paused);
        assert_eq!(paused[0], paused[1], "seed {seed}");

        // Whatever it was, it goes on, and all of it arrives in order: whoever reads it there.
        let reader = far.create_direct_transport().wait().unwrap();
        let consumer = reader.consume_data(*id, DataConsumerOptions::new());
        let mut consumer = consumer.wait().unwrap();
        // What comes from another process is in no order with what is called here.
        stage.simulation.run_for(SECOND);
        let sent: Vec<_> = (0..20).map(|at| at.to_string()).collect();
        for (at, text) in sent.iter().enumerate() {
            if at % 7 == 0 {
                drop((data.pause(), data.send("nobody hears this"), data.resume()));
            }
            drop(data.send(text.as_str()));
        }
        drop(data.close());
        stage.simulation.run_for(SECOND);
        let heard = consumer.messages().unwrap().drain();
        let heard: Vec<_> = heard.iter().filter_map(|own| own.as_text()).collect();
        assert_eq!(sent, heard, "seed {seed}");
        let last = data_there.events().drain().pop();
        let closed = DataProducerEvent::Closed(CloseReason::ProducerClosed);
        assert_eq!(Some(closed), last, "seed {seed}");
    }
}

#[test]
fn item_33_messages_follow_a_resume_at_the_far_end_of_a_pipe_between_routers() {
    for seed in 0..5 * SEEDS {
        let stage = Stage::new(Simulation::new(seed));
        let names = ["one", "two"];
        let threads = |role, kind: &str| {
            let name = |own| Thread::builder().name(format!("{kind}-{own}"));
            names.map(|own| simulated_thread(role, name(own)).unwrap())
        };
        let moving = threads(ThreadRole::Network, "network");
        let deciding = threads(ThreadRole::Worker, "worker");
        let handles = moving.each_ref().map(Thread::handle);
        let options = [5_000, 5_001].map(|port| NetworkOptions {
            bind: SocketAddr::new(stage.ip(), port),
            announced: vec![stage.ip()],
        });
        let networks = NetworkThreads::new(handles.iter().zip(options)).unwrap();
        let [near, far] = deciding.each_ref().map(|thread| {
            let worker = Worker::with_networks(thread, networks.clone()).unwrap();
            worker.create_router().wait().unwrap()
        });
        let direct = near.create_direct_transport().wait().unwrap();
        let data = direct.produce_data(DataProducerOptions::new("chat"));
        let data = data.wait().unwrap();
        let piped = near.pipe_data(data.id(), &far).wait().unwrap();
        let mut consumers: Vec<_> = (0..3)
            .map(|_| {
                let reader = far.create_direct_transport().wait().unwrap();
                let options = DataConsumerOptions::new();
                let consumer = reader.consume_data(piped.producer.id(), options);
                consumer.wait().unwrap()
            })
            .collect();
        let sent: Vec<_> = (0..20).map(|at| at.to_string()).collect();
        for text in &sent {
            drop((data.pause(), data.send("nobody hears this"), data.resume()));
            drop(data.send(text.as_str()));
        }
        // At the far end it is the consumers that keep from being sent it.
        piped.producer.pause().wait().unwrap();
        stage.simulation.run_for(SECOND);
        for consumer in &mut consumers {
            let heard = consumer.messages().unwrap().drain();
            assert!(heard.len() <= sent.len(), "seed {seed}");
        }
        drop(data.send("nobody hears this"));
        stage.simulation.run_for(SECOND);
        for consumer in &mut consumers {
            assert_eq!(0, consumer.messages().unwrap().drain().len(), "seed {seed}");
        }
        piped.producer.resume().wait().unwrap();
        stage.simulation.run_for(SECOND);
        for text in &sent {
            drop((data.pause(), data.send("nobody hears this"), data.resume()));
            drop(data.send(text.as_str()));
        }
        drop(data.close());
        stage.simulation.run_for(SECOND);
        for consumer in &mut consumers {
            let heard = consumer.messages().unwrap().drain();
            let heard: Vec<_> = heard.iter().filter_map(|own| own.as_text()).collect();
            assert_eq!(sent, heard, "seed {seed}");
        }
    }
}

#[test]
fn item_41_a_link_that_comes_about_while_its_router_goes_does_not_stay() {
    let (mut early, mut late) = (0, 0);
    for seed in 0..10 * SEEDS {
        let stage = Stage::new(Simulation::new(seed));
        let (near, _near_threads) = router(&stage, 5_000);
        let (far, far_threads) = router(&stage, 5_001);
        let secret = PipeSecret::new(b"known to both of the processes").unwrap();
        let bind = SocketAddr::new(stage.ip(), 5_100);
        let _listener = far.listen_for_pipes(bind, secret.clone()).wait().unwrap();
        let opened = near.connect_pipe(bind, secret);
        let steps = stage.simulation.steps() + Random::new(seed).below(60) as u64;
        stage
            .simulation
            .run_until(|| stage.simulation.steps() >= steps);
        let [deciding, _] = &far_threads;
        deciding.post(|| panic!("on purpose")).unwrap();
        stage.simulation.run_for(8 * SECOND);
        match opened.wait() {
            Ok(mut pipe) => {
                late += 1;
                let closed = RemotePipeEvent::Closed(CloseReason::Disconnected);
                assert_eq!(vec![closed], pipe.events().drain(), "seed {seed}");
            }
            Err(_) => early += 1,
        }
    }
    assert!(early > 0 && late > 0, "{early} {late}");
}
