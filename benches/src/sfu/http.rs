//! HTTP as plain as it gets: one request, one connection, one response in one piece, as HTTP/1.0 has
//! it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than Janus lets who asks for events wait.
const PATIENCE: Duration = Duration::from_secs(40);

/// The body of the response, if it is one of success.
pub(crate) fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> Result<String, String> {
    let exchange = || {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {server}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut received = String::new();
        stream.read_to_string(&mut received)?;
        Ok::<_, std::io::Error>(received)
    };
    let received = exchange().map_err(|error| format!("{method} {path}: {error}"))?;
    let parts = received.split_once("\r\n\r\n");
    let (head, body) = parts.ok_or_else(|| format!("{method} {path}: no HTTP"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        Ok(body.to_owned())
    } else {
        Err(format!("{method} {path}: {status}: {body}"))
    }
}
