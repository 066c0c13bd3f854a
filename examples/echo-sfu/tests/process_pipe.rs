//! Pipes between processes: conformance item 46.

mod linked;
mod plain_rtp;
#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;
mod support;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use echo_sfu::objects::{
    CloseReason, Consumer, ConsumerEvent, ConsumerOptions, ObjectError, PlainConnectOptions,
    PlainTransportOptions, Producer, ProducerEvent, ProducerId, ProducerOptions, Purpose,
    RemotePipeEvent, RtpCapabilities, WebRtcTransport,
};
use echo_sfu::{Offer, OfferedFlow, PipeSecret, Sfu, SfuOptions, ThreadRole};
use linked::{accept, another_process, connect, linked, listen, other_end, produced, secret};
use plain_rtp::{Place, Speaker, place, rtp, vp8};
use rtc_client::Client;
use serde::{Deserialize, Serialize};
use str0m::format::Codec;
use str0m::media::Direction;
use support::http;
use support::machine::scratch_path;
use support::server::Server;
use support::wait::wait_for;

fn connect_client(
    place: &Place,
    direction: Direction,
    purpose: Purpose,
) -> (Client, WebRtcTransport) {
    let (mut client, offer, pending) = Client::offer(direction, &[Codec::Opus, Codec::Vp8]);
    let flow = match direction {
        Direction::SendOnly => OfferedFlow::ToUs,
        _ => OfferedFlow::FromUs,
    };
    let offer = Offer::parse(&offer, flow).unwrap();
    let transport = place.router.create_webrtc_transport(offer, purpose);
    let transport = transport.wait().unwrap();
    client.accept(pending, transport.answer());
    client.run_until("connected", |client| client.connected);
    (client, transport)
}

/// What the other process says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    labels: Vec<String>,
    audio: usize,
    video: usize,
    events: Vec<String>,
    is_over: bool,
}

fn view_what_is_piped_from(to: SocketAddr) {
    let (place, mut pipe) = connect(to);
    let mut seen = Seen::default();
    let mut producers: Vec<Producer> = Vec::new();
    for _ in 0..2 {
        let (producer, label) = produced(&place, &mut pipe);
        seen.labels.push(label);
        producers.push(producer);
    }
    let ids = producers.iter().map(Producer::id).collect();
    let (mut viewer, _transport) =
        connect_client(&place, Direction::RecvOnly, Purpose::Consume(ids));
    let mut said = Instant::now();
    while !seen.is_over {
        viewer.turn();
        seen.audio = viewer.received_on(viewer.audio);
        seen.video = viewer.received_on(viewer.video);
        for producer in &mut producers {
            let events = producer.events().drain();
            seen.events
                .extend(events.iter().map(|event| format!("{event:?}")));
        }
        let events = pipe.events().drain();
        seen.is_over = events
            .iter()
            .any(|event| matches!(event, RemotePipeEvent::Closed(_)));
        if seen.is_over || said.elapsed() > Duration::from_millis(50) {
            said = Instant::now();
            println!("{}", serde_json::to_string(&seen).unwrap());
        }
    }
}

fn publish_until_killed(to: SocketAddr) {
    let (place, mut pipe) = connect(to);
    let options = PlainTransportOptions::default();
    let transport = place.router.create_plain_transport(options).wait().unwrap();
    let producer = transport.produce(vp8(1), ProducerOptions::new());
    let producer = producer.wait().unwrap();
    pipe.pipe(producer.id(), "to be killed").wait().unwrap();
    wait_for("the end", || pipe.events().try_next().ok_or("nothing"));
}

fn last_said(lines: &[String]) -> Option<Seen> {
    lines
        .iter()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
}

#[test]
fn item_46_who_views_in_another_process_sees_what_is_published_here() {
    if let Some(to) = other_end() {
        return view_what_is_piped_from(to);
    }
    let place = place(1);
    let mut listener = listen(&place);
    let mut other = another_process(
        "item_46_who_views_in_another_process_sees_what_is_published_here",
        listener.local_address(),
    );
    let pipe = accept(&place, &mut listener);
    let (mut publisher, mut transport) =
        connect_client(&place, Direction::SendOnly, Purpose::Produce);
    let ids: Vec<ProducerId> = transport.producers().iter().map(Producer::id).collect();
    let labels = ["sound", "picture"];
    let consumers: Vec<Consumer> = ids
        .iter()
        .zip(labels)
        .map(|(id, label)| pipe.pipe(*id, label).wait().unwrap())
        .collect();
    assert_eq!(2, consumers.len());
    let again = pipe.pipe(ids[1], "again").wait().unwrap();
    assert_eq!(consumers[1].id(), again.id());

    let until = |publisher: &mut Client, what: &str, is_so: &dyn Fn(&Seen) -> bool| {
        wait_for(what, || {
            publisher.exchange();
            let seen = last_said(&other.output());
            seen.clone().filter(|seen| is_so(seen)).ok_or(seen)
        })
    };
    let seen = until(&mut publisher, "media arrives", &|seen| {
        seen.audio >= 20 && seen.video >= 20
    });
    assert_eq!(labels.as_slice(), seen.labels);

    // Paused here, nothing arrives there.
    transport.producers()[1].pause().wait().unwrap();
    let paused = until(&mut publisher, "it is paused there", &|seen| {
        seen.events.iter().any(|event| event == "Paused")
    });
    let sound_goes_on = |publisher: &mut Client, from: &Seen| {
        until(publisher, "sound goes on", &|seen| {
            seen.audio >= from.audio + 20
        })
    };
    // What was on its way may still come, however long that takes; and then no more.
    let mut still = paused;
    let quiet = loop {
        let later = sound_goes_on(&mut publisher, &still);
        if later.video == still.video {
            break later;
        }
        still = later;
    };
    let later = sound_goes_on(&mut publisher, &quiet);
    assert_eq!(quiet.video, later.video);

    // Resumed here, it goes on there, beginning with a key frame that is asked for.
    let asked = publisher.keyframe_requests.len();
    transport.producers()[1].resume().wait().unwrap();
    until(&mut publisher, "it goes on there", &|seen| {
        seen.video >= later.video + 20 && seen.events.iter().any(|event| event == "Resumed")
    });
    publisher.run_until("a key frame is asked for", |publisher| {
        publisher.exchange();
        publisher.keyframe_requests.len() > asked
    });

    // Closed here, it is closed there.
    transport.producers()[1].close().wait().unwrap();
    until(&mut publisher, "it is closed there", &|seen| {
        seen.events
            .iter()
            .any(|event| event == "Closed(ProducerClosed)")
    });
    // And the rest with the pipe.
    pipe.close().wait().unwrap();
    let seen = until(&mut publisher, "it is over", &|seen| seen.is_over);
    let is_closed = |event: &&String| event.starts_with("Closed");
    assert_eq!(2, seen.events.iter().filter(is_closed).count(), "{seen:?}");
    assert!(other.wait().success());
}

#[test]
fn item_46_killing_a_process_closes_what_came_from_it() {
    if let Some(to) = other_end() {
        return publish_until_killed(to);
    }
    let place = place(1);
    let mut listener = listen(&place);
    let other = another_process(
        "item_46_killing_a_process_closes_what_came_from_it",
        listener.local_address(),
    );
    let mut pipe = accept(&place, &mut listener);
    let (mut producer, label) = produced(&place, &mut pipe);
    assert_eq!("to be killed", label);
    drop(other);
    let closed = wait_for("the producer is closed", || {
        producer.events().try_next().ok_or("nothing")
    });
    assert_eq!(ProducerEvent::Closed(CloseReason::FarEndClosed), closed);
    let closed = wait_for("the pipe is closed", || {
        pipe.events().try_next().ok_or("nothing")
    });
    assert_eq!(RemotePipeEvent::Closed(CloseReason::Disconnected), closed);
}

/// A client of a server, by WHIP or WHEP.
fn client_of(server: &Server, direction: Direction, path: &str) -> (Client, String) {
    let (mut client, offer, pending) = Client::offer(direction, &[Codec::Opus, Codec::Vp8]);
    let sdp = [("Content-Type", "application/sdp")];
    let answer = http::request(server.address(), "POST", path, &sdp, &offer).unwrap();
    assert_eq!(201, answer.status, "{answer:?}");
    client.accept(pending, &answer.body);
    client.run_until("connected", |client| client.connected);
    let session = answer.header("location").unwrap().to_owned();
    (client, session)
}

#[test]
fn what_is_published_at_one_server_is_seen_at_the_other() {
    let [far, near] = Server::start_linked("pipe-secret");

    let (mut publisher, session) = client_of(&near, Direction::SendOnly, "/whip/hall?name=Ann");
    let room = far.wait_for_room("hall", "it is seen from afar", |room| {
        room.publishers.len() == 1
    });
    let there = &near.room("hall").unwrap().publishers[0];
    let here = &room.publishers[0];
    assert_eq!((&there.id, &there.name), (&here.id, &here.name));
    assert_eq!(there.tracks, here.tracks);
    let (mut viewer, _) = client_of(&far, Direction::RecvOnly, "/whep/hall");
    viewer.run_until("picture and sound", |viewer| {
        publisher.exchange();
        viewer.received_on(viewer.video) >= 20 && viewer.received_on(viewer.audio) >= 20
    });
    // Whoever leaves there has left here.
    let ended = http::request(near.address(), "DELETE", &session, &[], "").unwrap();
    assert_eq!(200, ended.status);
    // The link has a transport of its own, which stays.
    wait_for("nobody is left", || {
        let sessions = far.stats().sessions;
        (sessions == 0).then_some(()).ok_or(sessions)
    });

    // And so has everybody, when the server is gone.
    let (_publisher, _) = client_of(&near, Direction::SendOnly, "/whip/hall");
    far.wait_for_room("hall", "there is one again", |room| {
        room.publishers.len() == 1
    });
    drop(near);
    wait_for("the room is empty", || far.room("hall").map_or(Ok(()), Err));
    far.stop();
}

#[test]
fn item_46_whatever_is_not_awaited_both_ends_agree_once_quiet() {
    for changes in 0..8 {
        let mut world = linked();
        if changes % 2 == 1 {
            drop(world.source.pause());
        }
        drop(world.near_pipe.pipe(world.source.id(), ""));
        for change in 0..changes {
            drop(match change % 2 {
                0 => world.source.resume(),
                _ => world.source.pause(),
            });
        }
        let (producer, _) = produced(&world.far, &mut world.far_pipe);
        let source = world.source.status().wait().unwrap();
        wait_for("both agree", || {
            let there = producer.status().wait().unwrap();
            (there.paused == source.paused).then_some(()).ok_or(there)
        });
        // And stay so.
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(source.paused, producer.status().wait().unwrap().paused);
    }
}

#[test]
fn item_46_closing_at_either_end_closes_at_the_other() {
    let mut world = linked();
    let mut consumer = world.near_pipe.pipe(world.source.id(), "").wait().unwrap();
    let (producer, _) = produced(&world.far, &mut world.far_pipe);
    producer.close().wait().unwrap();
    let closed = wait_for("the consumer is closed", || {
        consumer.events().try_next().ok_or("nothing")
    });
    assert_eq!(ConsumerEvent::Closed(CloseReason::FarEndClosed), closed);
    assert!(world.source.status().wait().is_ok());

    // Piped again, it is another pipe.
    let mut consumer = world.near_pipe.pipe(world.source.id(), "").wait().unwrap();
    let (mut producer, _) = produced(&world.far, &mut world.far_pipe);
    world.source.close().wait().unwrap();
    let closed = wait_for("the producer is closed", || {
        producer.events().try_next().ok_or("nothing")
    });
    assert_eq!(ProducerEvent::Closed(CloseReason::ProducerClosed), closed);
    let closed = ConsumerEvent::Closed(CloseReason::ProducerClosed);
    assert_eq!(Some(closed), consumer.events().try_next());
}

#[test]
fn item_46_a_router_that_closes_breaks_its_pipes() {
    let mut world = linked();
    world.near_pipe.pipe(world.source.id(), "").wait().unwrap();
    let (mut producer, _) = produced(&world.far, &mut world.far_pipe);
    world.near.router.close().wait().unwrap();
    let closed = wait_for("the producer is closed", || {
        producer.events().try_next().ok_or("nothing")
    });
    // Which of the two arrives first: that it is closed, or that nothing arrives any more.
    let reasons = [CloseReason::FarEndClosed, CloseReason::ProducerClosed];
    assert!(
        reasons.map(ProducerEvent::Closed).contains(&closed),
        "{closed:?}"
    );
    let closed = wait_for("the pipe is closed", || {
        world.far_pipe.events().try_next().ok_or("nothing")
    });
    assert_eq!(RemotePipeEvent::Closed(CloseReason::Disconnected), closed);
}

#[test]
fn media_crosses_to_who_listens_by_ipv6_and_is_connected_to_by_ipv4() {
    let (near, far) = (place(1), place(1));
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let listener = far.router.listen_for_pipes(everywhere, secret());
    let mut listener = listener.wait().unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_address().port()));
    let near_pipe = near.router.connect_pipe(to, secret()).wait().unwrap();
    let mut far_pipe = accept(&far, &mut listener);

    // There, and back again.
    let ways = [(&near, &near_pipe), (&far, &far_pipe)].map(|(place, pipe)| {
        let options = PlainTransportOptions::default();
        let source = place.router.create_plain_transport(options).wait().unwrap();
        let mouth = Speaker::new(7);
        let remote = PlainConnectOptions::to(mouth.address());
        source.connect(remote).wait().unwrap();
        let producer = source.produce(vp8(7), ProducerOptions::new());
        pipe.pipe(producer.wait().unwrap().id(), "").wait().unwrap();
        (source.local_address(), mouth)
    });
    let mut near_pipe = near_pipe;
    let ends = [(&far, &mut far_pipe), (&near, &mut near_pipe)];
    for ((to, mut mouth), (place, pipe)) in ways.into_iter().zip(ends) {
        let (producer, _) = produced(place, pipe);
        let options = PlainTransportOptions::default();
        let drain = place.router.create_plain_transport(options).wait().unwrap();
        let mut ear = Speaker::new(0);
        let remote = PlainConnectOptions::to(ear.address());
        drain.connect(remote).wait().unwrap();
        let capabilities = RtpCapabilities::default();
        let consumer = drain.consume(producer.id(), capabilities, ConsumerOptions::new());
        consumer.wait().unwrap();
        ear.hear_until(
            "media arrives",
            |_| {
                mouth.send(to);
            },
            rtp,
        );
    }
}

#[test]
fn who_has_not_the_secret_is_not_linked() {
    let (near, far) = (place(1), place(1));
    let mut listener = listen(&far);
    let to = listener.local_address();
    let other = PipeSecret::new(b"known to one of the processes").unwrap();
    let refused = near.router.connect_pipe(to, other).wait();
    let refused = refused.map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, ObjectError::NotLinked { .. }),
        "{refused}"
    );
    assert_eq!(None, listener.events().try_next());
    // Nobody listens any more.
    listener.close().wait().unwrap();
    wait_for("nobody listens", || {
        let refused = near.router.connect_pipe(to, secret()).wait();
        let is_refused = matches!(refused, Err(ObjectError::NotLinked { .. }));
        is_refused.then_some(()).ok_or("there is a pipe")
    });
}

#[test]
fn item_41_when_a_worker_fails_here_what_another_server_publishes_comes_back() {
    let file = scratch_path("failing-pipe-secret");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "known to both of the processes").unwrap();
    let (told, made) = mpsc::channel();
    let options = SfuOptions {
        udp_bind: Ipv4Addr::LOCALHOST.into(),
        pipe_listen: Some(linked::local()),
        pipe_secret: Some(secret()),
        ..SfuOptions::default()
    };
    let far = Sfu::start_on(options, move |role, builder| {
        let thread = builder.spawn()?;
        if role == ThreadRole::Worker {
            let _ = told.send(thread.handle());
        }
        Ok(thread)
    });
    let far = far.unwrap();
    let to = far.pipe_address().unwrap().to_string();
    let secret_file = file.to_str().unwrap();
    let near = Server::start_with(&["--pipe-secret-file", secret_file, "--pipe-to", &to]);
    let (mut publisher, _) = client_of(&near, Direction::SendOnly, "/whip/hall");
    let signaling = far.signaling();
    let hall = || signaling.room("hall".parse().unwrap()).wait();
    // Of the threads of a worker, the last one made is the one that lives.
    for _ in 0..2 {
        wait_for("it is seen from afar", &hall);
        let worker = made.recv().unwrap();
        worker.post(|| panic!("on purpose")).unwrap();
        wait_for("its room is gone", || hall().map_or(Ok(()), Err));
    }
    wait_for("it is seen again", &hall);
    let (mut viewer, offer, pending) =
        Client::offer(Direction::RecvOnly, &[Codec::Opus, Codec::Vp8]);
    let room = "hall".parse().unwrap();
    let answer = signaling.view(room, None, offer).wait().unwrap();
    viewer.accept(pending, &answer.sdp);
    viewer.run_until("picture and sound", |viewer| {
        publisher.exchange();
        viewer.received_on(viewer.video) >= 20 && viewer.received_on(viewer.audio) >= 20
    });
    assert!(far.shutdown().is_err(), "a worker has failed");
}
