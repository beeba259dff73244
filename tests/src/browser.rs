//! A headless Chromium with SwiftShader, and the pages and files that are served to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;

use crate::python::generated;
use crate::report::{say, skipped};

/// The programs that Chromium goes by.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// How long a page may be silent.
const LONGEST: Duration = Duration::from_secs(100);
/// Folders of the workspace that are served.
const FOLDERS: [&str; 3] = ["runtime/web", "tests/web", "sample"];

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The browser: `EDGECC_CHROMIUM`, or one of the usual names. `None`, after a visible line, where there is none.
pub fn browser() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let named = std::env::var("EDGECC_CHROMIUM").ok();
        let names = named.iter().map(String::as_str).chain(NAMES);
        let version = |name: &str| {
            let output = Command::new(name).arg("--version").stderr(Stdio::null()).output().ok()?;
            Some((name.to_string(), String::from_utf8_lossy(&output.stdout).trim().to_string()))
        };
        let Some((name, version)) = names.filter_map(version).next() else {
            skipped("no Chromium for models in the browser (tests/setup/setup.sh installs it)");
            return None;
        };
        say(&format!("pages run in {version}"));
        Some(name)
    };
    FOUND.get_or_init(find).as_deref()
}

/// Opens `tests/web/harness.html` with a list of tasks, serves it the files as `/served/NAME`, and gives what it posts.
pub fn run(browser: &str, name: &str, tasks: &Value, served: Files) -> Files {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, posted) = mpsc::channel();
    let served = Arc::new(served);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (served, sender) = (Arc::clone(&served), sender.clone());
            // A browser that goes away in the middle of an answer misses nothing.
            std::thread::spawn(move || _ = answer(stream, &served, &sender));
        }
    });
    let hash: String = tasks.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let _running = start(browser, name, &format!("http://127.0.0.1:{port}/tests/web/harness.html#{hash}"));
    collect(&posted)
}

/// A browser that ends with the test that started it.
struct Running {
    child: Child,
    profile: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, and its helpers may still write.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// What a page posts up to its end, which must be a good one.
fn collect(posted: &Receiver<(String, Vec<u8>)>) -> Files {
    let mut reports = Files::new();
    loop {
        let Ok((name, body)) = posted.recv_timeout(LONGEST) else {
            panic!("the page posts nothing for {LONGEST:?} behind {:?}", reports.keys())
        };
        if name == "end" {
            assert!(body.is_empty(), "the page fails: {}", String::from_utf8_lossy(&body));
            return reports;
        }
        reports.insert(name, body);
    }
}

fn start(browser: &str, name: &str, address: &str) -> Running {
    let profile = generated("browser").join(format!("{name}-{}", std::process::id()));
    let flags = [
        "--headless=new",
        "--no-sandbox",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
    ];
    let child = Command::new(browser)
        .args(flags)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(address)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running { child: child.expect("the browser starts"), profile }
}

/// Answers one request.
fn answer(stream: TcpStream, served: &Files, posted: &Sender<(String, Vec<u8>)>) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("").to_string();
    let length = content_length(&mut reader)?;
    if let Some(name) = path.strip_prefix("/report/").filter(|_| method == "POST") {
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        respond(&stream, "204 No Content", "text/plain", &[])?;
        let _ = posted.send((name.into(), body));
        return Ok(());
    }
    let found = match path.strip_prefix("/served/") {
        Some(name) => served.get(name).cloned(),
        None => file(&path),
    };
    match found {
        Some(body) => respond(&stream, "200 OK", content_type(&path), &body),
        None => respond(&stream, "404 Not Found", "text/plain", &[]),
    }
}

fn content_length(reader: &mut impl BufRead) -> std::io::Result<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(length);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
}

/// A file of the folders that are served.
fn file(path: &str) -> Option<Vec<u8>> {
    let path = Path::new(path.strip_prefix('/')?);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let is_served = is_plain && FOLDERS.iter().any(|folder| path.starts_with(folder));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read(workspace.join(path)).ok().filter(|_| is_served)
}

fn content_type(path: &str) -> &'static str {
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

fn respond(mut stream: &TcpStream, status: &str, content_type: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}
