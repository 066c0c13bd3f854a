//! A bare `RTCPeerConnection` of the test page.

use std::fmt::Debug;

use serde::Deserialize;
use serde_json::json;

use super::server::Server;
use super::tab::Tab;

/// What a peer sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// The browser's fake camera.
    Camera,
    /// One colour, to be changed by [`Peer::paint`].
    Canvas,
}

/// A connection between a tab and the SFU.
#[derive(Debug)]
pub(crate) struct Peer<'tab> {
    tab: &'tab Tab,
    id: u32,
    /// The name that the SFU has given it, if it publishes.
    pub(crate) publisher: Option<String>,
}

/// Counters of one connection, over all its tracks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counters {
    pub(crate) connection_state: String,
    pub(crate) time_ms: f64,
    pub(crate) video_codec: Option<String>,
    pub(crate) key_frames_encoded: u64,
    pub(crate) key_frames_asked_for: u64,
    pub(crate) frames_decoded: u64,
    pub(crate) key_frames_decoded: u64,
    pub(crate) audio_packets: u64,
    pub(crate) audio_samples: u64,
    pub(crate) audio_energy: f64,
    /// From the first step of connecting to the first key frame decoded.
    pub(crate) first_key_frame_ms: Option<f64>,
    /// The status with which each trickled candidate was answered.
    pub(crate) trickled: Vec<u16>,
}

impl Counters {
    /// Whether picture and sound have gone on since an earlier look.
    pub(crate) fn have_risen_since(&self, earlier: &Self) -> bool {
        self.frames_decoded > earlier.frames_decoded
            && self.audio_packets > earlier.audio_packets
            && self.audio_samples > earlier.audio_samples
    }
}

impl<'tab> Peer<'tab> {
    /// Sends, and receives the same back. No other video codec than the given one is offered.
    #[track_caller]
    pub(crate) fn echo(tab: &'tab Tab, server: &Server, source: Source, codec: &str) -> Self {
        let source = source.name();
        let url = server.url("/echo");
        let wish = json!({ "url": url, "direction": "sendrecv", "source": source, "codec": codec });
        Self::connect(tab, &wish)
    }

    /// Publishes camera and microphone by WHIP, with trickled candidates.
    #[track_caller]
    pub(crate) fn publish(tab: &'tab Tab, server: &Server, room: &str, codec: &str) -> Self {
        let wish = json!({
            "url": server.url(&format!("/whip/{room}?name=Anna")),
            "direction": "sendonly",
            "source": Source::Camera.name(),
            "codec": codec,
            "trickle": true,
        });
        Self::connect(tab, &wish)
    }

    /// Publishes camera and microphone by WHIP, the picture in two sizes.
    #[track_caller]
    pub(crate) fn publish_layers(tab: &'tab Tab, server: &Server, room: &str) -> Self {
        let wish = json!({
            "url": server.url(&format!("/whip/{room}")),
            "direction": "sendonly",
            "source": Source::Camera.name(),
            "codec": "VP8",
            "layers": 2,
        });
        Self::connect(tab, &wish)
    }

    /// Views by WHEP: the newest publisher of a room, or that of `room/publisher`.
    #[track_caller]
    pub(crate) fn view(tab: &'tab Tab, server: &Server, whom: &str) -> Self {
        let url = server.url(&format!("/whep/{whom}"));
        Self::connect(tab, &json!({ "url": url, "direction": "recvonly" }))
    }

    #[track_caller]
    fn connect(tab: &'tab Tab, wish: &serde_json::Value) -> Self {
        #[derive(Deserialize)]
        struct Connected {
            id: u32,
            publisher: Option<String>,
        }
        let Connected { id, publisher } = tab.evaluate(&format!("connect({wish})"));
        Self { tab, id, publisher }
    }

    #[track_caller]
    pub(crate) fn counters(&self) -> Counters {
        self.tab.evaluate(&format!("look({})", self.id))
    }

    /// Waits until the counters are as wanted, and returns them.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Counters) -> bool) -> Counters {
        self.tab
            .wait_for(what, &format!("look({})", self.id), is_so)
    }

    /// Waits until picture and sound arrive.
    #[track_caller]
    pub(crate) fn wait_for_media(&self) -> Counters {
        self.wait_for("picture and sound arrive", |counters| {
            counters.frames_decoded > 0 && counters.audio_samples > 0
        })
    }

    /// Sees that picture and sound, ten seconds after they began, go on still.
    #[track_caller]
    pub(crate) fn goes_on_for_ten_seconds(&self) -> Counters {
        let first = self.wait_for_media();
        let later = self.wait_for("ten seconds have passed", |counters| {
            counters.time_ms - first.time_ms >= 10_000.0
        });
        assert!(later.have_risen_since(&first), "{first:#?} {later:#?}");
        self.wait_for("picture and sound go on after ten seconds", |counters| {
            counters.have_risen_since(&later)
        })
    }

    /// Gives the canvas that it sends another colour.
    #[track_caller]
    pub(crate) fn paint(&self, colour: &str) {
        self.tab.evaluate::<()>(&format!("paint('{colour}')"));
    }

    /// Waits until the picture that is received has such a colour: red, green, blue.
    #[track_caller]
    pub(crate) fn wait_for_colour(&self, what: &str, is_so: impl Fn(&[f64; 3]) -> bool) {
        self.tab
            .wait_for(what, &format!("colour({})", self.id), is_so);
    }

    /// Has the server let nothing of it through.
    #[track_caller]
    pub(crate) fn pause(&self) {
        self.control("pause");
    }

    /// Has the server let it go on.
    #[track_caller]
    pub(crate) fn resume(&self) {
        self.control("resume");
    }

    #[track_caller]
    fn control(&self, what: &str) {
        let status: u16 = self
            .tab
            .evaluate(&format!("control({}, '{what}')", self.id));
        assert_eq!(204, status);
    }

    /// Leaves in good order.
    #[track_caller]
    pub(crate) fn leave(self) {
        let status: u16 = self.tab.evaluate(&format!("leave({})", self.id));
        assert_eq!(200, status);
    }
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Canvas => "canvas",
        }
    }
}
