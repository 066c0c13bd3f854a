//! Rooms, as headless Chromium sees them: one publisher and many viewers; people who come, leave,
//! come back, or vanish.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use support::chromium::Chromium;
use support::machine::Machine;
use support::peer::Peer;
use support::server::{Server, Track};
use support::tab::Tab;
use support::test_page;
use support::wait::{wait_for, wait_for_at_most};

/// How long a peer that vanishes may leave traces.
const TRACES_MAX: Duration = Duration::from_secs(30);

fn opus_and(codec: &str) -> Vec<Track> {
    let track = |kind: &str, codec: &str| Track {
        kind: kind.to_owned(),
        codec: codec.to_owned(),
    };
    vec![track("audio", "opus"), track("video", codec)]
}

#[test]
fn item_44_a_viewer_of_two_layers_is_sent_the_better_one() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let tabs = [(); 2].map(|()| chromium.open(test_page::url()));
    let _publisher = Peer::publish_layers(&tabs[0], &server, "lobby");
    let viewer = Peer::view(&tabs[1], &server, "lobby");
    viewer.goes_on_for_ten_seconds();
    wait_for("both layers arrive, and the better one is sent", || {
        let stats = server.stats();
        let routers = || stats.workers.iter().flat_map(|worker| &worker.routers);
        let arrives = routers()
            .flat_map(|router| &router.producers)
            .filter_map(|producer| producer.media.as_ref())
            .any(|media| media.packets.len() == 2 && media.packets.iter().all(|n| *n > 0));
        let is_sent = routers()
            .flat_map(|router| &router.consumers)
            .filter_map(|consumer| consumer.media.as_ref())
            .any(|media| media.current_layer == Some(1) && media.packets > 0);
        (arrives && is_sent)
            .then_some(())
            .ok_or(format!("{stats:#?}"))
    });
    let now = viewer.counters();
    viewer.wait_for("it goes on", |counters| counters.have_risen_since(&now));
}

#[test]
fn three_viewers_see_one_publisher_and_the_late_one_has_a_key_frame_within_two_seconds() {
    let _machine = Machine::reserve();
    let server = Server::start_with(&["--network-threads", "2"]);
    let chromium = Chromium::start();
    let tabs: Vec<_> = (0..4).map(|_| chromium.open(test_page::url())).collect();

    let publisher = Peer::publish(&tabs[0], &server, "lobby", "VP8");
    let mut viewers: Vec<_> = tabs[1..3]
        .iter()
        .map(|tab| Peer::view(tab, &server, "lobby"))
        .collect();
    for viewer in &viewers {
        viewer.goes_on_for_ten_seconds();
    }
    let trickled = publisher.wait_for("candidates were sent", |counters| {
        !counters.trickled.is_empty()
    });
    assert!(
        trickled.trickled.iter().all(|status| *status == 204),
        "{trickled:?}"
    );

    // One comes late, and asks for this publisher by name.
    let before = publisher.counters();
    let publisher_id = publisher
        .publisher
        .as_deref()
        .expect("publishers have a name");
    // Again, if the machine took a break meanwhile: it does not do so each time.
    let mut took = Vec::new();
    let late = loop {
        let late = Peer::view(&tabs[3], &server, &format!("lobby/{publisher_id}"));
        let started = late.wait_for("the late viewer has a key frame", |counters| {
            counters.first_key_frame_ms.is_some()
        });
        took.push(started.first_key_frame_ms.unwrap());
        if took.last().is_some_and(|ms| *ms < 2_000.0) {
            break late;
        }
        assert!(took.len() < 5, "after {took:.0?} ms: {started:#?}");
        late.leave();
        server.wait_for_sessions(3);
    };
    println!("the late viewer had a key frame after {took:.0?} ms");
    // It was made for the late viewer; nobody waited for one that came by itself.
    publisher.wait_for("a key frame was asked for", |counters| {
        counters.key_frames_asked_for > before.key_frames_asked_for
            && counters.key_frames_encoded > before.key_frames_encoded
    });
    viewers.push(late);
    for viewer in &viewers {
        let now = viewer.counters();
        viewer.wait_for("all go on", |counters| counters.have_risen_since(&now));
    }

    let room = server.room("lobby").expect("the room is there");
    assert_eq!((1, 3), (room.publishers.len(), room.viewers));
    assert_eq!(publisher_id, room.publishers[0].id);
    assert_eq!(Some("Anna"), room.publishers[0].name.as_deref());
    assert_eq!(3, room.publishers[0].viewers);
    assert_eq!(opus_and("VP8"), room.publishers[0].tracks);
    assert_eq!(4, server.stats().sessions);

    // One viewer leaves, and the others do not notice. The publisher leaves, and all is over.
    viewers.pop().unwrap().leave();
    server.wait_for_sessions(3);
    let now = viewers[0].counters();
    viewers[0].wait_for("the others go on", |counters| {
        counters.have_risen_since(&now)
    });
    publisher.leave();
    server.wait_for_sessions(0);
    assert!(server.room("lobby").is_none());
    server.stop();
}

#[test]
fn a_publisher_leaves_and_comes_back() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let (at_publisher, at_viewer) = (
        chromium.open(test_page::url()),
        chromium.open(test_page::url()),
    );
    let mut names = Vec::new();
    for _ in 0..3 {
        let publisher = Peer::publish(&at_publisher, &server, "lobby", "VP8");
        let viewer = Peer::view(&at_viewer, &server, "lobby");
        viewer.wait_for_media();
        names.push(publisher.publisher.clone().unwrap());
        publisher.leave();
        server.wait_for_sessions(0);
    }
    names.sort();
    names.dedup();
    assert_eq!(3, names.len(), "a name was given twice: {names:?}");
    server.stop();
}

/// `window.echoSfu.room` of the page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageRoom {
    status: String,
    self_id: Option<String>,
    peers: BTreeMap<String, PagePeer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PagePeer {
    name: String,
    status: String,
    frames_decoded: u64,
    audio_bytes_received: u64,
}

const ROOM: &str = "echoSfu.room";

impl PageRoom {
    /// Whether exactly these people are seen and heard.
    fn shows(&self, names: &[&str]) -> bool {
        let seen: Vec<_> = self.peers.values().filter(|peer| peer.is_live()).collect();
        self.peers.len() == names.len()
            && names
                .iter()
                .all(|name| seen.iter().any(|peer| peer.name == *name))
    }
}

impl PagePeer {
    fn is_live(&self) -> bool {
        self.status == "connected" && self.frames_decoded > 0 && self.audio_bytes_received > 0
    }
}

#[track_caller]
fn join(tab: &Tab, room: &str, name: &str) {
    tab.click("tab-room");
    tab.fill("room-input", room);
    tab.fill("name-input", name);
    tab.click("join-button");
}

#[track_caller]
fn join_and_be_in(tab: &Tab, room: &str, name: &str) -> String {
    join(tab, room, name);
    let joined = tab.wait_for(
        &format!("{name} is in the room"),
        ROOM,
        |room: &PageRoom| room.status == "connected" && room.self_id.is_some(),
    );
    joined.self_id.unwrap()
}

#[track_caller]
fn sees(tab: &Tab, who: &str, names: &[&str]) {
    tab.wait_for(&format!("{who} sees {names:?}"), ROOM, |room: &PageRoom| {
        room.shows(names)
    });
}

#[test]
fn people_meet_on_the_page_leave_and_come_back() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let anna = chromium.open(&server.url("/"));
    let ben = chromium.open(&server.url("/"));
    let watcher = chromium.open(&server.url("/?room=garden"));
    let anna_id = join_and_be_in(&anna, "garden", "Anna");
    join_and_be_in(&ben, "garden", "Ben");
    watcher.click("watch-only");
    watcher.click("join-button");
    sees(&anna, "Anna", &["Ben"]);
    sees(&ben, "Ben", &["Anna"]);
    sees(&watcher, "the watcher", &["Anna", "Ben"]);
    server.wait_for_room("garden", "two publish, four views", |room| {
        room.publishers.len() == 2 && room.viewers == 4
    });

    anna.click("leave-button");
    sees(&ben, "Ben", &[]);
    sees(&watcher, "the watcher", &["Ben"]);
    let anna_again = join_and_be_in(&anna, "garden", "Anna");
    assert_ne!(anna_id, anna_again);
    sees(&anna, "Anna", &["Ben"]);
    sees(&ben, "Ben", &["Anna"]);
    sees(&watcher, "the watcher", &["Anna", "Ben"]);

    // Closed tabs say goodbye.
    watcher.close();
    ben.close();
    sees(&anna, "Anna", &[]);
    anna.click("leave-button");
    server.wait_for_sessions(0);
    assert!(server.room("garden").is_none());
    server.stop();
}

#[test]
fn a_tab_killed_without_goodbye_is_gone_within_thirty_seconds() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let anna = chromium.open(&server.url("/"));
    let ben = chromium.open(&server.url("/"));
    join_and_be_in(&anna, "cellar", "Anna");
    join_and_be_in(&ben, "cellar", "Ben");
    sees(&anna, "Anna", &["Ben"]);
    sees(&ben, "Ben", &["Anna"]);
    server.wait_for_sessions(4);

    anna.crash();
    wait_for_at_most(TRACES_MAX, "only Ben is in the room", || {
        match server.room("cellar") {
            Some(room) if room.publishers.len() == 1 && room.viewers == 0 => Ok(()),
            other => Err(other),
        }
    });
    let room = server.room("cellar").unwrap();
    assert_eq!(Some("Ben"), room.publishers[0].name.as_deref());
    server.wait_for_sessions(1);
    sees(&ben, "Ben", &[]);

    // The same with the whole browser.
    chromium.kill();
    server.wait_for_sessions_at_most(TRACES_MAX, 0);
    assert!(server.room("cellar").is_none());
    assert_eq!(0, server.stats().rooms);
    server.stop();
}
