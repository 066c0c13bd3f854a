//! The page, as it is built into the program.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::routing::get;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Every file of `page/`: path, type, content.
macro_rules! files {
    ($($path:literal $kind:ident $file:literal),* $(,)?) => {
        &[$(($path, $kind, include_str!(concat!("../../page/", $file)))),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: &[(&str, &str, &str)] = files! {
    "/" HTML "index.html",
    "/style.css" CSS "style.css",
    "/app.js" SCRIPT "app.js",
    "/charts.js" SCRIPT "charts.js",
    "/codecs.js" SCRIPT "codecs.js",
    "/dock.js" SCRIPT "dock.js",
    "/echo.js" SCRIPT "echo.js",
    "/levels.js" SCRIPT "levels.js",
    "/lobby.js" SCRIPT "lobby.js",
    "/media.js" SCRIPT "media.js",
    "/notices.js" SCRIPT "notices.js",
    "/problems.js" SCRIPT "problems.js",
    "/room.js" SCRIPT "room.js",
    "/server-line.js" SCRIPT "server-line.js",
    "/session.js" SCRIPT "session.js",
    "/settings.js" SCRIPT "settings.js",
    "/signaling.js" SCRIPT "signaling.js",
    "/stats.js" SCRIPT "stats.js",
    "/tile.js" SCRIPT "tile.js",
    "/viewer.js" SCRIPT "viewer.js",
};

/// Routes for every file of the page. Nothing is loaded from elsewhere, and nothing may be.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, content)| {
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static(kind)),
                (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
                (
                    CONTENT_SECURITY_POLICY,
                    HeaderValue::from_static("default-src 'self'; img-src 'self' data:"),
                ),
                (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
                (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
                (
                    PERMISSIONS_POLICY,
                    HeaderValue::from_static("camera=(self), microphone=(self)"),
                ),
            ];
            router.route(path, get(move || std::future::ready((headers, *content))))
        })
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let mut on_disk: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| format!("/{}", if name == "index.html" { "" } else { &name }))
            .collect();
        let mut served: Vec<_> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
        on_disk.sort();
        served.sort();
        assert_eq!(on_disk, served);
    }
}
