//! ICE restarts: conformance item 42, on real threads and on simulated ones.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;
#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::time::Duration;

use echo_sfu::objects::{ObjectError, Purpose, Router, Worker};
use echo_sfu::{
    ApiError, NetworkOptions, NetworkThreads, Offer, OfferedFlow, Patched, SessionToken, Signaling,
};
use rtc_thread::{Simulation, Thread};
use simulated::client::Client as Simulated;
use simulated::{Stage, connect, good_link, room};
use str0m::format::Codec;
use str0m::media::Direction;

const VP8: &[Codec] = &[Codec::Opus, Codec::Vp8];

fn router() -> (Router, [Thread; 2]) {
    let moving = Thread::builder().name("network").with_sockets();
    let moving = moving.spawn().unwrap();
    let options = NetworkOptions {
        bind: "127.0.0.1:0".parse().unwrap(),
        announced: vec!["127.0.0.1".parse().unwrap()],
    };
    let networks = NetworkThreads::new([(&moving.handle(), options)]).unwrap();
    let deciding = Thread::builder().name("worker").spawn().unwrap();
    let worker = Worker::with_networks(&deciding.handle(), networks).unwrap();
    let router = worker.create_router().wait().unwrap();
    (router, [deciding, moving])
}

#[test]
fn item_42_a_client_that_restarts_ice_goes_on_where_it_is_and_elsewhere() {
    let (router, _threads) = router();
    let (mut client, offer, pending) = rtc_client::Client::offer(Direction::SendRecv, VP8);
    let offer = Offer::parse(&offer, OfferedFlow::Both).unwrap();
    let first = offer.ice_credentials().unwrap();
    let transport = router.create_webrtc_transport(offer, Purpose::Echo);
    let transport = transport.wait().unwrap();
    client.accept(pending, transport.answer());
    let mut ours = Vec::new();
    for round in 0..3 {
        let (packets, requests) = (client.received.len(), client.keyframe_requests.len());
        client.run_until("media comes back", |client| {
            client.exchange();
            client.received.len() > packets + 20
        });
        // What the library sends by itself arrives, too.
        client.run_until("it is asked for a key frame", |client| {
            client.exchange();
            client.request_keyframe();
            client.keyframe_requests.len() > requests
        });
        if round > 0 {
            client.move_elsewhere();
        }
        let (offer, pending) = client.offer_restart();
        let offer = Offer::parse(&offer, OfferedFlow::Both).unwrap();
        let credentials = offer.ice_credentials().unwrap();
        assert_ne!(first, credentials);
        let restarted = transport.restart_ice(credentials).wait().unwrap();
        assert!(!ours.contains(&restarted.credentials));
        let version = |answer: &str| answer.lines().nth(1).unwrap().to_owned();
        assert_ne!(version(transport.answer()), version(&restarted.answer));
        client.accept(pending, &restarted.answer);
        ours.push(restarted.credentials);
    }
    let packets = client.received.len();
    client.run_until("media comes back", |client| {
        client.exchange();
        client.received.len() > packets + 20
    });
    assert!(!client.closed);
    transport.close().wait().unwrap();
    let closed = transport.restart_ice(first).wait();
    assert_eq!(Err(ObjectError::TransportClosed(transport.id())), closed);
}

/// Has a client go elsewhere, and tell so as WHIP has it.
fn restart(client: &Simulated, signaling: &Signaling, session: &SessionToken, answer: &str) {
    let offer = client.offer_elsewhere();
    let of_ice = ["a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "m=", "a=mid:"];
    let lines = offer.lines().filter(|line| {
        let mut of_ice = of_ice.iter();
        of_ice.any(|prefix| line.starts_with(prefix))
    });
    let fragment: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    let any = Some("\"*\"".to_owned());
    let patched = signaling.patch(session.clone(), any, fragment).wait();
    let Ok(Patched::Restarted { fragment, .. }) = patched else {
        panic!("{patched:?}");
    };
    let value = |prefix: &str| {
        let line = fragment.lines().find(|line| line.starts_with(prefix));
        line.unwrap().to_owned()
    };
    let lines = answer.lines().map(|line| match line {
        _ if line.starts_with("a=ice-ufrag:") => value("a=ice-ufrag:"),
        _ if line.starts_with("a=ice-pwd:") => value("a=ice-pwd:"),
        _ if line.starts_with("a=candidate:") => value("a=candidate:"),
        _ => line.to_owned(),
    });
    let answer: String = lines.flat_map(|line| [line, "\r\n".to_owned()]).collect();
    client.accept(&answer);
}

#[test]
fn item_42_publishers_and_viewers_that_restart_go_on_without_a_gap() {
    for seed in 0..10 {
        let stage = Stage::new(Simulation::new(seed));
        let sfu = stage.sfu(|options| options.network_threads = 2);
        let signaling = sfu.signaling();
        let people = ["publisher", "viewer"].map(|name| stage.person(name, good_link()));
        let (publisher, published) = connect(&people[0], Direction::SendOnly, |offer| {
            signaling.publish(room("red"), None, offer)
        })
        .unwrap();
        publisher.send_every(Duration::from_millis(50));
        let (viewer, viewed) = connect(&people[1], Direction::RecvOnly, |offer| {
            signaling.view(room("red"), None, offer)
        })
        .unwrap();
        viewer.keep_log();
        let pass = |seconds| stage.simulation.run_for(Duration::from_secs(seconds));
        pass(3);
        restart(&viewer, &signaling, &viewed.session, &viewed.sdp);
        pass(3);
        restart(&publisher, &signaling, &published.session, &published.sdp);
        pass(3);
        restart(&viewer, &signaling, &viewed.session, &viewed.sdp);
        // Longer than a path lives that is not checked.
        pass(20);
        let log = viewer.seen(|seen| seen.log.clone().unwrap());
        for is_video in [false, true] {
            let of_kind = log.iter().filter(|own| own.is_video == is_video);
            let mut numbers: Vec<_> = of_kind.map(|own| own.sequence).collect();
            numbers.sort_unstable();
            let missing: u64 = numbers.windows(2).map(|own| own[1] - own[0] - 1).sum();
            // Of audio, what is on its way to where nobody is any more is lost.
            let most = if is_video { 0 } else { 12 };
            assert!(missing <= most, "seed {seed}: {missing}");
            assert!(numbers.len() > 400, "seed {seed}: {}", numbers.len());
        }
        let last = log.last().unwrap().number;
        let sent = publisher.seen(|seen| seen.sent);
        assert!(last + 20 > sent, "seed {seed}: {last} of {sent}");
        let closed = [&publisher, &viewer].map(|own| own.seen(|seen| seen.closed));
        assert_eq!([false; 2], closed, "seed {seed}");
        drop((publisher, viewer));
        sfu.shutdown().unwrap();
    }
}

#[test]
fn item_42_a_restart_is_judged_by_the_state_of_the_session() {
    let stage = Stage::new(Simulation::from_env("RTC_SEED"));
    let sfu = stage.sfu(|_| {});
    let signaling = sfu.signaling();
    let person = stage.person("client", good_link());
    let open = |offer| signaling.echo(offer);
    let (_client, answer) = connect(&person, Direction::SendRecv, open).unwrap();
    let patch = |if_match: Option<&str>, ufrag: &str| {
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{}\r\n", "p".repeat(22));
        signaling.patch(
            answer.session.clone(),
            if_match.map(str::to_owned),
            fragment,
        )
    };
    // None is awaited before all are called.
    let tag = format!("\"{}\"", answer.entity_tag);
    let patches = [
        patch(None, "first"),
        patch(Some("\"*\""), "no"),
        patch(Some(&tag), "first"),
        patch(Some(&tag), "second"),
        patch(Some("*"), "second"),
        patch(Some("*"), "second"),
        patch(None, "second"),
        patch(None, "first"),
    ];
    let outcomes = patches.map(|patch| {
        patch.wait().map(|patched| match patched {
            Patched::Restarted {
                entity_tag,
                fragment,
            } => Some((entity_tag, fragment)),
            _ => None,
        })
    });
    let [untagged, short, first, stale, second, again, trickled, late] = outcomes;
    assert_eq!(Err(ApiError::NoEntityTag), untagged);
    assert!(matches!(short, Err(ApiError::BadFragment(_))), "{short:?}");
    assert_eq!(Err(ApiError::EntityTagMismatch), stale);
    let [first, second] = [first, second].map(|outcome| outcome.unwrap().unwrap());
    assert!(answer.entity_tag != first.0 && first.0 != second.0);
    assert_ne!(first.1, second.1);
    // Its answer may have been lost: it is given again, whenever it is asked for.
    assert_eq!(Ok(Some(second.clone())), again);
    assert_eq!(Ok(None), trickled);
    let later = patch(Some("\"*\""), "second").wait().unwrap();
    let Patched::Restarted {
        entity_tag,
        fragment,
    } = later
    else {
        panic!("{later:?}");
    };
    assert_eq!(second, (entity_tag, fragment));
    let tagged = patch(Some(&format!("\"{}\"", second.0)), "second").wait();
    assert_eq!(Ok(Patched::Trickled), tagged);
    assert_eq!(Err(ApiError::NoEntityTag), late);
}
