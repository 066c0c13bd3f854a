//! A page in a browser, and what a person or a debugger can do to it.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cdp::{Connection, exception_text};
use super::machine::scratch_path;
use super::wait::wait_for;

/// One tab. When its test fails, it tells what its console said and takes a picture.
#[derive(Debug)]
pub(crate) struct Tab {
    connection: Arc<Connection>,
    session: String,
    target: String,
    url: String,
}

impl Tab {
    #[track_caller]
    pub(super) fn open(connection: Arc<Connection>, url: &str) -> Self {
        let browser = |method, params| connection.call(None, method, &params).unwrap();
        let context = browser("Target.createBrowserContext", json!({}));
        let target = browser(
            "Target.createTarget",
            json!({
                "url": "about:blank",
                "browserContextId": context["browserContextId"],
                "newWindow": true,
            }),
        );
        let target = target["targetId"].as_str().unwrap().to_owned();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = browser("Target.attachToTarget", attach);
        let session = session["sessionId"].as_str().unwrap().to_owned();
        let tab = Self {
            connection,
            session,
            target,
            url: url.to_owned(),
        };
        for domain in ["Inspector", "Log", "Page", "Runtime"] {
            tab.call(&format!("{domain}.enable"), &json!({})).unwrap();
        }
        tab.go(url);
        tab
    }

    /// Loads a page, and waits until it and its scripts are there.
    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        let navigation = self.call("Page.navigate", &json!({ "url": url })).unwrap();
        assert_eq!(Value::Null, navigation["errorText"], "{url}: {navigation}");
        wait_for(&format!("{url} is loaded"), || {
            let state =
                self.try_evaluate::<(String, String)>("[document.readyState, document.URL]");
            match state {
                Ok((state, here)) if state == "complete" && here != "about:blank" => Ok(()),
                other => Err(other),
            }
        });
    }

    /// What an expression comes to, once the promise it may be has settled.
    #[track_caller]
    pub(crate) fn evaluate<T: DeserializeOwned>(&self, expression: &str) -> T {
        match self.try_evaluate(expression) {
            Ok(value) => value,
            Err(error) => panic!("{expression}: {error}"),
        }
    }

    fn try_evaluate<T: DeserializeOwned>(&self, expression: &str) -> Result<T, String> {
        let params = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let outcome = self.call("Runtime.evaluate", &params)?;
        if outcome["exceptionDetails"] != Value::Null {
            return Err(exception_text(&outcome["exceptionDetails"]));
        }
        let value = &outcome["result"]["value"];
        T::deserialize(value).map_err(|error| format!("{error} in {outcome}"))
    }

    /// Evaluates again and again until the value is as wanted, and returns it.
    #[track_caller]
    pub(crate) fn wait_for<T: DeserializeOwned + Debug>(
        &self,
        what: &str,
        expression: &str,
        is_so: impl Fn(&T) -> bool,
    ) -> T {
        wait_for(what, || match self.try_evaluate::<T>(expression) {
            Ok(value) if is_so(&value) => Ok(value),
            other => Err(other),
        })
    }

    /// Clicks on an element of the page, which must be there and be enabled.
    #[track_caller]
    pub(crate) fn click(&self, test_id: &str) {
        let element = by_test_id(test_id);
        let shown = format!("Boolean({element}?.checkVisibility() && !{element}.disabled)");
        self.wait_for(&format!("{test_id} can be clicked"), &shown, |shown| *shown);
        self.evaluate::<()>(&format!("void {element}.click()"));
    }

    /// Types into a field, replacing what was there.
    #[track_caller]
    pub(crate) fn fill(&self, test_id: &str, text: &str) {
        let element = by_test_id(test_id);
        self.evaluate::<()>(&format!("void ({element}.focus(), {element}.select())"));
        let params = json!({ "text": text });
        self.call("Input.insertText", &params).unwrap();
        let value: String = self.evaluate(&format!("{element}.value"));
        assert_eq!(text, value);
    }

    /// Ends the tab's renderer process as a fault of its would: nothing of the page runs after that.
    #[track_caller]
    pub(crate) fn crash(&self) {
        self.connection
            .tell(Some(&self.session), "Page.crash")
            .unwrap();
        wait_for("the tab has crashed", || {
            if self.connection.has_crashed(&self.session) {
                Ok(())
            } else {
                Err("it still runs")
            }
        });
    }

    /// Closes the tab as a person does.
    pub(crate) fn close(self) {
        let params = json!({ "targetId": self.target });
        self.connection
            .call(None, "Target.closeTarget", &params)
            .unwrap();
    }

    /// Takes a picture of the page and says where it is.
    pub(crate) fn picture(&self, name: &str) -> Result<PathBuf, String> {
        let picture = self.call("Page.captureScreenshot", &json!({ "format": "png" }))?;
        let encoded = picture["data"].as_str().ok_or("no data")?;
        let path = scratch_path(name).with_extension("png");
        fs::write(&path, decode_base64(encoded)).map_err(|error| error.to_string())?;
        Ok(path)
    }

    fn call(&self, method: &str, params: &Value) -> Result<Value, String> {
        self.connection.call(Some(&self.session), method, params)
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let console = self.connection.console(&self.session).join("\n");
        eprintln!("--- console of {} ---\n{console}", self.url);
        if !self.connection.has_crashed(&self.session) {
            eprintln!("--- picture: {:?} ---", self.picture("failure"));
        }
    }
}

fn by_test_id(test_id: &str) -> String {
    format!("document.querySelector('[data-testid=\"{test_id}\"]')")
}

fn decode_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0_u32;
    let mut count = 0;
    for digit in text
        .bytes()
        .filter_map(|c| ALPHABET.iter().position(|a| *a == c))
    {
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
