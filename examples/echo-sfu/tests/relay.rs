//! The SFU in this process, and clients without a browser: what is relayed, what is refused, what
//! is left behind.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use echo_sfu::{Answer, ApiError, RoomName, Sfu, SfuOptions, SfuStats, Signaling};
use rtc_client::Client;
use str0m::format::Codec;
use str0m::media::Direction;

/// What has not come about after so long does not come at all.
const PATIENCE: Duration = Duration::from_secs(90);
const USUAL: &[Codec] = &[Codec::Opus, Codec::Vp8];

fn sfu(adjust: impl FnOnce(&mut SfuOptions)) -> Sfu {
    let mut options = SfuOptions {
        udp_bind: Ipv4Addr::LOCALHOST.into(),
        ..SfuOptions::default()
    };
    adjust(&mut options);
    Sfu::start(options).unwrap()
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// A connected client, with the answer it got.
fn connect(
    direction: Direction,
    codecs: &[Codec],
    open: impl FnOnce(String) -> Result<Answer, ApiError>,
) -> Result<(Client, Answer), ApiError> {
    let (mut client, offer, pending) = Client::offer(direction, codecs);
    let answer = open(offer)?;
    client.accept(pending, &answer.sdp);
    client.run_until("connected", |client| client.connected);
    Ok((client, answer))
}

fn publish(signaling: &Signaling, name: &str, codecs: &[Codec]) -> (Client, Answer) {
    let open = |offer| signaling.publish(room(name), None, offer).wait();
    connect(Direction::SendOnly, codecs, open).unwrap()
}

fn view(signaling: &Signaling, name: &str, codecs: &[Codec]) -> Result<(Client, Answer), ApiError> {
    let open = |offer| signaling.view(room(name), None, offer).wait();
    connect(Direction::RecvOnly, codecs, open)
}

#[track_caller]
fn wait_for_stats(signaling: &Signaling, what: &str, is_so: impl Fn(&SfuStats) -> bool) {
    let start = Instant::now();
    loop {
        let stats = signaling.stats().wait().unwrap();
        if is_so(&stats) {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain: {what}: {stats:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_echo_sends_back_audio_and_video_unchanged() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let open = |offer| signaling.echo(offer).wait();
    let (mut client, _) = connect(Direction::SendRecv, USUAL, open).unwrap();
    client.run_until("packets come back on both lines", |client| {
        client.exchange();
        let (audio, video) = (client.audio, client.video);
        client.received_on(audio) >= 20 && client.received_on(video) >= 20
    });
    for packet in &client.received {
        assert_eq!([0x90, 0x80, 0, 0], packet.payload[..4]);
        // The number in the payload is that of the packet, also in its time stamp.
        let number = u64::from_be_bytes(packet.payload[4..12].try_into().unwrap());
        assert_eq!(number as u32 * 960, packet.header.timestamp);
    }
    sfu.shutdown().unwrap();
    client.run_until("the goodbye arrives", |client| client.closed);
}

fn one_publisher_and_three_viewers(network_threads: usize) {
    let sfu = sfu(|options| options.network_threads = network_threads);
    let signaling = sfu.signaling();
    let (mut publisher, published) = publish(&signaling, "lobby", USUAL);
    let mut viewers: Vec<_> = (0..2)
        .map(|_| view(&signaling, "lobby", USUAL).unwrap())
        .collect();
    let relay_to = |publisher: &mut Client, viewers: &mut [(Client, Answer)], packets| {
        let start = Instant::now();
        let has_enough = |(viewer, _): &(Client, Answer)| {
            viewer.received_on(viewer.audio) >= packets
                && viewer.received_on(viewer.video) >= packets
        };
        while !viewers.iter().all(has_enough) {
            assert!(start.elapsed() < PATIENCE, "viewers see nothing");
            publisher.exchange();
            viewers.iter_mut().for_each(|(viewer, _)| viewer.turn());
        }
    };
    relay_to(&mut publisher, &mut viewers, 10);
    // A viewer who comes late has a key frame asked for, and starts in the first SRTP cycle.
    let asked_before = publisher.keyframe_requests.len();
    viewers.push(view(&signaling, "lobby", USUAL).unwrap());
    publisher.run_until("a key frame is asked for", |publisher| {
        publisher.keyframe_requests.len() > asked_before
    });
    relay_to(&mut publisher, &mut viewers, 20);

    let info = signaling.room(room("lobby")).wait().unwrap();
    assert_eq!((1, 3), (info.publishers.len(), info.viewers));
    assert_eq!(published.publisher.as_ref(), Some(&info.publishers[0].id));
    let tracks: Vec<_> = info.publishers[0]
        .tracks
        .iter()
        .map(|t| (t.kind, t.codec))
        .collect();
    assert_eq!(vec![("audio", "opus"), ("video", "VP8")], tracks);

    // One leaves by himself; then the publisher leaves, and takes the others along.
    let (_, answer) = viewers.pop().unwrap();
    signaling.close(answer.session.clone()).wait().unwrap();
    assert_eq!(
        Err(ApiError::UnknownSession),
        signaling.close(answer.session).wait()
    );
    assert_eq!(2, signaling.room(room("lobby")).wait().unwrap().viewers);
    signaling.close(published.session).wait().unwrap();
    for (viewer, _) in &mut viewers {
        viewer.run_until("the viewer is told goodbye", |viewer| viewer.closed);
    }
    wait_for_stats(&signaling, "nothing is left", |stats| {
        stats.sessions == 0 && stats.rooms == 0 && stats.network.iter().all(|n| n.transports == 0)
    });
    let gone = signaling.room(room("lobby")).wait();
    assert_eq!(Err(ApiError::UnknownRoom("lobby".to_owned())), gone);
}

#[test]
fn three_viewers_see_one_publisher_on_one_network_thread() {
    one_publisher_and_three_viewers(1);
}

#[test]
fn three_viewers_see_one_publisher_across_three_network_threads() {
    one_publisher_and_three_viewers(3);
}

#[test]
fn a_viewers_wish_for_a_key_frame_reaches_the_publisher() {
    let sfu = sfu(|options| options.network_threads = 2);
    let signaling = sfu.signaling();
    let (mut publisher, _) = publish(&signaling, "lobby", USUAL);
    let (mut viewer, _) = view(&signaling, "lobby", USUAL).unwrap();
    let start = Instant::now();
    while viewer.received_on(viewer.video) == 0 {
        assert!(start.elapsed() < PATIENCE, "the viewer sees nothing");
        publisher.exchange();
        viewer.turn();
    }
    let before = publisher.keyframe_requests.len();
    viewer.request_keyframe();
    viewer.turn();
    publisher.run_until("the request arrives", |publisher| {
        publisher.exchange();
        publisher.keyframe_requests.len() > before
    });
}

#[test]
fn a_client_whose_downlink_loses_packets_is_asked_to_send_less() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let open = |offer| signaling.echo(offer).wait();
    let (mut client, _) = connect(Direction::SendRecv, USUAL, open).unwrap();
    client.loses_one_in = Some(2);
    client.run_until(
        "it is told to send no more than gets back to it",
        |client| {
            client.exchange();
            client.least_remb.is_some()
        },
    );
}

#[test]
fn those_without_a_codec_in_common_are_told_so() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let open = |offer| signaling.echo(offer).wait();
    let refused = connect(Direction::SendRecv, &[Codec::PCMU], open).map(|_| ());
    assert!(
        matches!(refused, Err(ApiError::NoCommonCodec(_))),
        "{refused:?}"
    );
    let (_publisher, _) = publish(&signaling, "lobby", USUAL);
    let refused = view(&signaling, "lobby", &[Codec::Opus, Codec::Vp9]).map(|_| ());
    let Err(ApiError::NoCommonCodec(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("VP8"), "{reason}");
    wait_for_stats(&signaling, "only the publisher is left", |stats| {
        stats.sessions == 1
    });
}

#[test]
fn limits_hold_and_are_given_back() {
    let sfu = sfu(|options| {
        options.max_sessions = 2;
        options.max_rooms = 1;
    });
    let signaling = sfu.signaling();
    let (_one, first) = publish(&signaling, "one", USUAL);
    let offer = || Client::offer(Direction::SendOnly, USUAL).1;
    let refused = signaling.publish(room("two"), None, offer()).wait();
    assert_eq!(Err(ApiError::TooManyRooms(1)), refused);
    let (_two, _) = publish(&signaling, "one", USUAL);
    let refused = signaling.publish(room("one"), None, offer()).wait();
    assert_eq!(Err(ApiError::TooManySessions(2)), refused);
    signaling.close(first.session).wait().unwrap();
    publish(&signaling, "one", USUAL);
}

#[test]
fn bad_offers_cost_nothing_but_the_answer() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let (_, good, _) = Client::offer(Direction::SendRecv, USUAL);
    let without = |what: &str| {
        let kept: Vec<_> = good
            .lines()
            .filter(|line| !line.starts_with(what))
            .collect();
        kept.join("\r\n")
    };
    let bad = [
        String::new(),
        "no SDP".to_owned(),
        without("a=fingerprint"),
        without("a=ice-ufrag"),
        without("a=ice-pwd"),
        without("m="),
        without("a=mid"),
        good.replace("a=rtpmap", "a=rtpmap:::"),
        good.chars().take(good.len() / 2).collect(),
    ];
    for offer in bad {
        let answer = signaling.echo(offer.clone()).wait();
        let refused = matches!(
            answer,
            Err(ApiError::BadOffer(_) | ApiError::NoCommonCodec(_))
        );
        assert!(refused, "{answer:?} to {offer}");
    }
    wait_for_stats(&signaling, "nothing is left", |stats| {
        stats.sessions == 0 && stats.network[0].transports == 0
    });
    let (_client, _) = connect(Direction::SendRecv, USUAL, |o| signaling.echo(o).wait()).unwrap();
}

#[test]
fn strangers_are_counted_and_ignored() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let (mut client, _) = connect(Direction::SendRecv, USUAL, |offer| {
        signaling.echo(offer).wait()
    })
    .unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sfu_address = sfu.udp_addresses()[0];
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..300_usize {
        let datagram: Vec<u8> = (0..length)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        stranger.send_to(&datagram, sfu_address).unwrap();
    }
    for first_byte in [0, 1, 22, 128, 144, 200] {
        stranger.send_to(&[first_byte; 100], sfu_address).unwrap();
    }
    wait_for_stats(&signaling, "all are counted", |stats| {
        let network = &stats.network[0];
        let strange = network.datagrams_malformed
            + network.datagrams_unknown_source
            + network.stun_unknown_user;
        strange == 306 && network.datagrams_unknown_source > 0 && network.datagrams_malformed > 0
    });
    client.run_until("the echo goes on", |client| {
        client.exchange();
        client.received_on(client.video) >= 5
    });
}

#[test]
fn garbage_from_a_clients_own_address_ends_no_session() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let (mut client, _) = connect(Direction::SendRecv, USUAL, |offer| {
        signaling.echo(offer).wait()
    })
    .unwrap();
    for byte in 0..=255 {
        for length in [1, 12, 20, 100] {
            client.send_raw(&vec![byte; length], sfu.udp_addresses()[0]);
        }
    }
    client.run_until("the echo goes on", |client| {
        client.exchange();
        client.received_on(client.video) >= 5
    });
}

#[test]
fn a_client_that_vanishes_is_gone_after_a_while() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    let (client, _) = publish(&signaling, "lobby", USUAL);
    // One that never connects at all.
    let (_, offer, _) = Client::offer(Direction::SendRecv, USUAL);
    signaling.echo(offer).wait().unwrap();
    drop(client);
    assert_eq!(2, signaling.stats().wait().unwrap().sessions);
    wait_for_stats(&signaling, "both are gone", |stats| {
        stats.sessions == 0 && stats.rooms == 0 && stats.network[0].transports == 0
    });
}

#[test]
fn operations_after_the_end_say_so() {
    let sfu = sfu(|_| {});
    let signaling = sfu.signaling();
    sfu.shutdown().unwrap();
    assert_eq!(Err(ApiError::ShuttingDown), signaling.stats().wait());
    assert_eq!(
        Err(ApiError::ShuttingDown),
        signaling.echo(String::new()).wait()
    );
}
