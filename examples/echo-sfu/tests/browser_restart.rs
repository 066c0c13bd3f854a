//! An ICE restart, as headless Chromium does it: conformance item 42.

mod support;

use support::chromium::Chromium;
use support::machine::Machine;
use support::server::Server;
use support::test_page;

/// Opens a connection that is sent back what it sends on a data channel.
const CONNECT: &str = r"(async (url) => {
    const connection = new RTCPeerConnection();
    const channel = connection.createDataChannel('echo');
    connection.addTransceiver('audio', { direction: 'sendrecv' });
    const [heard, states] = [[], []];
    const listen = (channel) => { channel.onmessage = ({ data }) => heard.push(data); };
    listen(channel);
    connection.ondatachannel = ({ channel }) => listen(channel);
    connection.onconnectionstatechange = () => states.push(connection.connectionState);
    const opened = new Promise((resolve) => { channel.onopen = resolve; });
    await connection.setLocalDescription();
    const response = await fetch(`${url}/echo`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/sdp' },
        body: connection.localDescription.sdp,
    });
    const session = new URL(response.headers.get('Location'), url);
    const answer = await response.text();
    await connection.setRemoteDescription({ type: 'answer', sdp: answer });
    await opened;
    const path = async () => {
        const stats = await connection.getStats();
        const transport = [...stats.values()].find(({ type }) => type === 'transport');
        const pair = stats.get(transport.selectedCandidatePairId);
        return { port: stats.get(pair.localCandidateId).port, dtls: transport.dtlsState };
    };
    window.peer = { connection, channel, heard, states, session, answer, path };
    return (await path()).port;
})";

const RESTART: &str = r#"(async () => {
    const { connection, session, answer } = peer;
    connection.restartIce();
    await connection.setLocalDescription();
    const concerns = /^(a=(group|ice-options|mid|ice-ufrag|ice-pwd|candidate)|m=)/;
    const lines = connection.localDescription.sdp.split('\r\n');
    const response = await fetch(session, {
        method: 'PATCH',
        headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '"*"' },
        body: `${lines.filter((line) => concerns.test(line)).join('\r\n')}\r\n`,
    });
    const fragment = await response.text();
    const restarted = ['ice-ufrag', 'ice-pwd'].reduce((sdp, name) => {
        const [theirs] = fragment.match(new RegExp(`a=${name}:.*`));
        return sdp.replaceAll(new RegExp(`a=${name}:.*`, 'g'), theirs.trim());
    }, answer.replaceAll(/ ufrag \S+/g, ''));
    await connection.setRemoteDescription({ type: 'answer', sdp: restarted });
    return [response.status, response.headers.get('ETag')];
})"#;

#[test]
fn item_42_a_browser_restarts_ice_and_its_connection_goes_on() {
    let _machine = Machine::reserve();
    let server = Server::start();
    let chromium = Chromium::start();
    let tab = chromium.open(test_page::url());
    let url = server.url("");
    let url = url.trim_end_matches('/');
    let mut port: u16 = tab.evaluate(&format!("{CONNECT}('{url}')"));
    let mut tags = Vec::new();
    for round in 1..=2 {
        let (status, tag): (u16, String) = tab.evaluate(&format!("{RESTART}()"));
        assert_eq!(200, status);
        assert!(!tags.contains(&tag), "{tag} after {tags:?}");
        tags.push(tag);
        // From another port, as ICE gathers anew.
        let found = "peer.path().then(({ port }) => port)";
        tab.wait_for("another way", found, |now: &u16| *now != port);
        port = tab.evaluate(found);
        tab.evaluate::<()>(&format!("peer.channel.send('{round}'), null"));
        tab.wait_for("it comes back", "peer.heard", |heard: &Vec<String>| {
            heard.last() == Some(&round.to_string())
        });
    }
    let dtls: String = tab.evaluate("peer.path().then(({ dtls }) => dtls)");
    assert_eq!("connected", dtls);
    let states: Vec<String> = tab.evaluate("peer.states");
    assert_eq!(
        Some("connected"),
        states.last().map(String::as_str),
        "{states:?}"
    );
    assert!(!states.contains(&"failed".to_owned()), "{states:?}");
    server.stop();
}
