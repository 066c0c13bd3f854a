//! The echo, as headless Chromium sees it: over a bare connection, and through the page.

mod support;

use serde::Deserialize;
use support::chromium::Chromium;
use support::machine::Machine;
use support::peer::{Peer, Source};
use support::server::Server;
use support::test_page;

fn comes_back_for_ten_seconds(codec: &str) {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let tab = chromium.open(test_page::url());
    let peer = Peer::echo(&tab, &server, Source::Camera, codec);
    let counters = peer.goes_on_for_ten_seconds();
    assert_eq!(Some(codec), counters.video_codec.as_deref());
    assert_eq!("connected", counters.connection_state);
    peer.wait_for("the beeps of the fake microphone are heard", |counters| {
        counters.audio_energy > 0.0
    });
    peer.leave();
    server.wait_for_sessions(0);
    server.stop();
}

#[test]
fn vp8_and_opus_come_back_for_ten_seconds() {
    comes_back_for_ten_seconds("VP8");
}

#[test]
fn vp9_and_opus_come_back_for_ten_seconds() {
    comes_back_for_ten_seconds("VP9");
}

#[test]
fn h264_and_opus_come_back_for_ten_seconds() {
    comes_back_for_ten_seconds("H264");
}

#[test]
fn av1_and_opus_come_back_for_ten_seconds() {
    comes_back_for_ten_seconds("AV1");
}

#[test]
fn what_comes_back_is_what_was_sent() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let tab = chromium.open(test_page::url());
    let peer = Peer::echo(&tab, &server, Source::Canvas, "VP8");
    peer.paint("red");
    peer.wait_for_colour("red comes back", |[red, green, blue]| {
        *red > 150.0 && *green < 100.0 && *blue < 100.0
    });
    peer.paint("blue");
    peer.wait_for_colour("blue comes back", |[red, green, blue]| {
        *red < 100.0 && *green < 100.0 && *blue > 150.0
    });
    peer.leave();
    server.stop();
}

/// `window.echoSfu.echo` of the page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageEcho {
    status: String,
    connection_state: String,
    frames_decoded: u64,
    audio_bytes_received: u64,
    width: u32,
}

#[test]
fn the_page_shows_the_echo_for_ten_seconds() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let tab = chromium.open(&server.url("/"));
    tab.click("start-button");
    let echo = "echoSfu.echo";
    let first = tab.wait_for("the page has an echo", echo, |echo: &PageEcho| {
        echo.status == "connected" && echo.frames_decoded > 0 && echo.audio_bytes_received > 0
    });
    assert_eq!("connected", first.connection_state);
    assert!(first.width > 0, "{first:?}");
    let start = tab.evaluate::<f64>("performance.now()");
    tab.wait_for("ten seconds have passed", "performance.now()", |now| {
        now - start >= 10_000.0
    });
    let later: PageEcho = tab.evaluate(echo);
    tab.wait_for(
        "picture and sound go on after ten seconds",
        echo,
        |echo: &PageEcho| {
            echo.frames_decoded > later.frames_decoded
                && echo.audio_bytes_received > later.audio_bytes_received
        },
    );
    let video = "(() => { const {videoWidth, paused} = document.querySelector('#echo-video');
                 return videoWidth > 0 && !paused })()";
    assert!(tab.evaluate::<bool>(video), "the echo is not on display");
    assert!(tab.evaluate::<bool>("echoSfu.error === null"));
    assert_eq!(1, server.stats().sessions);

    tab.click("stop-button");
    server.wait_for_sessions(0);
    assert_eq!("idle", tab.evaluate::<PageEcho>(echo).status);
    // A second time, on the same page.
    tab.click("start-button");
    tab.wait_for("there is an echo again", echo, |echo: &PageEcho| {
        echo.status == "connected" && echo.frames_decoded > 0
    });
    tab.close();
    server.wait_for_sessions(0);
    server.stop();
}
