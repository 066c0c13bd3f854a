//! A page for bare connections, on another origin than the SFU: whatever works there works for any
//! WHIP or WHEP client that runs in a browser.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;

/// Where the page is. It is served for as long as the process lives.
pub(crate) fn url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A browser that hangs up in the middle is no concern of the page's.
                thread::spawn(move || drop(serve(&stream)));
            }
        });
        url
    })
}

fn serve(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, content_type, body) = match first.split(' ').nth(1) {
        Some("/") => ("200 OK", "text/html", include_str!("test_page.html")),
        Some("/test_page.js") => ("200 OK", "text/javascript", include_str!("test_page.js")),
        _ => ("404 Not Found", "text/plain", ""),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}
