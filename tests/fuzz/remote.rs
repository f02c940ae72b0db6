//! What servers and hubs answer.

use std::sync::Arc;

use emoflow::resolve::hub::listing::{Content, Listing};
use emoflow::resolve::hub::tree;
use emoflow::stages::stories::Protocol;
use emoflow::stages::stories::refusal::declines;
use emoflow::stages::stories::served::refused::{is_filter, words};
use emoflow::stages::stories::splitting::split;
use emoflow::stages::stories::{names_emotion, thought};
use serde_json::Value;

use crate::engine::{Shape, Target, USUAL, hold, quiet};
use crate::said;

#[test]
fn replies() {
    quiet();
    let seeds = [
        r#"{"choices": [{"index": 0, "message": {"role": "assistant", "content": "<think>Rain?</think>It rained.\n---\nOr not."}, "finish_reason": "stop"}], "usage": {"completion_tokens": 12}}"#,
        r#"{"choices": [{"message": {"content": [{"type": "text", "text": "It"}, "rained"], "refusal": null}, "finish_reason": "length"}]}"#,
        r#"{"message": {"role": "assistant", "content": "It rained."}, "done": true, "done_reason": "stop", "eval_count": 12}"#,
        r#"{"error": {"message": "No such model.", "code": 404}}"#,
        r#"[{"error": {"code": 429, "message": "Exhausted.", "status": "RESOURCE_EXHAUSTED"}}]"#,
    ];
    hold(Target {
        name: "replies",
        shape: Shape::Json,
        seeds: seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
        words: &[
            "content",
            "message",
            "refusal",
            "finish_reason",
            "<think>",
            "</think>",
            "[THINK]",
            "<|channel|>final",
            "<|message|>",
            "<|end|>",
            "tool_calls",
            "content_filter",
            "\u{130}",
            "I cannot write",
            "reasoning_content",
            "happy",
        ],
        executions: 4000,
        bounds: USUAL,
        read: Arc::new(|_, bytes| {
            let mut heard = format!("{} {}", words(bytes), is_filter(bytes));
            let Ok(reply) = serde_json::from_slice::<Value>(bytes) else { return heard };
            for protocol in [Protocol::OpenAi, Protocol::Ollama] {
                match protocol.answer(&reply) {
                    Err(error) => heard.push_str(&format!("{error:#}")),
                    Ok(answer) => {
                        let _ = split(&answer.text, "---");
                        let text = thought::answer(&answer.text);
                        let text = text.unwrap_or("nothing");
                        heard.push_str(&format!(
                            "{:?} {} {}",
                            answer.end,
                            declines(text),
                            names_emotion(text, "happy")
                        ));
                    }
                }
            }
            heard
        }),
    });
}

#[test]
fn listings() {
    quiet();
    let answer = r#"{"id": "a/b", "sha": "607a30d783dfa663caf39e06633721c8d4cfcd7e", "siblings": [
        {"rfilename": "config.json", "blobId": "10c66461e4c109db5a2196bff4bb59be30396ed8", "size": 665},
        {"rfilename": "model.safetensors", "blobId": "f7a3cdf5b3e3b8b2e3b0a4a3b4f0a9b3f6a1a6b6", "size": 548105171,
         "lfs": {"sha256": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", "size": 548105171}}]}"#;
    let tree = r#"{"format_version": 1, "files": {"a/b.parquet": {"size": 9, "blob_id": "10c66461e4c109db5a2196bff4bb59be30396ed8",
        "lfs_sha256": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", "lfs_size": 9}}}"#;
    hold(Target {
        name: "listings",
        shape: Shape::Json,
        seeds: vec![answer.into(), tree.into()],
        words: &["../x", "/etc/x", "..", "sha", "rfilename", "W/\"", "{SHA1{", "lfs", "size"],
        executions: 4000,
        bounds: USUAL,
        read: Arc::new(|place, bytes| {
            let path = place.join("tree.json");
            std::fs::write(&path, bytes).unwrap();
            let files = tree::read(&path).unwrap_or_default();
            let listing = Listing::parse(bytes);
            for file in listing.iter().flat_map(|listing| &listing.files).chain(&files) {
                let parts: Vec<&str> = file.name.split('/').collect();
                assert!(!parts.contains(&"..") && !file.name.starts_with('/'), "{:?} leads out", file.name);
                let blob = file.content.as_ref().map(Content::blob).unwrap_or_default();
                assert!(blob.bytes().all(|byte| byte.is_ascii_hexdigit()), "{blob:?} is no name");
            }
            let _ = Content::named(&String::from_utf8_lossy(bytes));
            format!("{} {}", said(listing), files.len())
        }),
    });
}
