//! The accept loop: connections, their limits, and their end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Tls;

/// How long to wait when the system has no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Options of [`serve`].
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Connections that may be open at a time; further ones wait to be accepted.
    pub max_connections: usize,
    /// A connection that has not sent a request's headers, or finished its TLS handshake, after this
    /// time is closed; an idle one too.
    pub header_timeout: Duration,
    /// How long requests under way may take to end, once the server is told to.
    pub grace: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 512,
            header_timeout: Duration::from_secs(15),
            grace: Duration::from_secs(2),
        }
    }
}

/// Serves connections until `end` completes, then lets requests that are under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    options: ServerOptions,
    end: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(options.max_connections));
    let graceful = GracefulShutdown::new();
    let mut end = pin!(end);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = Connection {
                    router: router.clone(),
                    watcher: graceful.watcher(),
                    header_timeout: options.header_timeout,
                    permit,
                };
                tokio::spawn(connection.serve(stream, tls.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = tokio::time::timeout(options.grace, graceful.shutdown()).await;
    if ended.is_err() {
        tracing::info!("requests that did not end in time were cut off");
    }
}

/// One connection, with what it takes to serve it.
struct Connection {
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
    header_timeout: Duration,
    /// Held as long as the connection lives.
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<Tls>) {
        // Answers are short, and waited for.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.serve_http(stream).await;
        };
        match tokio::time::timeout(self.header_timeout, tls.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.serve_http(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn serve_http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended badly");
        }
        drop(self.permit);
    }
}
