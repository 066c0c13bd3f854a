//! The echo-sfu binary, run as its users run it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http;
use super::machine::scratch_path;
use super::wait::{PATIENCE, wait_for, wait_for_at_most};

/// A server that listens on loopback addresses and ports of its own. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    output: Arc<Mutex<Vec<String>>>,
}

/// `GET /stats`, as far as tests look at it.
#[derive(Debug, Deserialize)]
pub(crate) struct Stats {
    pub(crate) sessions: usize,
    pub(crate) rooms: usize,
    pub(crate) network: Vec<NetworkStats>,
    pub(crate) workers: Vec<WorkerStats>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WorkerStats {
    pub(crate) routers: Vec<RouterStats>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RouterStats {
    pub(crate) producers: Vec<ObjectStats<ProducerMedia>>,
    pub(crate) consumers: Vec<ObjectStats<ConsumerMedia>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ObjectStats<M> {
    pub(crate) media: Option<M>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ProducerMedia {
    pub(crate) packets: Vec<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConsumerMedia {
    pub(crate) current_layer: Option<u8>,
    pub(crate) packets: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NetworkStats {
    pub(crate) transports: usize,
}

/// `GET /rooms/{room}`, as far as tests look at it.
#[derive(Debug, Deserialize)]
pub(crate) struct Room {
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) viewers: usize,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Publisher {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) tracks: Vec<Track>,
    pub(crate) viewers: usize,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) kind: String,
    pub(crate) codec: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let loopback = ["--udp-bind", "127.0.0.1", "--announce", "127.0.0.1"];
        Self::launch(&[&loopback, options].concat())
    }

    /// Starts two, the second of which pipes to the first.
    pub(crate) fn start_linked(name: &str) -> [Self; 2] {
        let file = scratch_path(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "known to both of the servers\n").unwrap();
        let secret = ["--pipe-secret-file", file.to_str().unwrap()];
        let far = Self::start_with(&[secret, ["--pipe-listen", "127.0.0.1:0"]].concat());
        let to = far.said("Pipes on TCP ");
        let near = Self::start_with(&[secret, ["--pipe-to", &to]].concat());
        [far, near]
    }

    /// Starts a server whose media is on all addresses of the machine: neither libnice nor aioice
    /// looks at loopback.
    pub(crate) fn start_on_all_addresses() -> Self {
        let addresses = if_addrs::get_if_addrs().unwrap();
        assert!(
            addresses.iter().any(|one| !one.is_loopback()),
            "this machine has no address but loopback; give it one: \
             ip link add dummy0 type dummy && ip addr add 192.0.2.1/24 dev dummy0 && \
             ip link set dummy0 up"
        );
        Self::launch(&[])
    }

    fn launch(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_echo-sfu"))
            .args(["--http", "127.0.0.1:0", "--udp-port", "0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::default();
        let (to_us, addresses) = mpsc::channel();
        let stdout = process.stdout.take().unwrap();
        collect(stdout, &output, move |line| {
            if let Some(address) = http_address(line) {
                // Nobody listens any more once the first address is known.
                let _ = to_us.send(address);
            }
        });
        let stderr = process.stderr.take().unwrap();
        collect(stderr, &output, |_| {});
        let address = match addresses.recv_timeout(PATIENCE) {
            Ok(address) => address,
            Err(RecvTimeoutError::Timeout) => {
                let _ = process.kill();
                panic!("the server has not said where it listens: {output:#?}")
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = process.wait().unwrap();
                panic!("the server did not start, {status}: {output:#?}")
            }
        };
        Self {
            process,
            address,
            output,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What follows the beginning of a line that the server has written.
    #[track_caller]
    pub(crate) fn said(&self, beginning: &str) -> String {
        wait_for(beginning, || {
            let lines = self.output.lock().unwrap().clone();
            let found = lines.iter().find_map(|line| line.strip_prefix(beginning));
            found.map(str::to_owned).ok_or(lines)
        })
    }

    /// Where something is on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.read("/stats").expect("there are always stats")
    }

    /// Who publishes in a room, if anybody does.
    pub(crate) fn room(&self, name: &str) -> Option<Room> {
        self.read(&format!("/rooms/{name}"))
    }

    fn read<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let response = http::get(self.address, path).unwrap();
        match response.status {
            200 => Some(serde_json::from_str(&response.body).unwrap()),
            404 => None,
            _ => panic!("{path}: {response:?}"),
        }
    }

    /// Waits until as many sessions are left as expected, on every thread that counts them.
    #[track_caller]
    pub(crate) fn wait_for_sessions(&self, expected: usize) {
        self.wait_for_sessions_at_most(PATIENCE, expected);
    }

    #[track_caller]
    pub(crate) fn wait_for_sessions_at_most(&self, limit: Duration, expected: usize) {
        wait_for_at_most(limit, &format!("{expected} sessions"), || {
            let stats = self.stats();
            let on_network: usize = stats.network.iter().map(|thread| thread.transports).sum();
            let is_so = stats.sessions == expected && on_network == expected;
            if is_so { Ok(()) } else { Err(stats) }
        });
    }

    /// Waits until a room is as expected.
    #[track_caller]
    pub(crate) fn wait_for_room(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Room) -> bool,
    ) -> Room {
        wait_for(what, || match self.room(name) {
            Some(room) if is_so(&room) => Ok(room),
            other => Err(other),
        })
    }

    /// Asks the server to end, as Ctrl+C does, and insists that it does so in good order.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.interrupt();
        let start = Instant::now();
        let status = wait_for("the server ends", || {
            match self.process.try_wait().unwrap() {
                Some(status) => Ok(status),
                None => Err(start.elapsed()),
            }
        });
        assert!(status.success(), "the server ended with {status}");
    }

    fn interrupt(&self) {
        // Fails only when the process has ended by itself, which its status will tell.
        let _ = kill_process(Pid::from_child(&self.process), Signal::INT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let output = self
                .output
                .lock()
                .unwrap_or_else(|poison| poison.into_inner());
            eprintln!("--- the server said ---\n{}", output.join("\n"));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps what a process says, and hands each line on.
pub(super) fn collect(
    from: impl Read + Send + 'static,
    output: &Arc<Mutex<Vec<String>>>,
    mut each_line: impl FnMut(&str) + Send + 'static,
) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            each_line(&line);
            output.lock().unwrap().push(line);
        }
    });
}

fn http_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| c == '/' || c.is_whitespace());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}
