//! Media on pipes between processes: layers, limits, and many tracks. Conformance items 44 and 46.

mod camera;
mod linked;
mod plain_rtp;
#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use camera::{Camera, assert_continuous, last_mark, pictures};
use echo_sfu::BitRate;
use echo_sfu::objects::{
    BitrateBounds, CloseReason, ConsumerEvent, ConsumerOptions, PlainConnectOptions,
    PlainTransportOptions, ProducerOptions, Purpose, RemotePipeEvent, RtpCapabilities,
};
use linked::{accept, another_process, connect, linked, listen, other_end, produced};
use plain_rtp::{Speaker, place, rtp, vp8};
use rtc_client::Client;
use str0m::media::Direction;
use support::wait::{PATIENCE, wait_for};

#[track_caller]
fn run_until(what: &str, viewer: &mut Client, is_so: impl Fn(&Client) -> bool) {
    let start = Instant::now();
    while !is_so(viewer) {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        viewer.turn();
    }
}

fn prefer_one_layer_after_another(to: SocketAddr) {
    let (place, mut pipe) = connect(to);
    let (producer, _) = produced(&place, &mut pipe);
    let purpose = Purpose::Consume(vec![producer.id()]);
    let (mut viewer, mut transport) =
        camera::connect(&place.router, Direction::RecvOnly, &[], purpose);
    for (preferred, mark) in [(None, 3), (Some(0), 1), (Some(1), 2), (None, 3)] {
        let consumer = &transport.consumers()[0];
        consumer.set_preferred_layer(preferred).wait().unwrap();
        run_until("the layer arrives", &mut viewer, |viewer| {
            last_mark(viewer) == Some(mark)
        });
        let before = pictures(&viewer).len();
        run_until("and goes on", &mut viewer, |viewer| {
            pictures(viewer).len() > before + 20
        });
    }
    // Whatever is on its way, or is sent again, comes.
    for _ in 0..100 {
        viewer.turn();
    }
    assert_continuous(&pictures(&viewer));
    println!("every layer was seen");
    // The test ends the pipe once it has read that.
    wait_for("the pipe is closed", || {
        viewer.turn();
        let events = pipe.events().drain();
        let is_over = |event: &RemotePipeEvent| matches!(event, RemotePipeEvent::Closed(_));
        events.iter().any(is_over).then_some(()).ok_or(events)
    });
}

#[test]
fn item_46_every_layer_crosses_and_who_views_there_chooses() {
    if let Some(to) = other_end() {
        return prefer_one_layer_after_another(to);
    }
    let place = place(1);
    let mut listener = listen(&place);
    let mut other = another_process(
        "item_46_every_layer_crosses_and_who_views_there_chooses",
        listener.local_address(),
    );
    let pipe = accept(&place, &mut listener);
    // A layer has a key frame only if one of that layer is asked for.
    let mut camera = Camera::new(&place.router, &["q", "h", "f"], 1);
    pipe.pipe(camera.video(), "").wait().unwrap();
    let has_seen_all = |line: &String| line.contains("every layer was seen");
    let start = Instant::now();
    while !other.output().iter().any(has_seen_all) {
        assert!(start.elapsed() < 2 * PATIENCE, "{:#?}", other.output());
        camera.send();
    }
    pipe.close().wait().unwrap();
    assert!(other.wait().success());
}

#[test]
fn item_46_layers_above_the_one_that_the_pipe_prefers_do_not_cross() {
    let mut world = linked();
    let mut camera = Camera::new(&world.near.router, &["q", "h", "f"], 1);
    let piped = world.near_pipe.pipe(camera.video(), "").wait().unwrap();
    let (producer, _) = produced(&world.far, &mut world.far_pipe);
    let purpose = Purpose::Consume(vec![producer.id()]);
    let (mut viewer, _transport) =
        camera::connect(&world.far.router, Direction::RecvOnly, &[], purpose);
    for (preferred, mark) in [(None, 3), (Some(1), 2), (Some(0), 1), (None, 3)] {
        piped.set_preferred_layer(preferred).wait().unwrap();
        wait_for("the best that crosses is seen", || {
            for _ in 0..20 {
                camera.send();
                viewer.turn();
            }
            let last = last_mark(&viewer);
            (last == Some(mark)).then_some(()).ok_or(last)
        });
    }
    assert_continuous(&pictures(&viewer));
}

/// What can be sent to the viewer of another process.
const CARRIED: u64 = 100_000;

fn view_what_is_carried(to: SocketAddr) {
    let (place, mut pipe) = connect(to);
    let (producer, _) = produced(&place, &mut pipe);
    let purpose = Purpose::Consume(vec![producer.id()]);
    let (mut viewer, transport) = camera::connect(&place.router, Direction::RecvOnly, &[], purpose);
    let bounds = BitrateBounds::new(None, Some(BitRate(CARRIED))).unwrap();
    transport.set_outgoing_bitrate(bounds).wait().unwrap();
    loop {
        viewer.turn();
        let events = pipe.events().drain();
        if events
            .iter()
            .any(|event| matches!(event, RemotePipeEvent::Closed(_)))
        {
            return;
        }
    }
}

#[test]
fn item_46_a_publisher_is_asked_for_no_more_than_viewers_of_another_process_can_be_sent() {
    if let Some(to) = other_end() {
        return view_what_is_carried(to);
    }
    let place = place(1);
    let mut listener = listen(&place);
    let mut other = another_process(
        "item_46_a_publisher_is_asked_for_no_more_than_viewers_of_another_process_can_be_sent",
        listener.local_address(),
    );
    let pipe = accept(&place, &mut listener);
    // By another router, as rooms have it: what is wanted goes back through each.
    let room = place.worker.create_router().wait().unwrap();
    let mut camera = Camera::new(&room, &[], 1);
    let piped = room.pipe(camera.video(), &place.router);
    let piped = piped.wait().unwrap();
    pipe.pipe(piped.producer.id(), "").wait().unwrap();
    let start = Instant::now();
    while camera.client.least_remb.is_none() {
        assert!(start.elapsed() < PATIENCE, "{:#?}", other.output());
        camera.send();
    }
    let told = camera.client.least_remb.unwrap();
    assert!((CARRIED / 20 * 19..=CARRIED).contains(&told), "{told}");
    pipe.close().wait().unwrap();
    assert!(other.wait().success());
}

#[test]
fn item_46_hundreds_of_tracks_are_carried_by_one_link() {
    const TRACKS: u32 = 200;
    let mut world = linked();
    let options = PlainTransportOptions::default();
    let source = world.near.router.create_plain_transport(options.clone());
    let source = source.wait().unwrap();
    let drain = world.far.router.create_plain_transport(options);
    let drain = drain.wait().unwrap();
    let ear = Speaker::new(0);
    let remote = PlainConnectOptions::to(ear.address());
    drain.connect(remote).wait().unwrap();
    let mut speakers: Vec<_> = (0..TRACKS).map(|at| Speaker::new(1_000 + at)).collect();
    source
        .connect(PlainConnectOptions::to(speakers[0].address()))
        .wait()
        .unwrap();
    let mut streams = BTreeSet::new();
    for ssrc in 1_000..1_000 + TRACKS {
        let producer = source.produce(vp8(ssrc), ProducerOptions::new());
        let producer = producer.wait().unwrap();
        world.near_pipe.pipe(producer.id(), "").wait().unwrap();
        let (producer, _) = produced(&world.far, &mut world.far_pipe);
        let capabilities = RtpCapabilities::default();
        let consumer = drain.consume(producer.id(), capabilities, ConsumerOptions::new());
        streams.extend(consumer.wait().unwrap().parameters.ssrc);
    }
    assert_eq!(TRACKS as usize, streams.len());
    let mut sequence = 0;
    let mut heard = BTreeSet::new();
    let mouth = speakers.remove(0);
    let start = Instant::now();
    while heard.len() < streams.len() {
        assert!(start.elapsed() < PATIENCE, "{} streams", heard.len());
        sequence += 1;
        let packets = speakers.iter().map(|own| own.packet(sequence));
        for packet in std::iter::once(mouth.packet(sequence)).chain(packets) {
            mouth
                .socket
                .send_to(&packet, source.local_address())
                .unwrap();
        }
        while let Some(packet) = ear.hear() {
            heard.extend(rtp(&packet).map(|(ssrc, ..)| ssrc));
        }
    }
    assert_eq!(streams, heard);
}

#[test]
fn item_46_what_is_too_many_for_the_far_end_is_refused_there_and_nothing_else() {
    let mut world = linked();
    let options = PlainTransportOptions::default();
    let mut consumers = Vec::new();
    // More than one transport takes.
    for ssrcs in [0..300, 300..513] {
        let source = world.near.router.create_plain_transport(options.clone());
        let source = source.wait().unwrap();
        for ssrc in ssrcs {
            let producer = source.produce(vp8(ssrc), ProducerOptions::new());
            let piped = world.near_pipe.pipe(producer.wait().unwrap().id(), "");
            consumers.push(piped.wait().unwrap());
        }
    }
    let mut last = consumers.pop().unwrap();
    let refused = wait_for("the last one is refused", || {
        last.events().try_next().ok_or("nothing")
    });
    assert_eq!(ConsumerEvent::Closed(CloseReason::FarEndFull), refused);
    for _ in &consumers {
        produced(&world.far, &mut world.far_pipe);
    }
    for consumer in &mut consumers {
        assert_eq!(None, consumer.events().try_next());
    }
    // Where one has gone, there is room for another.
    consumers.pop().unwrap().close().wait().unwrap();
    world.near_pipe.pipe(world.source.id(), "").wait().unwrap();
    produced(&world.far, &mut world.far_pipe);
}
