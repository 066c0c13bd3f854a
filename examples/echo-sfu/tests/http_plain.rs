//! Plain RTP by way of HTTP: what is answered, and ffmpeg on both ends.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::http::{self, Response};
use support::machine::{Machine, scratch_path};
use support::ports::free_port;
use support::process::Process;
use support::server::Server;
use support::tools;

fn post(server: &Server, path: &str, body: &Value) -> Response {
    let json = [("Content-Type", "application/json")];
    http::request(server.address(), "POST", path, &json, &body.to_string()).unwrap()
}

fn vp8() -> Value {
    json!({ "name": "VP8", "payload_type": 96, "clock_rate": 90_000 })
}

fn opus() -> Value {
    json!({ "name": "opus", "payload_type": 111, "clock_rate": 48_000, "channels": 2 })
}

fn picture_and_sound() -> Value {
    json!({ "name": "Studio", "streams": [
        { "kind": "video", "ssrc": 1111, "codecs": [vp8()] },
        { "kind": "audio", "ssrc": 2222, "codecs": [opus()] },
    ]})
}

#[track_caller]
fn assert_status(expected: u16, response: &Response) {
    assert_eq!(expected, response.status, "{response:?}");
}

#[test]
fn it_is_off_unless_asked_for() {
    let server = Server::start();
    let refused = post(&server, "/rtp/studio", &picture_and_sound());
    assert_status(403, &refused);
    assert!(refused.body.contains("--plain-rtp"), "{refused:?}");
    assert_eq!(0, server.stats().sessions);
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let server = Server::start_with(&["--plain-rtp"]);
    let stream = |codec: Value| json!({ "kind": "video", "ssrc": 1, "codecs": [codec] });
    let mut unknown = vp8();
    unknown["name"] = "theora".into();
    let bad = [
        json!({}),
        json!({ "streams": [] }),
        json!({ "streams": [stream(unknown)] }),
        json!({ "streams": [stream(opus())] }),
        json!({ "streams": [{ "kind": "video", "codecs": [vp8()] }] }),
        json!({ "streams": vec![stream(vp8()); 5] }),
        json!({ "streams": [stream(vp8())], "colour": "blue" }),
        json!({ "streams": [stream(vp8())], "name": "x".repeat(65) }),
    ];
    for body in &bad {
        assert_status(400, &post(&server, "/rtp/studio", body));
    }
    let text = [("Content-Type", "text/plain")];
    let body = picture_and_sound().to_string();
    let refused = http::request(server.address(), "POST", "/rtp/studio", &text, &body).unwrap();
    assert_status(415, &refused);
    let play = json!({ "streams": [{ "kind": "video", "to": "127.0.0.1:5004" }] });
    assert_status(404, &post(&server, "/rtp/studio/0123456789/play", &play));
    server.wait_for_sessions(0);

    let published = post(&server, "/rtp/studio", &picture_and_sound());
    assert_status(201, &published);
    let play_at = format!(
        "/rtp/studio/{}/play",
        published.header("publisher-id").unwrap()
    );
    let stream = |to: &str, codecs: Value| json!({ "streams": [{ "kind": "video", "to": to, "codecs": codecs }] });
    for (to, codecs, status) in [
        ("127.0.0.1:0", json!(null), 400),
        ("0.0.0.0:5004", json!(null), 400),
        ("nowhere", json!(null), 400),
        ("127.0.0.1:5004", json!([opus()]), 406),
        ("127.0.0.1:5004", json!([]), 400),
    ] {
        let refused = post(&server, &play_at, &stream(to, codecs));
        assert_status(status, &refused);
    }
    server.wait_for_room("studio", "nobody plays", |room| room.viewers == 0);
    let session = published.header("location").unwrap();
    let ended = http::request(server.address(), "DELETE", session, &[], "").unwrap();
    assert_status(200, &ended);
    server.wait_for_sessions(0);
    server.stop();
}

/// Were it for pages of other origins, any of them could have the server send packets anywhere.
#[test]
fn it_is_not_for_pages_of_other_origins() {
    let server = Server::start_with(&["--plain-rtp"]);
    let asks = [
        ("Origin", "https://elsewhere.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let preflight = http::request(server.address(), "OPTIONS", "/rtp/studio", &asks, "").unwrap();
    assert_eq!(None, preflight.header("access-control-allow-origin"));
    let whip = http::request(server.address(), "OPTIONS", "/whip/studio", &asks, "").unwrap();
    assert_eq!(Some("*"), whip.header("access-control-allow-origin"));
}

/// As the README tells people to do.
#[test]
fn ffmpeg_publishes_in_a_room_and_ffmpeg_plays() {
    let _machine = Machine::reserve();
    let server = Server::start_with(&["--plain-rtp"]);
    let published = post(&server, "/rtp/studio", &picture_and_sound());
    assert_status(201, &published);
    let answer: Value = serde_json::from_str(&published.body).unwrap();
    let url = |at: usize| {
        let stream = &answer["streams"][at];
        assert_eq!(json!(["127.0.0.1"]), stream["addresses"]);
        format!("rtp://127.0.0.1:{}?pkt_size=1200", stream["port"])
    };
    let mut command = tools::ffmpeg();
    let inputs = "-re -f lavfi -i testsrc=size=320x240:rate=15 \
        -re -f lavfi -i sine=sample_rate=48000";
    let video = "-map 0:v -c:v libvpx -deadline realtime -g 15 -payload_type 96 -ssrc 1111 -f rtp";
    let audio = "-map 1:a -c:a libopus -payload_type 111 -ssrc 2222 -f rtp";
    command
        .args(inputs.split_whitespace())
        .args(video.split_whitespace())
        .arg(url(0))
        .args(audio.split_whitespace())
        .arg(url(1));
    let sender = Process::start("ffmpeg that sends", &mut command);
    let room = server.room("studio").unwrap();
    assert_eq!(Some("Studio"), room.publishers[0].name.as_deref());
    assert_eq!(2, room.publishers[0].tracks.len());

    let ports = [free_port(), free_port()];
    let to = |at: usize| format!("127.0.0.1:{}", ports[at]);
    let play = json!({ "streams": [
        { "kind": "video", "to": to(0) },
        { "kind": "audio", "to": to(1) },
    ]});
    let path = format!("/rtp/studio/{}/play", room.publishers[0].id);
    let played = post(&server, &path, &play);
    assert_status(201, &played);
    assert_eq!(Some("application/sdp"), played.header("content-type"));
    let file = scratch_path("room").with_extension("sdp");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, &played.body).unwrap();
    let mut command = tools::ffmpeg();
    command
        .args(["-protocol_whitelist", "file,udp,rtp", "-i"])
        .arg(&file)
        .args(["-map", "0", "-flush_packets", "1", "-f", "framecrc", "-"]);
    let mut player = Process::start("ffmpeg that plays", &mut command);
    player.wait_for("picture and sound", |lines| {
        let frames = |of: &str| lines.iter().filter(|line| line.starts_with(of)).count();
        (frames("0,") >= 45 && frames("1,") >= 100).then_some(())
    });
    server.wait_for_room("studio", "one plays", |room| room.viewers == 1);
    // Who sends no more has left, and whoever played it with them.
    drop(sender);
    server.wait_for_sessions(0);
    server.stop();
}
