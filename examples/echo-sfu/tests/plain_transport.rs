//! Plain transports: conformance items 42 to 44, with sockets and packets made by hand.

mod plain_rtp;
#[path = "support/ports.rs"]
mod ports;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use echo_sfu::objects::{
    CloseReason, ConsumerEvent, ConsumerOptions, ObjectError, PlainConnectError as ConnectError,
    PlainConnectOptions, PlainPort, PlainTransport, PlainTransportOptions, ProducerEvent,
    ProducerOptions, RtpCapabilities, RtpCodec, RtpParametersError, TransportEvent,
};
use echo_sfu::{SrtpKey, SrtpProfile};
use plain_rtp::{NACK, PATIENCE, PLI, Place, Speaker, feedback, opus, place, rtcp, rtp};
use plain_rtp::{say_feedback, vp8};
use ports::free_port;

fn options() -> PlainTransportOptions {
    PlainTransportOptions::default()
}

fn open(place: &Place, options: PlainTransportOptions) -> PlainTransport {
    place.router.create_plain_transport(options).wait().unwrap()
}

fn rtx_capabilities() -> RtpCapabilities {
    RtpCapabilities {
        codecs: vec![RtpCodec::vp8(120).with_rtx(121)],
        extensions: Vec::new(),
    }
}

fn one_producer_and_one_consumer(network_threads: usize, options: PlainTransportOptions) {
    let place = place(network_threads);
    let arriving = open(&place, options.clone().comedia(true));
    let leaving = open(&place, options);
    let (mut speaker, mut listener) = (Speaker::new(7), Speaker::new(0));
    let producer = arriving
        .produce(vp8(7), ProducerOptions::new())
        .wait()
        .unwrap();
    let sent = leaving
        .consume(producer.id(), rtx_capabilities(), ConsumerOptions::new())
        .wait()
        .unwrap();
    let remote = PlainConnectOptions::to(listener.address());
    leaving.connect(remote).wait().unwrap();
    let (ssrc, rtx) = (
        sent.parameters.ssrc.unwrap(),
        sent.parameters.rtx_ssrc.unwrap(),
    );
    assert_eq!(rtx_capabilities().codecs, sent.parameters.codecs);

    // What arrives first tells where the other end is; and a key frame is asked of it.
    let to = arriving.local_address();
    let first = listener.hear_until(
        "media",
        |_| {
            speaker.send(to);
        },
        |heard| rtp(heard).filter(|(of, number, ..)| (*of, *number) == (ssrc, 120)),
    );
    // Lost before us: we ask for it.
    let lost = speaker.lose();
    speaker.send_more(to);
    let asked = speaker.hear_until(
        "the lost packet is asked for",
        |_| {},
        |heard| feedback(heard, NACK, 7),
    );
    assert_eq!(lost.to_be_bytes(), asked[..2]);
    // More than once: a thread that is kept from its work leaves out what waits for too long.
    let late = speaker.packet(lost);
    listener.hear_until(
        "it comes late",
        |_| {
            speaker.socket.send_to(&late, to).unwrap();
        },
        |heard| rtp(heard).filter(|(.., number)| *number == lost),
    );
    // Lost after us: it is sent again, by RTX. The latest each time: what is old is not kept.
    let from = leaving.local_address();
    let (latest, asked_for) = (Cell::new(first), RefCell::new(Vec::new()));
    let again = listener.hear_until(
        "it is sent again",
        |listener| {
            let nack = [latest.get().2.to_be_bytes(), [0, 0]].concat();
            let nack = say_feedback(NACK, ssrc, &nack);
            listener.socket.send_to(&nack, from).unwrap();
            asked_for.borrow_mut().push(latest.get().3);
            speaker.send_more(to);
        },
        |heard| {
            let heard = rtp(heard)?;
            if heard.0 == ssrc {
                latest.set(heard);
            }
            (heard.0 == rtx).then_some(heard)
        },
    );
    assert_eq!(121, again.1);
    assert!(asked_for.borrow().contains(&again.3), "{again:?}");
    // A wish for a key frame goes all the way.
    let pli = say_feedback(PLI, ssrc, &[]);
    speaker.hear_until(
        "a key frame is asked for",
        |_| {
            listener.socket.send_to(&pli, from).unwrap();
        },
        |heard| feedback(heard, PLI, 7),
    );
    // Reports: of us to the listener, about the speaker to the speaker.
    listener.hear_until(
        "a sender report",
        |_| {},
        |heard| {
            let mut reports = rtcp(heard).into_iter();
            reports.find(|(kind, _, body)| *kind == 200 && body[..4] == ssrc.to_be_bytes())
        },
    );
    speaker.hear_until(
        "a receiver report",
        |_| {},
        |heard| {
            let mut reports = rtcp(heard).into_iter();
            reports.find(|(kind, count, body)| {
                *kind == 201 && *count == 1 && body[4..8] == 7_u32.to_be_bytes()
            })
        },
    );
    sent.consumer.close().wait().unwrap();
    listener.hear_until(
        "a goodbye",
        |_| {},
        |heard| rtcp(heard).into_iter().find(|(kind, ..)| *kind == 203),
    );
}

#[test]
fn item_42_media_and_reports_go_through_on_one_thread() {
    one_producer_and_one_consumer(1, options());
}

#[test]
fn item_42_media_and_reports_go_through_from_thread_to_thread() {
    one_producer_and_one_consumer(2, options());
}

#[test]
fn item_42_a_paused_producer_sends_nothing() {
    let place = place(1);
    let arriving = open(&place, options().comedia(true));
    let leaving = open(&place, options());
    let (mut speaker, mut listener) = (Speaker::new(7), Speaker::new(0));
    let paused = ProducerOptions::new().paused(true);
    let producer = arriving.produce(vp8(7), paused).wait().unwrap();
    let (capabilities, consume) = (RtpCapabilities::default(), ConsumerOptions::new());
    let sent = leaving
        .consume(producer.id(), capabilities, consume)
        .wait()
        .unwrap();
    let remote = PlainConnectOptions::to(listener.address());
    leaving.connect(remote).wait().unwrap();
    for _ in 0..10 {
        speaker.send(arriving.local_address());
        let heard = listener.hear();
        assert!(heard.is_none_or(|heard| rtp(&heard).is_none()));
    }
    producer.resume().wait().unwrap();
    let to = arriving.local_address();
    let first = listener.hear_until(
        "media",
        |_| {
            speaker.send(to);
        },
        rtp,
    );
    assert_eq!((sent.parameters.ssrc, 0), (Some(first.0), first.2));
}

#[test]
fn item_42_ports_are_as_they_are_asked_for() {
    let place = place(1);
    let taken = free_port();
    let free = UdpSocket::bind(("127.0.0.1", taken)).unwrap();
    let fixed = |port| options().port(PlainPort::Fixed(port));
    let refused = place.router.create_plain_transport(fixed(taken)).wait();
    let refused = refused.map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, ObjectError::CannotBind { .. }),
        "{refused}"
    );
    drop(free);
    for _ in 0..3 {
        let one = open(&place, fixed(taken));
        assert_eq!(taken, one.local_address().port());
        assert_eq!(None, one.local_rtcp_address());
        one.close().wait().unwrap();
    }
    let range = PlainPort::Range(41_000..=41_399);
    let ranged: Vec<_> = (0..5)
        .map(|_| open(&place, options().port(range.clone())))
        .collect();
    for one in &ranged {
        assert!((41_000..=41_399).contains(&one.local_address().port()));
    }
    let pair = open(&place, options().rtcp_mux(false));
    let next = pair.local_address().port() + 1;
    assert_eq!(Some(next), pair.local_rtcp_address().map(|own| own.port()));
    let empty = PlainPort::Range(std::ops::RangeInclusive::new(5, 4));
    let refused = place
        .router
        .create_plain_transport(options().port(empty))
        .wait();
    assert!(matches!(refused, Err(ObjectError::CannotBind { .. })));
}

#[test]
fn item_42_an_unusable_address_is_refused_and_nothing_is_left() {
    let place = place(1);
    // Of TEST-NET-1, which is nobody's.
    let nobody: IpAddr = "192.0.2.1".parse().unwrap();
    let unusable = PlainTransportOptions::new(nobody);
    let refused = place.router.create_plain_transport(unusable).wait();
    match refused.map(|_| ()) {
        Err(ObjectError::CannotBind { ip, .. }) => assert_eq!(nobody, ip),
        other => panic!("{other:?}"),
    }
    open(&place, options());
}

fn connect_error(transport: &PlainTransport, remote: PlainConnectOptions) -> ConnectError {
    match transport.connect(remote).wait() {
        Err(ObjectError::Connect(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn item_42_who_connects_wrongly_is_told_why() {
    let place = place(1);
    let profile = SrtpProfile::AeadAes128Gcm;
    let there: SocketAddr = "127.0.0.1:5004".parse().unwrap();
    let to = || PlainConnectOptions::to(there);
    let key = SrtpKey::random(profile);
    let other = SrtpKey::random(SrtpProfile::Aes128CmSha1_80);

    let plain = open(&place, options());
    assert_eq!(None, plain.srtp_key());
    let bad = |address: &str| PlainConnectOptions::to(address.parse().unwrap());
    for address in ["[::1]:5004", "127.0.0.1:0", "0.0.0.0:5004"] {
        let error = ConnectError::BadRemote(address.parse().unwrap());
        assert_eq!(error, connect_error(&plain, bad(address)));
    }
    let cases = [
        (PlainConnectOptions::default(), ConnectError::NoRemote),
        (to().rtcp(there), ConnectError::NoRtcpPort),
        (to().srtp_key(key.clone()), ConnectError::NoSrtp),
    ];
    for (remote, error) in cases {
        assert_eq!(error, connect_error(&plain, remote));
    }
    plain.connect(to()).wait().unwrap();
    assert_eq!(ConnectError::Again, connect_error(&plain, to()));

    let learning = open(&place, options().comedia(true));
    assert_eq!(ConnectError::LearnsRemote, connect_error(&learning, to()));

    let srtp = open(&place, options().srtp(Some(profile)));
    assert_eq!(Some(profile), srtp.srtp_key().map(SrtpKey::profile));
    assert_eq!(ConnectError::NoKey, connect_error(&srtp, to()));
    let expected = ConnectError::WrongProfile {
        expected: profile,
        actual: other.profile(),
    };
    assert_eq!(expected, connect_error(&srtp, to().srtp_key(other)));
    srtp.connect(to().srtp_key(key)).wait().unwrap();
}

/// From one transport to another, by every profile: what one end makes, the other end reads.
#[test]
fn item_42_with_srtp_only_the_other_end_is_believed() {
    for profile in [
        SrtpProfile::Aes128CmSha1_80,
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
    ] {
        let place = place(2);
        let arriving = open(&place, options().comedia(true));
        let (mut speaker, mut listener) = (Speaker::new(7), Speaker::new(0));
        let source = arriving
            .produce(vp8(7), ProducerOptions::new())
            .wait()
            .unwrap();
        let srtp = options().srtp(Some(profile));
        let (out, back) = (open(&place, srtp.clone()), open(&place, srtp.comedia(true)));
        let key = |of: &PlainTransport| of.srtp_key().unwrap().clone();
        let remote = PlainConnectOptions::to(back.local_address()).srtp_key(key(&back));
        let sent = out
            .consume(
                source.id(),
                RtpCapabilities::default(),
                ConsumerOptions::new(),
            )
            .wait()
            .unwrap();
        // It must not be learned where somebody is who has no key.
        let mut forger = Speaker::new(sent.parameters.ssrc.unwrap());
        let again = back
            .produce(sent.parameters.clone(), ProducerOptions::new())
            .wait()
            .unwrap();
        forger.send(back.local_address());
        back.connect(PlainConnectOptions::with_key(key(&out)))
            .wait()
            .unwrap();
        forger.send(back.local_address());
        out.connect(remote).wait().unwrap();

        let leaving = open(&place, options());
        let last = leaving
            .consume(
                again.id(),
                RtpCapabilities::default(),
                ConsumerOptions::new(),
            )
            .wait()
            .unwrap();
        let remote = PlainConnectOptions::to(listener.address());
        leaving.connect(remote).wait().unwrap();
        let to = arriving.local_address();
        let heard = listener.hear_until(
            "media, encrypted once on its way",
            |_| {
                speaker.send(to);
            },
            rtp,
        );
        assert_eq!(last.parameters.ssrc, Some(heard.0));
        // What is asked of the last is asked of the first, through SRTCP.
        let pli = say_feedback(PLI, heard.0, &[]);
        while feedback(&speaker.hear().unwrap_or_default(), PLI, 7).is_some() {}
        speaker.hear_until(
            "a key frame is asked for",
            |_| {
                let from = leaving.local_address();
                listener.socket.send_to(&pli, from).unwrap();
            },
            |heard| feedback(heard, PLI, 7),
        );
    }
}

#[test]
fn item_43_what_cannot_be_produced_is_refused() {
    let place = place(1);
    let transport = open(&place, options());
    let produce = |parameters| {
        let produced = transport.produce(parameters, ProducerOptions::new());
        match produced.wait().map(|producer| producer.id()) {
            Err(ObjectError::Rtp(error)) => Err(error),
            other => Ok(other.unwrap()),
        }
    };
    let mut unsupported = vp8(1);
    unsupported.codecs[0].name = "theora".to_owned();
    let refused = RtpParametersError::UnsupportedCodec("theora".to_owned());
    assert_eq!(Err(refused), produce(unsupported));
    let mut unnamed = vp8(1);
    unnamed.ssrc = None;
    assert_eq!(Err(RtpParametersError::NoSsrc), produce(unnamed));
    produce(vp8(1)).unwrap();
    let taken = Err(RtpParametersError::DuplicateSsrc(1));
    assert_eq!(taken, produce(opus(1)));
    let mut rtx = vp8(2);
    rtx.codecs[0].rtx_payload_type = Some(97);
    rtx.rtx_ssrc = Some(1);
    assert_eq!(taken, produce(rtx));
    // Another transport has SSRCs of its own; and one that is given back may be used again.
    let other = open(&place, options());
    let again = other.produce(vp8(1), ProducerOptions::new());
    let again = again.wait().unwrap();
    again.close().wait().unwrap();
    other
        .produce(vp8(1), ProducerOptions::new())
        .wait()
        .unwrap();
}

#[test]
fn item_43_a_transport_has_a_limit_of_producers() {
    let place = place(1);
    let transport = open(&place, options());
    for ssrc in 0..512 {
        let produced = transport.produce(vp8(ssrc), ProducerOptions::new());
        produced.wait().unwrap();
    }
    let refused = transport.produce(vp8(512), ProducerOptions::new()).wait();
    assert_eq!(ObjectError::TooMany(512), refused.map(|_| ()).unwrap_err());
}

#[test]
fn item_44_who_has_no_codec_in_common_gets_no_consumer() {
    let place = place(1);
    let transport = open(&place, options());
    let producer = transport.produce(opus(1), ProducerOptions::new());
    let producer = producer.wait().unwrap();
    let refused = transport.consume(producer.id(), rtx_capabilities(), ConsumerOptions::new());
    let error = ObjectError::NoCommonCodec(producer.id());
    assert_eq!(error, refused.wait().map(|_| ()).unwrap_err());
    let direct = place.router.create_direct_transport().wait().unwrap();
    let silent = direct.produce(ProducerOptions::new()).wait().unwrap();
    let refused = transport.consume(silent.id(), rtx_capabilities(), ConsumerOptions::new());
    let error = ObjectError::NoMedia(silent.id());
    assert_eq!(error, refused.wait().map(|_| ()).unwrap_err());
}

#[test]
fn item_41_closing_closes_what_is_on_it_and_its_port() {
    let place = place(1);
    let fixed = options().port(PlainPort::Fixed(free_port()));
    let mut transport = open(&place, fixed);
    let mut other = open(&place, options());
    let mut producer = transport
        .produce(vp8(1), ProducerOptions::new())
        .wait()
        .unwrap();
    let consume = |on: &PlainTransport| {
        let capabilities = RtpCapabilities::default();
        let consumed = on.consume(producer.id(), capabilities, ConsumerOptions::new());
        consumed.wait().unwrap().consumer
    };
    let mut here = consume(&transport);
    let mut there = consume(&other);
    transport.close().wait().unwrap();
    let closed = CloseReason::TransportClosed;
    let called = vec![TransportEvent::Closed(CloseReason::Called)];
    assert_eq!(called, transport.events().drain());
    assert_eq!(
        vec![ProducerEvent::Closed(closed)],
        producer.events().drain()
    );
    assert_eq!(vec![ConsumerEvent::Closed(closed)], here.events().drain());
    let closed = CloseReason::ProducerClosed;
    assert_eq!(vec![ConsumerEvent::Closed(closed)], there.events().drain());
    assert!(other.events().drain().is_empty());
    let error = ObjectError::TransportClosed(transport.id());
    let refused = transport.produce(vp8(1), ProducerOptions::new()).wait();
    assert_eq!(error, refused.map(|_| ()).unwrap_err());
    let start = Instant::now();
    while UdpSocket::bind(transport.local_address()).is_err() {
        assert!(start.elapsed() < PATIENCE, "the port is still taken");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn item_43_a_producer_is_scored_by_what_is_missing() {
    let place = place(1);
    let arriving = open(&place, options().comedia(true));
    let mut speaker = Speaker::new(7);
    let producing = arriving.produce(vp8(7), ProducerOptions::new());
    let mut producer = producing.wait().unwrap();
    let to = arriving.local_address();
    let mut speak_until = |loses: bool, is_enough: &dyn Fn(u8) -> bool| {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "waited in vain for a score");
            for number in 0..10 {
                let _ = match loses && number % 2 == 0 {
                    true => speaker.lose(),
                    false => speaker.send(to),
                };
            }
            std::thread::sleep(Duration::from_millis(10));
            let scores = producer.events().drain();
            if scores.iter().any(|event| {
                let ProducerEvent::Score { layer: 0, score } = event else {
                    panic!("{event:?}");
                };
                is_enough(*score)
            }) {
                break;
            }
        }
    };
    speak_until(true, &|score| score <= 3);
    speak_until(false, &|score| score == 10);
}
