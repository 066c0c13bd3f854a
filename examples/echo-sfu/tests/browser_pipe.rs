//! Two browsers, two servers, and a pipe between them.

mod support;

use std::cell::Cell;

use support::chromium::Chromium;
use support::machine::Machine;
use support::peer::Peer;
use support::server::Server;
use support::test_page;
use support::wait::wait_for;

/// A picture that has not changed for so long stands still.
const STILL_MS: f64 = 2_000.0;

#[test]
fn item_46_a_pipe_between_processes_carries_video_and_freezes_and_goes_on_with_a_key_frame() {
    let _machine = Machine::reserve();
    let [far, near] = Server::start_linked("browser-pipe-secret");
    let browsers = [Chromium::start(), Chromium::start()];
    let tabs = [0, 1].map(|at| browsers[at].open(test_page::url()));

    let publisher = Peer::publish(&tabs[0], &near, "hall", "VP8");
    far.wait_for_room("hall", "it is seen from afar", |room| {
        room.publishers.len() == 1
    });
    let viewer = Peer::view(&tabs[1], &far, "hall");
    viewer.wait_for_media();
    for _ in 0..2 {
        publisher.pause();
        let last = Cell::new((u64::MAX, 0.0));
        let frozen = viewer.wait_for("the picture stands still", |counters| {
            let (frames, since) = last.get();
            if frames != counters.frames_decoded {
                last.set((counters.frames_decoded, counters.time_ms));
                return false;
            }
            counters.time_ms - since >= STILL_MS
        });
        publisher.resume();
        let moving = viewer.wait_for("picture and sound go on", |counters| {
            counters.have_risen_since(&frozen)
        });
        assert!(
            moving.key_frames_decoded > frozen.key_frames_decoded,
            "{frozen:#?} {moving:#?}"
        );
    }
    publisher.leave();
    // The link has a transport of its own, which stays.
    wait_for("nobody is left", || {
        let sessions = far.stats().sessions;
        if sessions == 0 { Ok(()) } else { Err(sessions) }
    });
}
