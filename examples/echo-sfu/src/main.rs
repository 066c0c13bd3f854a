//! The SFU as a program: command line, logs, HTTP, and a clean end.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use echo_sfu::cli::Cli;
use echo_sfu::http::{RouteOptions, ServerOptions, Tls, routes, serve};
use echo_sfu::{PipeSecret, PipeSecretTooShort, Sfu, Signaling};
use thiserror::Error;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// Why the program ends with an error.
#[derive(Debug, Error)]
enum Failure {
    #[error("--log: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    #[error("cannot start the SFU")]
    Sfu(#[from] echo_sfu::StartError),
    #[error("cannot start the HTTP runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot serve HTTP on {0}; is another program using it? --http chooses another")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error("cannot serve HTTPS")]
    Tls(#[from] echo_sfu::http::TlsError),
    #[error("cannot read the secret for pipes")]
    Secret(#[source] std::io::Error),
    #[error("--pipe-secret-file")]
    ShortSecret(#[from] PipeSecretTooShort),
    #[error("a thread of the SFU did not end well")]
    End(#[from] rtc_thread::JoinError),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.check() {
        error.exit();
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut line = format!("error: {failure}");
            let mut cause = failure.source();
            while let Some(error) = cause {
                line.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&cli.log)?)
        .with_thread_names(true)
        .with_writer(std::io::stderr)
        .init();
    let tls = match (&cli.tls_cert, &cli.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::from_files(certificate, key)?),
        _ if cli.tls_self_signed => {
            let mut addresses = cli.announce.clone();
            addresses.extend(echo_sfu::local_addresses());
            Some(Tls::self_signed(&addresses)?)
        }
        _ => None,
    };
    let mut options = cli.sfu_options();
    if let Some(file) = &cli.pipe_secret_file {
        options.pipe_secret = Some(read_secret(file)?);
    }
    let sfu = Sfu::start(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    if let Some(address) = sfu.pipe_address() {
        println!("Pipes on TCP {address}");
    }
    runtime.block_on(serve_http(cli, tls, sfu.signaling(), &sfu.udp_addresses()))?;
    drop(runtime);
    sfu.shutdown()?;
    println!("Ended.");
    Ok(())
}

/// Whether or not its last line ends as lines do, it is the same secret.
fn read_secret(file: &Path) -> Result<PipeSecret, Failure> {
    let bytes = std::fs::read(file).map_err(Failure::Secret)?;
    Ok(PipeSecret::new(bytes.trim_ascii_end())?)
}

async fn serve_http(
    cli: &Cli,
    tls: Option<Tls>,
    signaling: Signaling,
    udp: &[SocketAddr],
) -> Result<(), Failure> {
    let listener = TcpListener::bind(cli.http).await;
    let listener = listener.map_err(|error| Failure::Listen(cli.http, error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::Listen(cli.http, error))?;
    announce(address, tls.as_ref(), udp);
    let router = routes(
        signaling,
        &RouteOptions {
            max_body: cli.max_body.try_into().unwrap_or(usize::MAX),
            ice_servers: cli.ice_server.clone(),
        },
    );
    let options = ServerOptions {
        max_connections: cli.max_connections.try_into().unwrap_or(usize::MAX),
        ..ServerOptions::default()
    };
    serve(listener, tls, router, options, told_to_end()).await;
    Ok(())
}

/// What a person wants to know first.
fn announce(http: SocketAddr, tls: Option<&Tls>, udp: &[SocketAddr]) {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let hosts = if http.ip().is_unspecified() {
        let usable = echo_sfu::local_addresses();
        usable
            .into_iter()
            .filter(|ip| ip.is_ipv4() || http.is_ipv6())
            .collect()
    } else {
        vec![http.ip()]
    };
    for host in hosts {
        println!("Open {scheme}://{}/", SocketAddr::new(host, http.port()));
    }
    if let Some(tls) = tls {
        println!("Certificate SHA-256 {}", tls.fingerprint());
    }
    for address in udp {
        println!("Media on UDP {address}");
    }
    println!("Ctrl-C ends it.");
}

/// Completes at the first Ctrl-C or SIGTERM. A second one ends the process at once.
async fn told_to_end() {
    signalled().await;
    println!("Ending; once more to end at once.");
    tokio::spawn(async {
        signalled().await;
        std::process::exit(130);
    });
}

async fn signalled() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a signal to wait for, the program runs until it is killed.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
