//! A small local server that plays the hub, and another that plays the storage which the hub redirects to. Knows what
//! the hub's programmers' interface says, not how emoflow asks.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use emoflow::plan::key::Digest;
use sha1::Digest as _;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model repository and one dataset repository, `tests/stories`.
pub struct Hub {
    pub url: String,
    state: Arc<Mutex<State>>,
}

/// What it has, and how it misbehaves.
#[derive(Clone, Default)]
pub struct State {
    /// The repository's name; empty: `tests/tiny`.
    pub repo: String,
    pub files: BTreeMap<String, Vec<u8>>,
    /// The commit of `main`.
    pub commit: String,
    /// The files of the dataset repository, by the commits of its branches.
    pub data: BTreeMap<&'static str, (String, BTreeMap<String, Vec<u8>>)>,
    /// Only who shows it may read files.
    pub token: Option<String>,
    /// The code of a refusal of everything: `RepoNotFound` or `RevisionNotFound`.
    pub missing: Option<&'static str>,
    /// Terms that this token's account has not accepted.
    pub gated: bool,
    /// The listing has names only, as without `?blobs=true`.
    pub names_only: bool,
    /// The listing's size of the weights.
    pub listed_size: Option<u64>,
    /// Statuses of the next answers of the hub, each with `Retry-After: 0`.
    pub statuses: VecDeque<u16>,
    /// Storage's next answers end after so many bytes.
    pub cuts: VecDeque<usize>,
    /// Storage does not know ranges.
    pub no_ranges: bool,
    /// Storage changes this byte.
    pub damage: Option<usize>,
    /// Storage has only so many bytes of a file.
    pub offered: Option<usize>,
    /// The hub gives other bytes of this file, as many.
    pub swapped: Option<&'static str>,
    /// The repository has another name now, to which the hub redirects.
    pub renamed: bool,
    /// Large files are in Xet storage, and small ones behind a relative redirect: headers and listing as the hub has them.
    pub xet: bool,
    /// A mirror: the listing has names only, and this makes a file's headers.
    pub mirror: Option<fn(&[u8]) -> String>,
    storage: String,
    asked: Vec<Asked>,
    connections: usize,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub storage: bool,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

impl Hub {
    /// With the files of a folder of `tests/fixtures`.
    pub fn start(fixture: &str) -> Hub {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        }
        let others = ["pytorch_model.bin", "consolidated.00.safetensors", "original/model.safetensors"];
        let others = others.into_iter().chain(["model.gguf", "onnx/model.onnx", "README.md"]);
        files.extend(others.map(|name| (name.to_string(), b"not to be fetched".to_vec())));
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (hub_url, storage_url) = (url(&hub), url(&storage));
        let state = State { files, commit: COMMIT.to_string(), storage: storage_url, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || answer(stream, is_storage, &state));
                }
            });
        }
        Hub { url: hub_url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    /// Names of the files that were asked for since the last call, each as often as it was.
    pub fn fetched(&self) -> Vec<String> {
        let files = self.asked().into_iter().filter(|asked| !asked.storage);
        files.filter_map(|a| Some(a.path.split_once("/resolve/")?.1.split_once('/')?.1.to_string())).collect()
    }

    /// Connections since the last call.
    pub fn connections(&self) -> usize {
        std::mem::take(&mut self.state().connections)
    }
}

/// The name that git has for a file.
pub fn git_name(content: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex::encode(hasher.finalize())
}

pub fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".parquet")
}

fn listing(state: &State, commit: &str, files: &BTreeMap<String, Vec<u8>>) -> String {
    let siblings = files.iter().map(|(name, content)| {
        let (size, git) = (content.len() as u64, git_name(content));
        let size = state.listed_size.filter(|_| name == "model.safetensors").unwrap_or(size);
        let xet = if state.xet {
            r#", "xetHash": "0af7"#.to_string() + &"c".repeat(60) + "\""
        } else {
            String::new()
        };
        let lfs = format!(
            r#", "lfs": {{"sha256": "{}", "size": {size}, "pointerSize": 134}}{xet}"#,
            Digest::of(content)
        );
        match (state.names_only || state.mirror.is_some(), is_large(name)) {
            (true, _) => format!(r#"{{"rfilename": "{name}"}}"#),
            (_, large) => {
                let lfs = if large { lfs } else { String::new() };
                format!(r#"{{"rfilename": "{name}", "blobId": "{git}", "size": {size}{lfs}}}"#)
            }
        }
    });
    let siblings: Vec<String> = siblings.collect();
    format!(r#"{{"id": "tests/tiny", "sha": "{commit}", "siblings": [{}]}}"#, siblings.join(", "))
}

/// Reads one request and answers it; the connection ends.
fn answer(stream: TcpStream, storage: bool, shared: &Mutex<State>) {
    shared.lock().unwrap().connections += 1;
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let line = headers.iter().find(|h| h.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let asked =
        Asked { path: path.clone(), storage, range: header("range"), authorization: header("authorization") };
    let mut state = shared.lock().unwrap();
    state.asked.push(asked.clone());
    let mut reply = if storage { from_storage(&mut state, &asked) } else { from_hub(&mut state, &asked) };
    drop(state);
    let length = reply.body.len();
    if let Some(cut) = reply.cut {
        reply.body.truncate(cut);
    }
    if request.starts_with("HEAD ") {
        reply.body.clear();
    }
    let head = format!(
        "HTTP/1.1 {} X\r\ncontent-length: {length}\r\nconnection: close\r\n{}\r\n",
        reply.status, reply.headers
    );
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&reply.body));
}

#[derive(Default)]
struct Reply {
    status: u16,
    /// Each ends in a line feed.
    headers: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

fn from_hub(state: &mut State, asked: &Asked) -> Reply {
    let refuse = |status, code: &str, message: &str| Reply {
        status,
        headers: format!("x-error-code: {code}\r\nx-error-message: {message}\r\n"),
        ..Reply::default()
    };
    if let Some(status) = state.statuses.pop_front() {
        return Reply { status, headers: "retry-after: 0\r\n".to_string(), ..Reply::default() };
    }
    let token = asked.authorization.as_ref().and_then(|a| a.strip_prefix("Bearer "));
    let known = token.is_none() || state.token.as_deref() == token;
    match state.missing {
        _ if !known => return refuse(401, "", "Invalid credentials in Authorization header"),
        // The hub does not tell strangers which repositories there are.
        Some("RepoNotFound") if token.is_none() => {
            return refuse(401, "RepoNotFound", "Repository not found");
        }
        Some(code) => return refuse(404, code, "Not found"),
        None => {}
    }
    let name = match state.repo.as_str() {
        "" if state.renamed => "tests/other",
        "" => "tests/tiny",
        repo => repo,
    };
    if state.renamed && asked.path.contains("tests/tiny") {
        let location = asked.path.replace("tests/tiny", name);
        return Reply { status: 307, headers: format!("location: {location}\r\n"), ..Reply::default() };
    }
    let revisions = ["main", "refs%2Fpr%2F1", &state.commit];
    if revisions.iter().any(|r| asked.path == format!("/api/models/{name}/revision/{r}?blobs=true")) {
        let body = listing(state, &state.commit, &state.files).into_bytes();
        return Reply { status: 200, body, ..Reply::default() };
    }
    for (branch, (commit, files)) in &state.data {
        let is_asked = |r: &str| asked.path == format!("/api/datasets/tests/stories/revision/{r}?blobs=true");
        if is_asked(&branch.replace('/', "%2F")) || is_asked(commit) {
            let body = listing(state, commit, files).into_bytes();
            return Reply { status: 200, body, ..Reply::default() };
        }
    }
    let path = decoded(asked.path.strip_prefix("/api/resolve-cache/models").unwrap_or(&asked.path));
    let at = |resolve: String, files| find(path.strip_prefix(&resolve)?, files);
    let model = || at(format!("/{name}/resolve/{}/", state.commit), &state.files);
    let mut data = state.data.values();
    let data = || data.find_map(|(c, files)| at(format!("/datasets/tests/stories/resolve/{c}/"), files));
    let Some((file, content)) = model().or_else(data) else {
        return refuse(404, "EntryNotFound", "Entry not found");
    };
    if state.token.is_some() && token.is_none() {
        return refuse(401, "GatedRepo", "Access to model tests/tiny is restricted");
    }
    if state.gated {
        return refuse(403, "GatedRepo", "Access to model tests/tiny is restricted");
    }
    if let Some(headers) = state.mirror {
        return Reply { status: 200, headers: headers(content), body: content.clone(), ..Reply::default() };
    }
    if state.xet && !is_large(file) && !asked.path.starts_with("/api/resolve-cache/") {
        let (to, size, tag) =
            (format!("/api/resolve-cache/models{}", asked.path), content.len(), git_name(content));
        let headers = format!("location: {to}\r\nx-linked-size: {size}\r\nx-linked-etag: \"{tag}\"\r\n");
        return Reply { status: 307, headers, ..Reply::default() };
    }
    if !is_large(file) {
        let headers = format!("etag: \"{}\"\r\n", git_name(content));
        let swapped = state.swapped == Some(file.as_str());
        let body = if swapped { vec![b' '; content.len()] } else { content.clone() };
        return Reply { status: 200, headers, body, ..Reply::default() };
    }
    let (digest, size) = (Digest::of(content), content.len());
    let headers = format!(
        "location: {}/{digest}?signature=1\r\nx-linked-etag: \"{digest}\"\r\nx-linked-size: {size}\r\netag: \"other\"\r\n",
        state.storage
    );
    let xet = format!(
        "x-xet-hash: 0af7{}\r\nlink: <{}/api/models/{name}/xet-read-token/{}>; rel=\"xet-auth\", \
         <https://cas-server.xethub.hf.co/v1/reconstructions/0af7>; rel=\"xet-reconstruction-info\"\r\n\
         vary: Origin, Accept\r\naccept-ranges: bytes\r\n",
        "c".repeat(60),
        state.storage,
        state.commit
    );
    let headers = if state.xet { headers + &xet } else { headers };
    Reply { status: 302, headers, body: b"elsewhere".to_vec(), ..Reply::default() }
}

fn find<'a>(name: &str, files: &'a BTreeMap<String, Vec<u8>>) -> Option<(&'a String, &'a Vec<u8>)> {
    files.get_key_value(name)
}

/// `%20` and the like as what they stand for.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        text.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        text.push_str(&part[2..]);
    }
    text
}

fn from_storage(state: &mut State, asked: &Asked) -> Reply {
    let name = asked.path.trim_start_matches('/').split('?').next().unwrap_or_default();
    let mut all = state.files.values().chain(state.data.values().flat_map(|(_, files)| files.values()));
    let Some(mut content) = all.find(|content| Digest::of(content).to_string() == name).cloned() else {
        return Reply { status: 404, ..Reply::default() };
    };
    if let Some(at) = state.damage {
        content[at] ^= 1;
    }
    content.truncate(state.offered.unwrap_or(usize::MAX));
    let from =
        asked.range.as_ref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let cut = state.cuts.pop_front();
    match from.filter(|_| !state.no_ranges) {
        Some(from) if from >= content.len() => Reply { status: 416, ..Reply::default() },
        Some(from) => {
            let (last, all) = (content.len() - 1, content.len());
            let headers = format!("content-range: bytes {from}-{last}/{all}\r\n");
            Reply { status: 206, headers, body: content.split_off(from), cut }
        }
        None => Reply { status: 200, body: content, cut, ..Reply::default() },
    }
}
