//! Tokenizers and templates of strangers that would take all time or all memory: each ends in an error, in a process
//! that may not have more memory than a few gigabytes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use emoflow::lm::{Chat, Checkpoint, Message, Role, Tokenizer};
use serde_json::{Value, json};

use super::folder;

/// The tokenizer of a fixture, changed.
fn changed(change: impl FnOnce(&mut Value), template: Option<&str>) -> anyhow::Result<Tokenizer> {
    let dir = tempfile::tempdir()?;
    let from = folder("llama-gqa");
    let mut tokenizer: Value = serde_json::from_slice(&fs_err::read(from.join("tokenizer.json"))?)?;
    change(&mut tokenizer);
    fs_err::write(dir.path().join("tokenizer.json"), tokenizer.to_string())?;
    for name in ["config.json", "model.safetensors"] {
        fs_err::copy(from.join(name), dir.path().join(name))?;
    }
    if let Some(template) = template {
        fs_err::write(dir.path().join("chat_template.jinja"), template)?;
    }
    Tokenizer::load(&Checkpoint::open(dir.path())?)
}

/// One that splits first by `regex`.
fn splitting_by(regex: &str) -> anyhow::Result<Tokenizer> {
    changed(
        |json| {
            let split = json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
            json["pre_tokenizer"] =
                json!({ "type": "Sequence", "pretokenizers": [split, json["pre_tokenizer"]] });
        },
        None,
    )
}

#[track_caller]
fn refused<T>(outcome: anyhow::Result<T>, said: &[&str]) {
    let error = format!("{:#}", outcome.err().expect("it came to an end"));
    assert!(said.iter().all(|said| error.contains(said)), "{error}");
}

fn regexes_that_go_back_forever() {
    let text = "a".repeat(60_000);
    for regex in ["(a+)+[^a]", "(a|aa)+$b", "(?:a|a)*[^a]", "(?:.|a)*?[^a]", "(.*)(.*)(.*)(.*)(.*)(.*)[^a]"] {
        let tokenizer = splitting_by(regex).unwrap();
        refused(tokenizer.encode(&text), &["tokenize \"aaaa", "(60000 bytes)", "tokenizer.json", "over"]);
        // Another text goes on as ever.
        let ids = tokenizer.encode("He feels").unwrap().ids;
        assert_eq!(tokenizer.decode(&ids).unwrap(), "He feels");
    }
}

fn regexes_that_are_large() {
    if let Ok(tokenizer) = splitting_by(&("(".repeat(5000) + &")".repeat(5000))) {
        let _ = tokenizer.encode(&"a".repeat(60_000)); // an end
    }
    for regex in ["a{99999}{99999}".into(), "(?:a{1,9999}){1,9999}".repeat(1000)] {
        refused(splitting_by(&regex), &["repeat what is in them", "at most 10000"]);
    }
    refused(splitting_by(&"a|".repeat(99_999)), &["bytes of regular expressions"]);
}

fn steps_that_multiply() {
    let grow = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
    let growing = |json: &mut Value| {
        json["normalizer"] = json!({ "type": "Sequence", "normalizers": vec![grow.clone(); 60] });
    };
    refused(changed(growing, None).unwrap().encode("a"), &["MB of memory"]);
    let spread =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let spreading = |json: &mut Value| {
        json["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": vec![spread.clone(); 60] });
    };
    refused(changed(spreading, None).unwrap().encode("é"), &["MB of memory"]);
    let decoding = |json: &mut Value| {
        json["decoder"] = json!({ "type": "Sequence", "decoders": vec![grow.clone(); 60] });
    };
    let tokenizer = changed(decoding, None).unwrap();
    let ids = tokenizer.encode("a map").unwrap().ids;
    refused(tokenizer.decode(&ids), &["decode", "MB of memory"]);
    refused(tokenizer.decode(&ids), &["not tried again"]);
    let drawn = |json: &mut Value| json["model"]["dropout"] = json!(0.1);
    refused(changed(drawn, None), &["dropout"]);
    let nested = |json: &mut Value| {
        for _ in 0..500 {
            json["normalizer"] = json!({ "type": "Sequence", "normalizers": [json["normalizer"].take()] });
        }
    };
    refused(changed(nested, None), &["recursion limit"]);
}

fn templates_that_multiply() {
    let says = [Message::new(Role::User, "hi")];
    let render = |template: &str| {
        changed(|_| (), Some(template)).and_then(|t| t.render_chat(&says, true, Chat::default()))
    };
    let start = "{% set ns = namespace(x='xx') %}{% for i in range(60) %}";
    for step in ["{% set ns.x = ns.x ~ ns.x %}", "{% set ns.x = [ns.x, ns.x] | join %}"] {
        refused(
            render(&format!("{start}{step}{{% endfor %}}")),
            &["render the chat template", "256 MB of memory"],
        );
    }
    refused(render(&format!("{{{{ {}x }}}}", "(".repeat(100_000))), &["parsed"]);
}

/// The name by which this test finds itself in a process of its own.
const INSIDE: &str = "lm::strangers::inside_a_small_process";

#[test]
fn whatever_a_stranger_wrote_ends_within_bounds() {
    let me = std::env::current_exe().unwrap();
    for work in ["regexes", "large", "steps", "templates"] {
        let mut command = Command::new(&me);
        command.args(["--exact", INSIDE, "--ignored", "--nocapture"]).env("EMOFLOW_STRANGER", work);
        #[cfg(target_os = "linux")]
        // SAFETY: one system call between fork and exec.
        unsafe {
            use std::os::unix::process::CommandExt as _;
            command.pre_exec(|| {
                let most = libc::rlimit { rlim_cur: 12 << 30, rlim_max: 12 << 30 };
                match libc::setrlimit(libc::RLIMIT_AS, &raw const most) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(1200) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{work}: no end");
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(status.success(), "{work}: {status}");
    }
}

#[test]
#[ignore = "the test above starts it in a process of its own"]
fn inside_a_small_process() {
    match std::env::var("EMOFLOW_STRANGER").as_deref() {
        Ok("regexes") => regexes_that_go_back_forever(),
        Ok("large") => regexes_that_are_large(),
        Ok("steps") => steps_that_multiply(),
        Ok("templates") => templates_that_multiply(),
        other => panic!("EMOFLOW_STRANGER is {other:?}"),
    }
}
