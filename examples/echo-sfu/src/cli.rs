//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgGroup, Parser};

use crate::SfuOptions;

/// An SFU: browsers and WHIP/WHEP clients send their camera, and see themselves and each other.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    max_term_width = 100,
    group = ArgGroup::new("certificate").args(["tls_cert", "tls_self_signed"]),
    after_help = "Examples:\n  \
        echo-sfu                                        for a browser on this machine\n  \
        echo-sfu --http 0.0.0.0:8443 --tls-self-signed  for browsers across a LAN\n  \
        echo-sfu --announce 203.0.113.7 --udp-port 3478 behind a NAT that forwards the port"
)]
pub struct Cli {
    /// Where to serve the page and the API over HTTP. Port 0 takes a free one.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080",
        help_heading = "HTTP"
    )]
    pub http: SocketAddr,

    /// Serve HTTPS with this certificate chain (PEM). Needs --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "HTTP")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert (PEM).
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "HTTP"
    )]
    pub tls_key: Option<PathBuf>,

    /// Serve HTTPS with a certificate made at every start, for use across a LAN. Browsers give out
    /// the camera to HTTPS pages and to this machine only; they will warn of the certificate.
    #[arg(long, help_heading = "HTTP")]
    pub tls_self_signed: bool,

    /// Tell clients of this STUN server (a stun: or stuns: URI). Can be given several times.
    #[arg(long, value_name = "URI", value_parser = ice_server, help_heading = "HTTP")]
    pub ice_server: Vec<String>,

    /// The address to open UDP ports on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), help_heading = "Media")]
    pub udp_bind: IpAddr,

    /// The UDP port of the first network thread; each further thread takes the next. 0 takes any.
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 50_000,
        help_heading = "Media"
    )]
    pub udp_port: u16,

    /// Give each network thread whichever UDP port is free from --udp-port to this one, instead of the
    /// next.
    #[arg(long, value_name = "PORT", help_heading = "Media")]
    pub udp_last_port: Option<u16>,

    /// Tell clients to send media to this address. Can be given several times. By default: the
    /// loopback address and this machine's own. Needed behind a NAT, or if --udp-bind is not enough.
    #[arg(long, value_name = "IP", value_parser = announced, help_heading = "Media")]
    pub announce: Vec<IpAddr>,

    /// Threads that decide who is sent what. Rooms are spread over them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Media")]
    pub workers: u16,

    /// Threads that move packets, each with a UDP port of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Media")]
    pub network_threads: u16,

    /// Take plain RTP, too, as ffmpeg and GStreamer send it: POST /rtp/{room}. Nothing about it is
    /// authenticated: it is for networks on which everybody may send and be sent media.
    #[arg(long, help_heading = "Media")]
    pub plain_rtp: bool,

    /// Let other servers pipe to this one: what they publish is in the rooms here. Reachable as it is,
    /// without a NAT in between.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        requires = "pipe_secret_file",
        help_heading = "Pipes"
    )]
    pub pipe_listen: Option<SocketAddr>,

    /// Pipe everything that is published here to this server. Can be given several times.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        requires = "pipe_secret_file",
        help_heading = "Pipes"
    )]
    pub pipe_to: Vec<SocketAddr>,

    /// A file of at least 16 bytes that both servers have, and nobody else. "openssl rand -hex 32"
    /// makes one.
    #[arg(long, value_name = "FILE", help_heading = "Pipes")]
    pub pipe_secret_file: Option<PathBuf>,

    /// Sessions at a time. One more is answered 503.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_sessions: u32,

    /// Rooms at a time. One more is answered 503.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_rooms: u32,

    /// The longest request body, in bytes. A longer one is answered 413.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1_024..), help_heading = "Limits")]
    pub max_body: u32,

    /// HTTP connections at a time. Further ones wait to be accepted.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Limits")]
    pub max_connections: u32,

    /// What to log, to standard error: error, warn, info, debug or trace, for all or for modules, as
    /// in "info,echo_sfu=debug". At debug, every session is followed from thread to thread.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Logs"
    )]
    pub log: String,
}

impl Cli {
    /// Checks what concerns several options at once.
    ///
    /// # Errors
    ///
    /// A usage error, to be shown as clap shows its own.
    pub fn check(&self) -> Result<(), clap::Error> {
        let (first, threads) = (self.udp_port, self.network_threads);
        let needed = u32::from(first) + u32::from(threads) - 1;
        let message = match self.udp_last_port {
            None if first != 0 && needed > u32::from(u16::MAX) => {
                format!(
                    "--udp-port {first} with --network-threads {threads} goes beyond port 65535\n"
                )
            }
            Some(last) if first == 0 || needed > u32::from(last) => format!(
                "from --udp-port {first} to --udp-last-port {last} there is no port for each of \
                 --network-threads {threads}\n"
            ),
            _ => return Ok(()),
        };
        let kind = clap::error::ErrorKind::ValueValidation;
        Err(clap::Error::raw(kind, message))
    }

    /// What concerns the SFU itself, but for the secret, which is in a file.
    pub fn sfu_options(&self) -> SfuOptions {
        SfuOptions {
            workers: self.workers.into(),
            network_threads: self.network_threads.into(),
            udp_bind: self.udp_bind,
            udp_port: self.udp_port,
            udp_last_port: self.udp_last_port,
            announced: self.announce.clone(),
            max_sessions: self.max_sessions.try_into().unwrap_or(usize::MAX),
            max_rooms: self.max_rooms.try_into().unwrap_or(usize::MAX),
            plain_rtp: self.plain_rtp,
            pipe_listen: self.pipe_listen,
            pipe_to: self.pipe_to.clone(),
            pipe_secret: None,
        }
    }
}

fn announced(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| "not an IP address".to_owned())?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("clients cannot send to this address".to_owned());
    }
    Ok(ip)
}

fn ice_server(text: &str) -> Result<String, String> {
    let is_stun = text.starts_with("stun:") || text.starts_with("stuns:");
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"<>\"".contains(&b));
    if is_stun && is_plain && text.len() < 256 {
        Ok(text.to_owned())
    } else {
        Err("not a stun: or stuns: URI".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from([&["echo-sfu"], arguments].concat())?;
        cli.check()?;
        Ok(cli)
    }

    #[test]
    fn the_definition_is_consistent_and_the_defaults_are_valid() {
        Cli::command().debug_assert();
        let cli = parse(&[]).unwrap();
        assert_eq!("127.0.0.1:8080", cli.http.to_string());
        assert_eq!(50_000, cli.sfu_options().udp_port);
        let range = parse(&["--udp-last-port", "50000"]).unwrap();
        assert_eq!(Some(50_000), range.sfu_options().udp_last_port);
    }

    #[test]
    fn every_option_is_explained() {
        for argument in Cli::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn values_that_make_no_sense_are_usage_errors() {
        for bad in [
            &["--http", "nowhere"][..],
            &["--udp-port", "65536"],
            &["--udp-port", "65535", "--network-threads", "2"],
            &["--udp-port", "9000", "--udp-last-port", "8999"],
            &["--udp-port", "0", "--udp-last-port", "8999"],
            &["--udp-last-port", "65536"],
            &[
                "--udp-port",
                "9000",
                "--udp-last-port",
                "9001",
                "--network-threads",
                "3",
            ],
            &["--network-threads", "0"],
            &["--workers", "0"],
            &["--announce", "0.0.0.0"],
            &["--announce", "name"],
            &["--max-sessions", "0"],
            &["--max-body", "10"],
            &["--tls-cert", "cert.pem"],
            &["--tls-key", "key.pem"],
            &["--tls-cert", "c", "--tls-key", "k", "--tls-self-signed"],
            &["--pipe-to", "127.0.0.1:5100"],
            &["--pipe-listen", "127.0.0.1:5100"],
            &["--pipe-listen", "nowhere", "--pipe-secret-file", "s"],
            &["--ice-server", "http://x"],
            &["--ice-server", "stun:a\"b"],
            &["--unknown"],
        ] {
            let error = parse(bad).map(|_| bad).unwrap_err();
            assert_eq!(2, error.exit_code(), "{bad:?}");
        }
    }
}
