//! The Chrome DevTools Protocol over the browser's own pipe.
//!
//! A pipe rather than a WebSocket: there is no port to find out, and the browser ends by itself when
//! the process of the tests does, however that ends.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

use super::wait::PATIENCE;

/// The connection to one browser, shared by its tabs.
#[derive(Debug)]
pub(crate) struct Connection {
    to_browser: Mutex<Outgoing>,
    shared: Arc<Mutex<Incoming>>,
}

#[derive(Debug)]
struct Outgoing {
    pipe: ChildStdin,
    last_id: u64,
}

/// What the reading thread deals out.
#[derive(Debug, Default)]
struct Incoming {
    /// Who waits for the answer to which command.
    waiting: HashMap<u64, Sender<Result<Value, String>>>,
    /// What each session's page said and suffered.
    console: HashMap<String, Vec<String>>,
    crashed: Vec<String>,
    gone: bool,
}

impl Connection {
    pub(crate) fn new(to_browser: ChildStdin, from_browser: ChildStdout) -> Self {
        let shared = Arc::<Mutex<Incoming>>::default();
        let incoming = Arc::clone(&shared);
        thread::spawn(move || {
            for message in BufReader::new(from_browser).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                lock(&incoming).take_in(message);
            }
            lock(&incoming).end();
        });
        let outgoing = Outgoing {
            pipe: to_browser,
            last_id: 0,
        };
        Self {
            to_browser: Mutex::new(outgoing),
            shared,
        }
    }

    /// Sends a command, to a tab's session or to the browser itself, and waits for the answer.
    pub(crate) fn call(
        &self,
        session: Option<&str>,
        method: &str,
        params: &Value,
    ) -> Result<Value, String> {
        let (answer, answered) = mpsc::channel();
        self.send(session, method, params, answer)?;
        match answered.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer to {method} {params}")),
            Err(RecvTimeoutError::Disconnected) => Err("the browser has gone".to_owned()),
        }
    }

    /// Sends a command to which there may be no answer.
    pub(crate) fn tell(&self, session: Option<&str>, method: &str) -> Result<(), String> {
        let (answer, _) = mpsc::channel();
        self.send(session, method, &json!({}), answer)
    }

    fn send(
        &self,
        session: Option<&str>,
        method: &str,
        params: &Value,
        answer: Sender<Result<Value, String>>,
    ) -> Result<(), String> {
        let mut outgoing = lock(&self.to_browser);
        outgoing.last_id += 1;
        let id = outgoing.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut incoming = lock(&self.shared);
        if incoming.gone {
            return Err("the browser has gone".to_owned());
        }
        incoming.waiting.insert(id, answer);
        drop(incoming);
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let written = outgoing.pipe.write_all(&bytes);
        written.map_err(|error| format!("the browser does not listen: {error}"))
    }

    /// What a tab has written to its console, errors included.
    pub(crate) fn console(&self, session: &str) -> Vec<String> {
        let incoming = lock(&self.shared);
        incoming.console.get(session).cloned().unwrap_or_default()
    }

    pub(crate) fn has_crashed(&self, session: &str) -> bool {
        lock(&self.shared).crashed.iter().any(|one| one == session)
    }
}

impl Incoming {
    fn take_in(&mut self, mut message: Value) {
        if let Some(id) = message["id"].as_u64() {
            let Some(answer) = self.waiting.remove(&id) else {
                return;
            };
            let outcome = match message["error"].take() {
                Value::Null => Ok(message["result"].take()),
                error => Err(error.to_string()),
            };
            // Whoever gave up waiting does not mind.
            let _ = answer.send(outcome);
            return;
        }
        let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
        let params = &message["params"];
        let line = match message["method"].as_str() {
            Some("Inspector.targetCrashed") => return self.crashed.push(session),
            Some("Runtime.consoleAPICalled") => {
                let words = params["args"].as_array().into_iter().flatten().map(plain);
                let words = words.collect::<Vec<_>>().join(" ");
                format!("{}: {words}", params["type"].as_str().unwrap_or("?"))
            }
            Some("Runtime.exceptionThrown") => exception_text(&params["exceptionDetails"]),
            Some("Log.entryAdded") => {
                let entry = &params["entry"];
                format!("{}: {} {}", entry["level"], entry["text"], entry["url"])
            }
            _ => return,
        };
        self.console.entry(session).or_default().push(line);
    }

    fn end(&mut self) {
        self.gone = true;
        self.waiting.clear();
    }
}

/// What went wrong in a script, with its stack.
pub(crate) fn exception_text(details: &Value) -> String {
    let described = details["exception"]["description"].as_str();
    match described {
        Some(text) => text.to_owned(),
        None => format!("{} {}", details["text"], details["exception"]["value"]),
    }
}

fn plain(argument: &Value) -> String {
    let value = match &argument["value"] {
        Value::Null => &argument["description"],
        value => value,
    };
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A panic of one test thread does not take its diagnosis away.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}
