//! Transcripts of each format.

use std::path::Path;
use std::sync::Arc;

use emoflow::lm::bounded::Bounds;
use emoflow::stages::texts::Files;
use emoflow::stages::texts::file::Broken;

use crate::engine::{Shape, Target, USUAL, hold, quiet};
use crate::{project, said};

fn transcripts(name: &'static str, file: &'static str, shape: Shape, seeds: Vec<Vec<u8>>, bounds: Bounds) {
    quiet();
    hold(Target {
        name,
        shape,
        seeds,
        words: &[
            "messages",
            "conversations",
            "role",
            "user",
            "assistant",
            "tool_calls",
            "attachment://",
            "samples/",
            "Human:",
            "---",
            "null",
        ],
        executions: 400,
        bounds,
        read: Arc::new(move |place, bytes| survey(place, file, bytes)),
    });
}

fn survey(place: &Path, file: &str, bytes: &[u8]) -> String {
    let path = place.join(file);
    std::fs::write(&path, bytes).unwrap();
    let (label, event) = (Some("outcome".to_string()), Some("at".to_string()));
    let files = Files { paths: vec![path], label, event, broken: Broken::Skip, labels: None };
    said(files.survey())
}

const LINES: &str = "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"A\"}]}], \"outcome\": 1, \"at\": 0}\n\
    {\"conversations\": [{\"from\": \"human\", \"value\": \"A\"}], \"outcome\": \"x\"}\n";

#[test]
fn transcripts_json_lines() {
    transcripts("transcripts-jsonl", "s.jsonl", Shape::Text, vec![LINES.into()], USUAL);
}

#[test]
fn transcripts_json() {
    let log = "{\"samples\": [{\"messages\": [{\"role\": \"assistant\", \"content\": \"attachment://a\", \"tool_calls\": \
               [{\"function\": \"f\", \"arguments\": {}}]}], \"attachments\": {\"a\": \"b\"}, \"scores\": {\"outcome\": {\"value\": 1}}}]}";
    transcripts("transcripts-json", "s.json", Shape::Json, vec![log.into()], USUAL);
}

#[test]
fn transcripts_text() {
    let text = "Human: A\n\nAssistant: B\n---\nSystem: C\nUser: D\n";
    transcripts("transcripts-text", "s.txt", Shape::Text, vec![text.into()], USUAL);
}

#[test]
fn transcripts_eval() {
    let read = |name: &str| std::fs::read(project("tests/fixtures/transcripts").join(name)).unwrap();
    // A sample may unpack to 256 MB.
    let bounds = Bounds { seconds: 120, bytes: 768 << 20 };
    let seeds = vec![read("deflate.eval"), read("zstd.eval")];
    transcripts("transcripts-eval", "s.eval", Shape::Bytes, seeds, bounds);
}
