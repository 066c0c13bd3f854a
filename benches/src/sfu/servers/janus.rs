//! Janus, as the distribution packages it, with as much configuration as it needs.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Server;
use crate::sfu::process::Pinned;
use crate::sfu::signaling::Protocol;

const INSTALL: &str = "apt-get install --no-install-recommends janus";
const PATIENCE: Duration = Duration::from_secs(10);

/// With a thread for each client, or with all clients on one, as it recommends for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sfu) enum Loops {
    PerClient,
    One,
}

pub(in crate::sfu) fn start(ip: IpAddr, loops: Loops) -> Result<Server, String> {
    if ip.is_loopback() {
        return Err(
            "Janus does not consider loopback, and this machine has no other address; ip \
             link add dummy0 type dummy && ip addr add 192.0.2.1/24 dev dummy0 && ip link set \
             dummy0 up"
                .into(),
        );
    }
    let http = free_port().map_err(|error| error.to_string())?;
    let folder = std::env::temp_dir().join(format!("compare-{}-janus", std::process::id()));
    configure(&folder, http, loops).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new("janus");
    command
        .arg("--configs-folder")
        .arg(&folder)
        .args(["--interface", &ip.to_string()])
        .args(["--debug-level", "1", "--disable-colors"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = Pinned::start(&mut command);
    let mut process =
        process.map_err(|error| format!("janus does not start ({error}); {INSTALL}"))?;
    let give_up = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(http).is_err() {
        if let Some(status) = process.has_ended() {
            return Err(format!("janus has ended: {status}"));
        }
        if Instant::now() > give_up {
            return Err("janus does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // It has read them.
    let _ = fs::remove_dir_all(&folder);
    Ok(Server {
        process,
        protocol: Protocol::Janus,
        http,
    })
}

fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Nothing but the video rooms over HTTP: other plugins and transports are not loaded.
fn configure(folder: &Path, http: SocketAddr, loops: Loops) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let event_loops = match loops {
        Loops::PerClient => "",
        Loops::One => "event_loops = 1;",
    };
    let others = |all: &[&str], kind: &str| {
        let names = all.iter().map(|name| format!("libjanus_{name}.so"));
        format!(
            "{kind}: {{ disable = \"{}\"; }}\n",
            names.collect::<Vec<_>>().join(",")
        )
    };
    let main = format!(
        "general: {{ session_timeout = 0; {event_loops} }}\n\
         media: {{ ipv6 = false; }}\n{}{}",
        others(
            &[
                "audiobridge",
                "duktape",
                "echotest",
                "lua",
                "nosip",
                "recordplay",
                "sip",
                "streaming",
                "textroom",
                "videocall",
                "voicemail",
            ],
            "plugins"
        ),
        others(
            &["mqtt", "nanomsg", "pfunix", "rabbitmq", "websockets"],
            "transports"
        ),
    );
    fs::write(folder.join("janus.jcfg"), main)?;
    fs::write(
        folder.join("janus.transport.http.jcfg"),
        format!(
            "general: {{ json = \"compact\"; base_path = \"/janus\"; http = true; port = {}; \
             interface = \"lo\"; https = false; }}\nadmin: {{ admin_http = false; }}\n",
            http.port()
        ),
    )?;
    fs::write(folder.join("janus.plugin.videoroom.jcfg"), "general: { }\n")
}
