//! What HTTP answers: one test for each status code and each rule about headers.
//!
//! A real SFU and a real server in this process; requests are written by hand, so that broken ones
//! can be sent too.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use echo_sfu::http::{RouteOptions, ServerOptions, Tls, routes, serve};
use echo_sfu::{Sfu, SfuOptions};
use rtc_client::Client;
use str0m::format::Codec;
use str0m::media::Direction;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Spent by failures only.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Server {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
    runtime: Option<Runtime>,
    _sfu: Sfu,
}

impl Server {
    fn start() -> Self {
        Self::with(|_| {}, ServerOptions::default(), None)
    }

    fn with(
        adjust: impl FnOnce(&mut SfuOptions),
        options: ServerOptions,
        tls: Option<Tls>,
    ) -> Self {
        let mut sfu_options = SfuOptions {
            udp_bind: Ipv4Addr::LOCALHOST.into(),
            ..SfuOptions::default()
        };
        adjust(&mut sfu_options);
        let sfu = Sfu::start(sfu_options).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let route_options = RouteOptions {
            ice_servers: vec!["stun:stun.example.net".to_owned()],
            ..RouteOptions::default()
        };
        let router = routes(sfu.signaling(), &route_options);
        let (end, ended) = oneshot::channel();
        let served = runtime.spawn(serve(listener, tls, router, options, async {
            let _ = ended.await;
        }));
        Self {
            address,
            end: Some(end),
            served: Some(served),
            runtime: Some(runtime),
            _sfu: sfu,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes, and reads the response to its end.
    fn raw(&self, request: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Response::read(&mut stream)
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.raw(request.as_bytes())
    }

    fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    fn post_sdp(&self, path: &str, sdp: &str) -> Response {
        self.request("POST", path, &[("Content-Type", "application/sdp")], sdp)
    }

    fn patch(&self, path: &str, if_match: Option<&str>, fragment: &str) -> Response {
        let mut headers = vec![("Content-Type", "application/trickle-ice-sdpfrag")];
        headers.extend(if_match.map(|tag| ("If-Match", tag)));
        self.request("PATCH", path, &headers, fragment)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let (Some(runtime), Some(served)) = (self.runtime.take(), self.served.take()) {
            let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, served).await });
            if !std::thread::panicking() {
                ended.expect("the server ends when told to").unwrap();
            }
        }
    }
}

#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // A reset after the response is as good an end as any.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok());
        Self {
            status: status.unwrap_or(0),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// One sentence of plain text.
    #[track_caller]
    fn assert_problem(&self, status: u16) {
        assert_eq!(status, self.status, "{self:?}");
        assert_eq!(
            Some("text/plain; charset=utf-8"),
            self.header("content-type"),
            "{self:?}"
        );
        assert!(self.body.trim_end().lines().count() == 1, "{self:?}");
    }
}

fn offer(direction: Direction) -> String {
    Client::offer(direction, &[Codec::Opus, Codec::Vp8]).1
}

#[test]
fn an_offer_is_answered_201_with_all_that_a_client_needs() {
    let server = Server::start();
    for (path, direction) in [
        ("/echo", Direction::SendRecv),
        ("/whip/lobby", Direction::SendOnly),
        ("/whep/lobby", Direction::RecvOnly),
    ] {
        let response = server.post_sdp(path, &offer(direction));
        assert_eq!(201, response.status, "{path}: {response:?}");
        assert_eq!(Some("application/sdp"), response.header("content-type"));
        assert!(response.body.starts_with("v=0\r\n"));
        assert!(
            response
                .header("location")
                .unwrap()
                .starts_with("/session/")
        );
        let tag = response.header("etag").unwrap();
        assert!(
            tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'),
            "{tag}"
        );
        assert_eq!(
            Some("application/trickle-ice-sdpfrag"),
            response.header("accept-patch")
        );
        let link = "<stun:stun.example.net>; rel=\"ice-server\"";
        assert_eq!(Some(link), response.header("link"));
        assert_eq!(
            path == "/whip/lobby",
            response.header("publisher-id").is_some()
        );
        let exposed = response.header("access-control-expose-headers").unwrap();
        for name in ["location", "etag", "link", "publisher-id", "retry-after"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        assert_eq!(Some("*"), response.header("access-control-allow-origin"));
    }
}

#[test]
fn a_room_is_listed_with_its_publishers_and_the_newest_is_viewed() {
    let server = Server::start();
    server.get("/rooms/lobby").assert_problem(404);
    let first = server.post_sdp("/whip/lobby?name=Ann%20%C3%84", &offer(Direction::SendOnly));
    let second = server.post_sdp("/whip/lobby?name=", &offer(Direction::SendOnly));
    let (first, second) = (
        first.header("publisher-id").unwrap(),
        second.header("publisher-id").unwrap(),
    );
    let newest = server.post_sdp("/whep/lobby", &offer(Direction::RecvOnly));
    let named = server.post_sdp(&format!("/whep/lobby/{first}"), &offer(Direction::RecvOnly));
    assert_eq!((201, 201), (newest.status, named.status));
    let room = server.get("/rooms/lobby");
    assert_eq!(
        (200, Some("application/json")),
        (room.status, room.header("content-type"))
    );
    let room: serde_json::Value = serde_json::from_str(&room.body).unwrap();
    assert_eq!("lobby", room["room"]);
    assert_eq!(2, room["viewers"]);
    let publishers = room["publishers"].as_array().unwrap();
    assert_eq!(
        (first, second),
        (
            publishers[0]["id"].as_str().unwrap(),
            publishers[1]["id"].as_str().unwrap()
        )
    );
    assert_eq!(
        ("Ann Ä", 1),
        (
            publishers[0]["name"].as_str().unwrap(),
            publishers[0]["viewers"].as_u64().unwrap()
        )
    );
    assert!(publishers[1]["name"].is_null());
    assert_eq!("VP8", publishers[0]["tracks"][1]["codec"]);
    assert!(publishers[0]["age_seconds"].is_number());
    let stats: serde_json::Value = serde_json::from_str(&server.get("/stats").body).unwrap();
    assert_eq!(
        (4, 1),
        (
            stats["sessions"].as_u64().unwrap(),
            stats["rooms"].as_u64().unwrap()
        )
    );
    assert_eq!("network-0", stats["network"][0]["thread"]);
}

#[test]
fn a_session_restarts_ice_with_a_new_entity_tag() {
    let server = Server::start();
    let opened = server.post_sdp("/echo", &offer(Direction::SendRecv));
    let location = opened.header("location").unwrap();
    let mut tag = opened.header("etag").unwrap().to_owned();
    let ours = |sdp: &str| {
        let value = |prefix| sdp.lines().find_map(|line| line.strip_prefix(prefix));
        ["a=ice-ufrag:", "a=ice-pwd:"].map(|prefix| value(prefix).unwrap().to_owned())
    };
    let mut before = ours(&opened.body);
    for (ufrag, if_match) in [("one+", "\"*\""), ("two+", "*"), ("three", "the tag")] {
        let fragment = format!(
            "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n\
             a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
        );
        let if_match = match if_match {
            "the tag" => &tag,
            any => any,
        };
        server.patch(location, None, &fragment).assert_problem(428);
        let restarted = server.patch(location, Some(if_match), &fragment);
        let content_type = restarted.header("content-type");
        let found = (restarted.status, content_type);
        assert_eq!((200, Some("application/trickle-ice-sdpfrag")), found);
        // The old one is stale: whoever trickles with it is told so.
        server
            .patch(location, Some(&tag), &fragment)
            .assert_problem(412);
        tag = restarted.header("etag").unwrap().to_owned();
        for if_match in [Some(&*tag), None] {
            assert_eq!(204, server.patch(location, if_match, &fragment).status);
        }
        // Whoever has lost the answer does not know the tag, and is given the same again.
        for if_match in ["*", "\"*\""] {
            let again = server.patch(location, Some(if_match), &fragment);
            let [again, restarted] =
                [&again, &restarted].map(|own| (own.status, own.header("etag"), own.body.clone()));
            assert_eq!(restarted, again);
        }
        let now = ours(&restarted.body);
        assert!(before[0] != now[0] && before[1] != now[1], "{restarted:?}");
        before = now;
        for line in ["a=ice-lite\r\n", "a=mid:", " typ host\r\n"] {
            assert!(restarted.body.contains(line), "{line}: {restarted:?}");
        }
    }
    let short = "a=ice-ufrag:other\r\na=ice-pwd:short\r\n";
    server.patch(location, Some("*"), short).assert_problem(400);
    let without = "a=ice-ufrag:other\r\na=end-of-candidates\r\n";
    server
        .patch(location, Some("*"), without)
        .assert_problem(400);
    let gone = "/session/0123456789abcdef0123456789abcdef";
    server.patch(gone, Some("*"), short).assert_problem(404);
}

#[test]
fn a_session_takes_candidates_and_ends_once() {
    let server = Server::start();
    let offer = offer(Direction::SendRecv);
    let opened = server.post_sdp("/echo", &offer);
    let (location, tag) = (
        opened.header("location").unwrap(),
        opened.header("etag").unwrap(),
    );
    let ufrag = offer
        .lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
        .unwrap();
    let fragment = format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
    );
    for if_match in [Some(tag), Some("*"), None] {
        assert_eq!(204, server.patch(location, if_match, &fragment).status);
    }
    server
        .patch(location, Some("\"other\""), &fragment)
        .assert_problem(412);
    server
        .patch(location, Some(&format!("W/{tag}")), &fragment)
        .assert_problem(412);
    server.patch(location, None, "hello").assert_problem(400);
    server
        .request(
            "PATCH",
            location,
            &[("Content-Type", "application/sdp")],
            "",
        )
        .assert_problem(415);
    assert_eq!(200, server.request("DELETE", location, &[], "").status);
    server
        .request("DELETE", location, &[], "")
        .assert_problem(404);
    server.patch(location, None, &fragment).assert_problem(404);
}

#[test]
fn what_is_not_there_is_404() {
    let server = Server::start();
    for path in [
        "/nothing",
        "/../Cargo.toml",
        "/..%2f..%2fetc/passwd",
        "/session",
        "//",
        "/page/app.js",
    ] {
        server.get(path).assert_problem(404);
    }
    server
        .post_sdp("/whep/nobody", &offer(Direction::RecvOnly))
        .assert_problem(404);
    server.post_sdp("/whip/lobby", &offer(Direction::SendOnly));
    for publisher in ["0123456789", "nobody", "%00"] {
        let path = format!("/whep/lobby/{publisher}");
        server
            .post_sdp(&path, &offer(Direction::RecvOnly))
            .assert_problem(404);
    }
    for session in ["x", "0123456789abcdef0123456789abcdef"] {
        server
            .request("DELETE", &format!("/session/{session}"), &[], "")
            .assert_problem(404);
    }
}

#[test]
fn bad_sdp_and_bad_names_are_400() {
    let server = Server::start();
    for sdp in ["", "hello", "v=0\r\n", &offer(Direction::SendRecv)[..200]] {
        server.post_sdp("/echo", sdp).assert_problem(400);
    }
    let offer = offer(Direction::SendOnly);
    server.post_sdp("/whip/b%20d", &offer).assert_problem(400);
    server
        .post_sdp(&format!("/whip/{}", "x".repeat(65)), &offer)
        .assert_problem(400);
    server
        .post_sdp(&format!("/whip/lobby?name={}", "x".repeat(65)), &offer)
        .assert_problem(400);
    let not_text = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Content-Type: application/sdp\r\nContent-Length: 2\r\n\r\n\xff\xfe";
    server.raw(not_text).assert_problem(400);
}

#[test]
fn no_codec_in_common_is_406() {
    let server = Server::start();
    let (_, offer, _) = Client::offer(Direction::SendRecv, &[Codec::PCMU]);
    server.post_sdp("/echo", &offer).assert_problem(406);
}

#[test]
fn other_content_types_are_415_whatever_the_case_and_parameters_of_the_right_one() {
    let server = Server::start();
    let offer = offer(Direction::SendRecv);
    for wrong in ["text/plain", "application/json", "application/sdpx", ""] {
        server
            .request("POST", "/echo", &[("Content-Type", wrong)], &offer)
            .assert_problem(415);
    }
    server
        .request("POST", "/echo", &[], &offer)
        .assert_problem(415);
    for right in [
        "Application/SDP",
        "application/sdp; charset=utf-8",
        "application/sdp;x=y",
    ] {
        let response = server.request("POST", "/echo", &[("Content-Type", right)], &offer);
        assert_eq!(201, response.status, "{right}: {response:?}");
    }
}

#[test]
fn a_body_over_the_limit_is_413_also_if_its_length_is_not_told() {
    let server = Server::start();
    server
        .post_sdp("/echo", &"v".repeat(70_000))
        .assert_problem(413);
    let mut chunked = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Content-Type: application/sdp\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..70 {
        chunked.extend(format!("3e8\r\n{}\r\n", "v".repeat(1000)).bytes());
    }
    chunked.extend(b"0\r\n\r\n");
    server.raw(&chunked).assert_problem(413);
}

#[test]
fn too_many_sessions_and_rooms_are_503_with_a_time_to_retry() {
    let limit = |options: &mut SfuOptions| {
        options.max_sessions = 2;
        options.max_rooms = 1;
    };
    let server = Server::with(limit, ServerOptions::default(), None);
    let publish = |room: &str| server.post_sdp(room, &offer(Direction::SendOnly));
    assert_eq!(201, publish("/whip/one").status);
    let refused = publish("/whip/two");
    refused.assert_problem(503);
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    assert_eq!(201, publish("/whip/one").status);
    let refused = publish("/whip/one");
    refused.assert_problem(503);
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn methods_that_a_resource_does_not_have_are_405_with_those_it_has() {
    let server = Server::start();
    for (path, allowed) in [
        ("/echo", "POST"),
        ("/whip/lobby", "POST"),
        ("/whep/lobby", "POST"),
        ("/session/0123456789abcdef0123456789abcdef", "PATCH"),
        ("/rooms/lobby", "GET"),
        ("/", "GET"),
    ] {
        let response = server.request("PUT", path, &[], "");
        response.assert_problem(405);
        assert!(
            response.header("allow").unwrap().contains(allowed),
            "{response:?}"
        );
    }
    server.request("GET", "/echo", &[], "").assert_problem(405);
    server.request("BREW", "/echo", &[], "").assert_problem(405);
}

#[test]
fn options_say_what_is_taken_and_let_other_origins_in() {
    let server = Server::start();
    for path in [
        "/echo",
        "/whip/lobby",
        "/whep/lobby",
        "/whep/lobby/0123456789",
    ] {
        let asked = [
            ("Origin", "https://elsewhere.example"),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "content-type, authorization",
            ),
        ];
        for headers in [&asked[..], &[]] {
            let response = server.request("OPTIONS", path, headers, "");
            assert!((200..300).contains(&response.status), "{response:?}");
            assert_eq!(Some("application/sdp"), response.header("accept-post"));
            assert_eq!(Some("*"), response.header("access-control-allow-origin"));
            let methods = response.header("access-control-allow-methods").unwrap();
            assert!(
                ["POST", "PATCH", "DELETE"]
                    .iter()
                    .all(|method| methods.contains(method))
            );
            let headers = response.header("access-control-allow-headers").unwrap();
            assert!(
                ["authorization", "content-type", "if-match"]
                    .iter()
                    .all(|h| headers.contains(h))
            );
        }
    }
    let response = server.request("OPTIONS", "/session/x", &[], "");
    assert_eq!(
        Some("application/trickle-ice-sdpfrag"),
        response.header("accept-patch")
    );
}

#[test]
fn the_page_is_served_and_may_load_nothing_from_elsewhere() {
    let server = Server::start();
    let page = server.get("/");
    assert_eq!(
        (200, Some("text/html; charset=utf-8")),
        (page.status, page.header("content-type"))
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(Some("nosniff"), page.header("x-content-type-options"));
    let script = server.get("/app.js");
    assert_eq!(
        Some("text/javascript; charset=utf-8"),
        script.header("content-type")
    );
    // Scripts of the page name each other; all of them are there.
    for import in script
        .body
        .split("from \"./")
        .skip(1)
        .chain(script.body.split("from './").skip(1))
    {
        let file = import.split(['"', '\'']).next().unwrap();
        assert_eq!(200, server.get(&format!("/{file}")).status, "{file}");
    }
}

#[test]
fn noise_is_refused_and_the_server_goes_on() {
    let server = Server::start();
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for length in [1, 10, 1000] {
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        bytes.extend(b"\r\n\r\n");
        let status = server.raw(&bytes).status;
        assert!(status == 0 || status == 400, "{status}");
    }
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(1_000_000)
    );
    let mut stream = server.connect();
    // The server may hang up before all of it is written.
    let _ = stream.write_all(huge.as_bytes());
    let status = Response::read(&mut stream).status;
    assert!(status == 0 || status == 431, "{status}");
    assert_eq!(200, server.get("/").status);
}

#[test]
fn a_client_that_dawdles_is_hung_up_on() {
    let options = ServerOptions {
        header_timeout: Duration::from_millis(100),
        ..ServerOptions::default()
    };
    let server = Server::with(|_| {}, options, None);
    let mut dawdler = server.connect();
    // It may have been hung up on before that, if the machine dawdles as well.
    let _ = dawdler.write_all(b"GET / HTTP/1.1\r\nHost");
    let silent = server.connect();
    let mut idle = server.connect();
    let _ = idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    for mut stream in [dawdler, silent, idle] {
        // The read ends because the server closes; the read time-out would be another error.
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            assert_eq!(ErrorKind::ConnectionReset, error.kind(), "{error}");
        }
    }
}

#[test]
fn connections_over_the_limit_wait_for_their_turn() {
    let options = ServerOptions {
        max_connections: 1,
        ..ServerOptions::default()
    };
    let server = Server::with(|_| {}, options, None);
    let first = server.connect();
    let mut second = server.connect();
    second
        .write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    second
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(
        second.read(&mut [0; 1]).is_err(),
        "answered while the first was open"
    );
    drop(first);
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(200, Response::read(&mut second).status);
}

#[test]
fn a_self_signed_certificate_serves_https() {
    use std::sync::Arc;

    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    let tls = Tls::self_signed(&["192.0.2.1".parse().unwrap()]).unwrap();
    assert_eq!(95, tls.fingerprint().len());
    let mut roots = RootCertStore::empty();
    roots.add(tls.certificate().clone()).unwrap();
    let server = Server::with(|_| {}, ServerOptions::default(), Some(tls));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for name in ["localhost", "127.0.0.1", "192.0.2.1"] {
        let name = ServerName::try_from(name).unwrap();
        let session = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
        let mut stream = StreamOwned::new(session, server.connect());
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        assert_eq!(200, Response::read(&mut stream).status);
    }
}

#[test]
fn certificates_that_cannot_be_used_say_why() {
    let folder = std::env::temp_dir().join(format!("echo-sfu-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let missing = Tls::from_files(&certificate, &key).unwrap_err().to_string();
    assert!(missing.contains("cert.pem"), "{missing}");
    std::fs::write(&certificate, "nothing").unwrap();
    std::fs::write(&key, "nothing").unwrap();
    let empty = Tls::from_files(&certificate, &key).unwrap_err().to_string();
    assert!(empty.contains("no certificate"), "{empty}");
    std::fs::remove_dir_all(&folder).unwrap();
}
