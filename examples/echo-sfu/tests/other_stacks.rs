//! Stacks that are not Chromium: GStreamer's WHIP client publishes, aiortc plays and echoes.

mod support;

use serde::Deserialize;
use support::chromium::Chromium;
use support::machine::Machine;
use support::peer::Peer;
use support::process::Process;
use support::server::Server;
use support::test_page;
use support::tools;

/// What `aiortc_client.py` says.
#[derive(Debug, Clone, Deserialize)]
struct Arrivals {
    state: String,
    video_frames: u64,
    audio_frames: u64,
    luma: u8,
}

#[derive(Debug, Deserialize)]
struct Left {
    deleted: u16,
}

struct Aiortc(Process);

impl Aiortc {
    fn start(what: &str, url: &str) -> Self {
        let mut command = tools::python("aiortc_client.py");
        Self(Process::start("aiortc", command.args([what, url])))
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, is_so: impl Fn(&Arrivals) -> bool) -> Arrivals {
        self.0.wait_for(what, |lines| {
            let last = lines
                .iter()
                .rev()
                .find_map(|line| serde_json::from_str::<Arrivals>(line).ok());
            last.filter(&is_so)
        })
    }

    /// Sees that picture and sound arrive, and go on for about ten seconds.
    #[track_caller]
    fn goes_on(&mut self) -> Arrivals {
        let first = self.wait_for("picture and sound arrive", |now| {
            now.state == "connected" && now.video_frames > 0 && now.audio_frames > 0
        });
        // A frame of sound is 20 ms long.
        self.wait_for("picture and sound go on", |now| {
            now.video_frames >= first.video_frames + 60
                && now.audio_frames >= first.audio_frames + 500
        })
    }

    #[track_caller]
    fn leave(mut self) {
        self.0.end_input();
        let left: Left = self.0.wait_for("it leaves", |lines| {
            lines
                .last()
                .and_then(|line| serde_json::from_str(line).ok())
        });
        assert_eq!(200, left.deleted);
        assert!(self.0.wait().success());
    }
}

/// GStreamer's client publishing a moving ball and a tone.
fn gstreamer_publishes(server: &Server, room: &str) -> Process {
    const AUDIO: &str = "audiotestsrc is-live=true wave=sine ! audioconvert ! opusenc ! \
        rtpopuspay pt=100 ssrc=1 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100";
    const VIDEO: &str = "videotestsrc is-live=true pattern=ball ! \
        video/x-raw,width=320,height=240,framerate=15/1 ! vp8enc deadline=1 keyframe-max-dist=3000 \
        ! rtpvp8pay pt=96 ssrc=2 ! application/x-rtp,media=video,encoding-name=VP8,payload=96";
    let url = server.url(&format!("/whip/{room}"));
    let mut command = tools::whip_client();
    command.args(["--url", &url, "--audio", AUDIO, "--video", VIDEO]);
    Process::start("whip-client", command.arg("--disable-colors"))
}

#[test]
fn gstreamer_publishes_and_chromium_and_aiortc_play() {
    let _machine = Machine::reserve();
    let server = Server::start_on_all_addresses();
    let chromium = Chromium::start();
    let tab = chromium.open(test_page::url());
    let mut publisher = gstreamer_publishes(&server, "studio");
    server.wait_for_room("studio", "GStreamer publishes", |room| {
        room.publishers.len() == 1
    });
    let mut aiortc = Aiortc::start("play", &server.url("/whep/studio"));
    let viewer = Peer::view(&tab, &server, "studio");
    let seen = viewer.goes_on_for_ten_seconds();
    assert_eq!(Some("VP8"), seen.video_codec.as_deref());
    aiortc.goes_on();
    // GStreamer makes no key frame by itself for minutes: whoever comes late depends on the request.
    aiortc.leave();
    let mut late = Aiortc::start("play", &server.url("/whep/studio"));
    late.goes_on();
    late.leave();

    publisher.interrupt();
    assert!(publisher.wait().success());
    server.wait_for_sessions(0);
    server.stop();
}

#[test]
fn aiortc_plays_what_chromium_publishes() {
    let _machine = Machine::reserve();
    let server = Server::start_on_all_addresses();
    let chromium = Chromium::start();
    let tab = chromium.open(test_page::url());
    let publisher = Peer::publish(&tab, &server, "garden", "VP8");
    let mut aiortc = Aiortc::start("play", &server.url("/whep/garden"));
    aiortc.goes_on();
    aiortc.leave();
    server.wait_for_sessions(1);
    publisher.leave();
    server.stop();
}

#[test]
fn aiortc_has_its_echo() {
    let _machine = Machine::reserve();
    let server = Server::start_on_all_addresses();
    let mut aiortc = Aiortc::start("echo", &server.url("/echo"));
    let arrivals = aiortc.goes_on();
    assert!(
        (160..=200).contains(&arrivals.luma),
        "180 was sent: {arrivals:?}"
    );
    aiortc.leave();
    server.wait_for_sessions(0);
    server.stop();
}
