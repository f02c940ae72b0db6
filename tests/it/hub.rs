//! The real program against a small local server that plays the hub.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

const EXPERIMENT: &str = r#"
layers = [0]
[models.tiny]
repo = "tests/tiny"
[emotions]
words = ["happy", "sad"]
[stories.said.template]
passages = ["Today she felt {emotion} all day."]
[activations]
from_token = 0
[analysis.similarity.cosine]
"#;

/// A hub with one repository, `tests/tiny`, that `token` opens; counts what it is asked for.
struct Hub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start(token: Option<&'static str>) -> Hub {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        }
        files.insert("pytorch_model.bin".to_string(), b"not to be fetched".to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &files, token, &log);
            }
        });
        Hub { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Reads one request and answers it; the connection ends.
fn answer(
    stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    token: Option<&str>,
    log: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let line = headers.iter().find(|h| h.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    log.lock().unwrap().push(path.clone());
    let allowed = token.is_none_or(|t| header("authorization") == Some(format!("Bearer {t}")));
    let file = path
        .strip_prefix(&format!("/tests/tiny/resolve/{COMMIT}/"))
        .and_then(|name| files.get_key_value(name));
    let (status, more, body) = if !allowed {
        ("401 Unauthorized", String::new(), Vec::new())
    } else if path == "/api/models/tests/tiny/revision/main" {
        let siblings: Vec<String> =
            files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", "));
        ("200 OK", String::new(), body.into_bytes())
    } else if let Some((name, content)) = file {
        let range = header("range").and_then(|r| {
            let (first, last) = r.strip_prefix("bytes=")?.split_once('-')?;
            let end = last.parse().map_or(content.len(), |last: usize| (last + 1).min(content.len()));
            Some(first.parse::<usize>().ok()?..end)
        });
        let range = range.unwrap_or(0..content.len());
        let more = format!(
            "x-repo-commit: {COMMIT}\r\netag: \"etag-{name}\"\r\ncontent-range: bytes {}-{}/{}\r\n",
            range.start,
            range.end - 1,
            content.len()
        );
        ("206 Partial Content", more, content[range].to_vec())
    } else {
        ("404 Not Found", String::new(), Vec::new())
    };
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n", body.len());
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
}

/// `emoflow run` on the experiment in `dir`, with the hub at `url`.
fn run(dir: &Path, url: &str, more: &[&str], environment: &[(&str, &str)]) -> Output {
    std::fs::write(dir.join("emoflow.toml"), "").unwrap();
    std::fs::write(dir.join("exp.toml"), EXPERIMENT).unwrap();
    Command::new(env!("CARGO_BIN_EXE_emoflow"))
        .args(["run", "exp.toml", "--device", "cpu", "--quiet"])
        .args(more)
        .current_dir(dir)
        .env("HF_HOME", dir.join("hf"))
        .env("HF_ENDPOINT", url)
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn a_model_is_fetched_once_and_pinned() {
    let hub = Hub::start(None);
    let dir = tempfile::tempdir().unwrap();
    let first = run(dir.path(), &hub.url, &[], &[]);
    assert!(first.status.success(), "{}", said(&first));
    let asked = hub.asked();
    assert!(asked.iter().any(|p| p.ends_with("/model.safetensors")), "{asked:?}");
    assert!(!asked.iter().any(|p| p.ends_with(".bin") || p.ends_with("/reference.safetensors")), "{asked:?}");
    let run_json = std::fs::read_to_string(dir.path().join("results/exp/run.json")).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(&run_json).unwrap();
    assert_eq!(recorded["models"][0]["commit"], COMMIT);
    let second = run(dir.path(), &hub.url, &[], &[]);
    assert!(said(&second).contains("ran 0,"), "{}", said(&second));
    assert_eq!(hub.asked(), ["/api/models/tests/tiny/revision/main"]);
    for offline in [
        run(dir.path(), &hub.url, &["--offline"], &[]),
        run(dir.path(), &hub.url, &[], &[("HF_HUB_OFFLINE", "1")]),
    ] {
        assert!(said(&offline).contains("ran 0,"), "{}", said(&offline));
    }
    assert_eq!(hub.asked(), Vec::<String>::new(), "--offline opened a socket");
}

#[test]
fn a_gated_model_asks_for_a_token() {
    let hub = Hub::start(Some("secret"));
    let dir = tempfile::tempdir().unwrap();
    let without = run(dir.path(), &hub.url, &[], &[]);
    assert_eq!(without.status.code(), Some(2), "{}", said(&without));
    assert!(said(&without).contains("tests/tiny is gated or private"), "{}", said(&without));
    assert!(said(&without).contains("HF_TOKEN"), "{}", said(&without));
    let with = run(dir.path(), &hub.url, &[], &[("HF_TOKEN", "secret")]);
    assert!(with.status.success(), "{}", said(&with));
}

#[test]
fn what_is_not_there_is_said() {
    let hub = Hub::start(None);
    let dir = tempfile::tempdir().unwrap();
    let other = run(dir.path(), &hub.url, &["--set", "models.tiny.revision=v2"], &[]);
    assert!(said(&other).contains("no repository tests/tiny with a revision v2"), "{}", said(&other));
    let offline = run(dir.path(), &hub.url, &["--offline"], &[]);
    assert!(said(&offline).contains("is not in `"), "{}", said(&offline));
    let nowhere = run(dir.path(), "http://127.0.0.1:9", &[], &[]);
    assert!(said(&nowhere).contains("tests/tiny could not be fetched"), "{}", said(&nowhere));
}
