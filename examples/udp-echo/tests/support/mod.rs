//! A server as a process; which one, the test that includes this file says in its `PROGRAM`.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

/// Ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    port: u16,
}

impl Server {
    pub(crate) fn command(listen: &str) -> Command {
        let mut command = Command::new(crate::PROGRAM);
        command.args(["--listen", listen]);
        command
    }

    /// Starts the program, and waits until it has said where it listens.
    #[track_caller]
    pub(crate) fn start(listen: &str) -> Self {
        let mut process = Self::command(listen)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next().map(Result::unwrap).unwrap_or_default();
        let address: Option<SocketAddr> = line.split(' ').next_back().and_then(|a| a.parse().ok());
        let Some(address) = address else {
            let ended = process.kill().and_then(|()| process.wait());
            panic!("the server said {line:?}; {ended:?}");
        };
        Self {
            process,
            port: address.port(),
        }
    }

    /// The server, by one of the addresses that it listens on.
    pub(crate) fn at(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
