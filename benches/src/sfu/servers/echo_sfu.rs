//! echo-sfu, the program that cargo has built beside this one.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use super::Server;
use crate::sfu::process::Pinned;
use crate::sfu::signaling::Protocol;

const BUILD: &str = "cargo build --release -p echo-sfu";

pub(in crate::sfu) fn start(ip: IpAddr) -> Result<Server, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = this.with_file_name("echo-sfu");
    if !program.exists() {
        return Err(format!("{} is not there; {BUILD}", program.display()));
    }
    let ip = ip.to_string();
    let mut command = Command::new(&program);
    command
        .args(["--http", "127.0.0.1:0", "--udp-port", "0"])
        .args(["--udp-bind", &ip, "--announce", &ip])
        .args(["--network-threads", "1", "--max-sessions", "1000"])
        .args(["--log", "error"])
        .stdout(Stdio::piped());
    let mut process = Pinned::start(&mut command).map_err(|error| error.to_string())?;
    let output = process.0.stdout.take().ok_or("echo-sfu has no output")?;
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let http = lines.find_map(|line| http_address(&line));
    // Somebody has to take what it says.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Server {
        process,
        protocol: Protocol::Whip,
        http: http.ok_or_else(|| format!("echo-sfu does not start; {BUILD}"))?,
    })
}

fn http_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| c == '/' || c.is_whitespace());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}
