//! Tools that speak RTP without WebRTC: ffmpeg and GStreamer send to plain transports, and play what
//! consumers on others send.

mod plain_rtp;
mod support;

use std::fs;
use std::net::SocketAddr;

use echo_sfu::objects::{
    ConsumerOptions, PlainConnectOptions, PlainConsumer, PlainTransport, PlainTransportOptions,
    Producer, ProducerOptions, RtpCapabilities, RtpParameters, SessionDescription,
};
use echo_sfu::{SrtpKey, SrtpProfile};
use plain_rtp::{Place, opus, place, vp8};
use support::machine::{Machine, scratch_path};
use support::ports::free_port;
use support::process::Process;
use support::tools;

const VIDEO: u32 = 0x1111;
const AUDIO: u32 = 0x2222;

/// Something that a tool sends, and where to.
struct In {
    transport: PlainTransport,
    producer: Producer,
}

/// Something that a tool is sent, and where.
struct Out {
    transport: PlainTransport,
    sent: PlainConsumer,
    to: SocketAddr,
}

/// What ffmpeg wants: RTCP has a port of its own, and the address is learned.
fn options() -> PlainTransportOptions {
    PlainTransportOptions::default().rtcp_mux(false)
}

fn receive(place: &Place, parameters: RtpParameters, key: Option<&SrtpKey>) -> In {
    let options = options().comedia(true).srtp(key.map(SrtpKey::profile));
    let transport = place.router.create_plain_transport(options).wait().unwrap();
    if let Some(key) = key {
        let key = PlainConnectOptions::with_key(key.clone());
        transport.connect(key).wait().unwrap();
    }
    let producer = transport.produce(parameters, ProducerOptions::new());
    let producer = producer.wait().unwrap();
    In {
        transport,
        producer,
    }
}

fn send(place: &Place, producer: &Producer, key: Option<&SrtpKey>) -> Out {
    let options = options().srtp(key.map(SrtpKey::profile));
    let transport = place.router.create_plain_transport(options).wait().unwrap();
    let (capabilities, consume) = (RtpCapabilities::default(), ConsumerOptions::new());
    let sent = transport.consume(producer.id(), capabilities, consume);
    Out {
        transport,
        sent: sent.wait().unwrap(),
        to: SocketAddr::from(([127, 0, 0, 1], free_port())),
    }
}

impl Out {
    fn begin(&self, key: Option<&SrtpKey>) {
        let mut remote = PlainConnectOptions::to(self.to);
        if let Some(key) = key {
            remote = remote.srtp_key(key.clone());
        }
        self.transport.connect(remote).wait().unwrap();
    }
}

/// Frames that ffmpeg has decoded of a stream: it writes a line with a checksum for each.
fn decoded(lines: &[String], stream: usize) -> usize {
    let prefix = format!("{stream},");
    lines
        .iter()
        .filter(|line| line.starts_with(&prefix))
        .count()
}

/// ffmpeg playing what an SDP file tells of.
fn ffmpeg_plays(sdp: &SessionDescription) -> Process {
    let file = scratch_path("player").with_extension("sdp");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, sdp.to_string()).unwrap();
    let mut command = tools::ffmpeg();
    command
        .args(["-protocol_whitelist", "file,udp,rtp,srtp,crypto"])
        .arg("-i")
        .arg(&file)
        .args(["-map", "0", "-flush_packets", "1", "-f", "framecrc", "-"]);
    Process::start("ffmpeg that plays", &mut command)
}

const TEST_PICTURE: [&str; 5] = ["-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=15"];
const TEST_TONE: [&str; 5] = ["-re", "-f", "lavfi", "-i", "sine=sample_rate=48000"];
/// ffmpeg hears no wish for a key frame, so one has to come by itself.
const AS_VP8: [&str; 12] = [
    "-map",
    "0:v",
    "-c:v",
    "libvpx",
    "-deadline",
    "realtime",
    "-g",
    "15",
    "-payload_type",
    "96",
    "-ssrc",
    "4369",
];
const AS_OPUS: [&str; 8] = [
    "-map",
    "1:a",
    "-c:a",
    "libopus",
    "-payload_type",
    "111",
    "-ssrc",
    "8738",
];

#[test]
fn ffmpeg_sends_and_ffmpeg_plays() {
    let _machine = Machine::reserve();
    let place = place(2);
    let (video, audio) = (
        receive(&place, vp8(VIDEO), None),
        receive(&place, opus(AUDIO), None),
    );
    let url = |to: &In| format!("rtp://{}?pkt_size=1200", to.transport.local_address());
    let mut command = tools::ffmpeg();
    command
        .args(TEST_PICTURE)
        .args(TEST_TONE)
        .args(AS_VP8)
        .args(["-f", "rtp", &url(&video)])
        .args(AS_OPUS)
        .args(["-f", "rtp", &url(&audio)]);
    let _sender = Process::start("ffmpeg that sends", &mut command);

    let outs = [
        send(&place, &video.producer, None),
        send(&place, &audio.producer, None),
    ];
    let describe =
        |sdp: SessionDescription, out: &Out| sdp.stream(&out.sent.parameters, out.to, None);
    let sdp = outs.iter().fold(SessionDescription::new("test"), describe);
    let mut player = ffmpeg_plays(&sdp);
    outs.iter().for_each(|out| out.begin(None));
    player.wait_for("picture and sound", |lines| {
        let enough = decoded(lines, 0) >= 45 && decoded(lines, 1) >= 100;
        enough.then_some(())
    });
    // Paused, the picture stands; resumed, it goes on.
    video.producer.pause().wait().unwrap();
    video.producer.resume().wait().unwrap();
    let before = decoded(&player.output(), 0);
    player.wait_for("the picture goes on", |lines| {
        (decoded(lines, 0) >= before + 30).then_some(())
    });
}

#[test]
fn ffmpeg_sends_and_plays_by_srtp() {
    let _machine = Machine::reserve();
    let place = place(1);
    let profile = SrtpProfile::Aes128CmSha1_80;
    let theirs = SrtpKey::random(profile);
    let video = receive(&place, vp8(VIDEO), Some(&theirs));
    let url = format!("srtp://{}?pkt_size=1200", video.transport.local_address());
    let mut command = tools::ffmpeg();
    command
        .args(TEST_PICTURE)
        .args(AS_VP8)
        .args(["-srtp_out_suite", profile.name()])
        .args(["-srtp_out_params", &theirs.to_base64()])
        .args(["-f", "rtp", &url]);
    let _sender = Process::start("ffmpeg that sends", &mut command);

    let out = send(&place, &video.producer, Some(&theirs));
    let ours = out.transport.srtp_key();
    assert!(ours.is_some_and(|ours| *ours != theirs));
    let sdp = SessionDescription::new("test").stream(&out.sent.parameters, out.to, ours);
    let mut player = ffmpeg_plays(&sdp);
    out.begin(Some(&theirs));
    player.wait_for("the picture", |lines| {
        (decoded(lines, 0) >= 45).then_some(())
    });
}

#[test]
fn gstreamer_sends_and_gstreamer_plays() {
    let _machine = Machine::reserve();
    let place = place(1);
    let (video, audio) = (
        receive(&place, vp8(VIDEO), None),
        receive(&place, opus(AUDIO), None),
    );
    let port = |of: &In| of.transport.local_address().port();
    let _sender = Process::start(
        "gst-launch-1.0 that sends",
        &mut tools::gstreamer(&format!(
            "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=15/1 \
             ! vp8enc deadline=1 keyframe-max-dist=15 ! rtpvp8pay pt=96 ssrc={VIDEO} \
             ! udpsink host=127.0.0.1 port={} \
             audiotestsrc is-live=true ! audioconvert ! opusenc ! rtpopuspay pt=111 ssrc={AUDIO} \
             ! udpsink host=127.0.0.1 port={}",
            port(&video),
            port(&audio)
        )),
    );
    let (picture, sound) = (
        send(&place, &video.producer, None),
        send(&place, &audio.producer, None),
    );
    let mut player = Process::start(
        "gst-launch-1.0 that plays",
        &mut tools::gstreamer(&format!(
            "udpsrc port={} caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96 \
             ! rtpjitterbuffer ! rtpvp8depay ! vp8dec ! fakesink name=picture silent=false sync=false async=false \
             udpsrc port={} caps=application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=111 \
             ! rtpjitterbuffer ! rtpopusdepay ! opusdec ! fakesink name=sound silent=false sync=false async=false",
            picture.to.port(),
            sound.to.port()
        )),
    );
    picture.begin(None);
    sound.begin(None);
    let arrived = |lines: &[String], sink: &str| {
        let chained = format!("chain   ******* ({sink}:sink)");
        lines.iter().filter(|line| line.contains(&chained)).count()
    };
    player.wait_for("picture and sound", |lines| {
        let enough = arrived(lines, "picture") >= 45 && arrived(lines, "sound") >= 100;
        enough.then_some(())
    });
}
