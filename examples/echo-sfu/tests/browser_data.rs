//! Data channels, as headless Chromium sees them: conformance item 45 between two tabs.

mod support;

use serde_json::json;
use support::chromium::Chromium;
use support::machine::Machine;
use support::server::Server;
use support::tab::Tab;
use support::test_page;

/// Opens a connection with an audio line that stays silent, and a data channel.
const CONNECT: &str = r"(async ({ url, direction, label }) => {
    const connection = new RTCPeerConnection();
    connection.addTransceiver('audio', { direction });
    const heard = [];
    const channels = [];
    const listen = (channel) => {
        channel.binaryType = 'arraybuffer';
        channel.onmessage = ({ data }) => heard.push([
            channel.label,
            typeof data === 'string' ? data : `${data.byteLength} bytes`,
        ]);
        channels.push(channel);
    };
    const own = connection.createDataChannel(label);
    listen(own);
    connection.ondatachannel = ({ channel }) => listen(channel);
    const opened = new Promise((resolve) => { own.onopen = resolve; });
    await connection.setLocalDescription();
    const response = await fetch(url, {
        method: 'POST',
        headers: { 'Content-Type': 'application/sdp' },
        body: connection.localDescription.sdp,
    });
    await connection.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    await opened;
    window.peer = { connection, own, heard, channels };
})";

#[track_caller]
fn connect(tab: &Tab, url: &str, direction: &str, label: &str) {
    let wish = json!({ "url": url, "direction": direction, "label": label });
    tab.evaluate::<()>(&format!("{CONNECT}({wish}).then(() => null)"));
}

#[track_caller]
fn send(tab: &Tab, message: &str) {
    tab.evaluate::<()>(&format!("peer.own.send({message}), null"));
}

#[track_caller]
fn wait_for_heard(tab: &Tab, expected: &[(&str, &str)]) {
    let is_so = |heard: &Vec<(String, String)>| {
        let heard = heard.iter().map(|(label, text)| (&**label, &**text));
        heard.eq(expected.iter().copied())
    };
    tab.wait_for("what was sent is heard", "peer.heard", is_so);
}

#[test]
fn item_45_what_a_publisher_sends_reaches_its_viewer_and_an_echo_comes_back() {
    let _machine = Machine::reserve();
    let server = Server::start_with(&["--network-threads", "2"]);
    let chromium = Chromium::start();
    let [publisher, viewer, echo] = [(); 3].map(|()| chromium.open(test_page::url()));

    connect(&publisher, &server.url("/whip/lobby"), "sendonly", "chat");
    connect(&viewer, &server.url("/whep/lobby"), "recvonly", "own");
    let open = "peer.channels.filter((own) => own.readyState === 'open').map((own) => own.label)";
    viewer.wait_for("the channel is there", open, |labels: &Vec<String>| {
        labels.contains(&"chat".to_owned())
    });
    send(&publisher, "'good evening'");
    send(&publisher, "new Uint8Array(200_000)");
    // An empty one is lost, and alone.
    send(&publisher, "''");
    send(&publisher, "'good night'");
    let expected = [
        ("chat", "good evening"),
        ("chat", "200000 bytes"),
        ("chat", "good night"),
    ];
    wait_for_heard(&viewer, &expected);
    // What a viewer says is for nobody.
    send(&viewer, "'hello?'");

    connect(&echo, &server.url("/echo"), "sendrecv", "echo");
    send(&echo, "'hello'");
    wait_for_heard(&echo, &[("echo", "hello")]);
    wait_for_heard(&publisher, &[]);

    publisher.evaluate::<()>("peer.own.close(), null");
    viewer.wait_for("the channel is closed", open, |labels: &Vec<String>| {
        *labels == ["own"]
    });
    server.stop();
}
