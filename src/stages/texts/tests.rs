//! Files of transcripts: every format, and malformed files.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use zip::ZipWriter;
use zip::write::FileOptions;

use super::file::Broken;
use super::{Files, Transcript, rows};

fn files(folder: &Path, name: &str, broken: Broken) -> Files {
    Files {
        paths: vec![folder.join(name)],
        label: Some("outcome".into()),
        event: Some("at".into()),
        broken,
        labels: None,
    }
}

/// The transcripts of a file with this content.
fn read(name: &str, content: &[u8]) -> Vec<Transcript> {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(name), content).unwrap();
    let files = Files { label: None, event: None, ..files(folder.path(), name, Broken::Error) };
    let survey = files.survey().unwrap();
    let [texts, _] = files.run(&[0..survey.transcripts]).unwrap().remove(0);
    rows(&texts).unwrap()
}

/// `role: content` of each turn.
fn said(transcript: &Transcript) -> Vec<String> {
    transcript.turns.iter().map(|turn| format!("{}: {}", turn.role.name(), turn.content)).collect()
}

const THREE: [&str; 3] = ["system: Be brief.", "user: Why?", "assistant: Because."];

#[test]
fn every_format_gives_the_same_turns() {
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
        {"role": "assistant", "content": "Because."},
    ]);
    let openai = json!({ "messages": messages }).to_string();
    let sharegpt = json!({"conversations": [
        {"from": "system", "value": "Be brief."}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."},
    ]})
    .to_string();
    let plain = "System: Be brief.\nHuman: Why?\n\nAssistant: Because.\n";
    let inspect = json!({"eval": {}, "samples": [{"id": 1, "messages": messages}]}).to_string();
    for (name, content) in [
        ("a.jsonl", format!("\n{openai}\n")),
        ("b.jsonl", sharegpt.clone()),
        ("c.json", openai.clone()),
        ("d.json", format!("[{openai}]")),
        ("e.json", messages.to_string()),
        ("f.json", inspect),
        ("g.txt", plain.to_string()),
    ] {
        let all = read(name, content.as_bytes());
        assert_eq!(all.len(), 1, "{name}");
        assert_eq!(said(&all[0]), THREE, "{name}");
    }
    let packed = zstd::encode_all(openai.as_bytes(), 1).unwrap();
    assert_eq!(said(&read("h.jsonl.zst", &packed)[0]), THREE);
    let two = read("i.txt", format!("{plain}\n---\n{plain}Human: So?\n").as_bytes());
    assert_eq!((two.len(), two[1].turns.len()), (2, 4));
    assert_eq!(two[1].place, "i.txt, line 7");
    assert_ne!(two[0].id, two[1].id);
}

/// A log as Inspect writes it, except that its entries are stored uncompressed.
#[test]
fn logs_of_inspect_are_read_with_their_attachments_and_scores() {
    let sample = |id: usize, score: &str| {
        json!({
            "id": id, "epoch": 1, "attachments": {"ab12": "Why?"},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "attachment://ab12"},
                {"role": "assistant", "content": [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "I look."}],
                 "tool_calls": [{"id": "x", "function": "search", "arguments": {"q": "why"}}]},
                {"role": "tool", "content": "Nothing."},
                {"role": "assistant", "content": "Because."},
            ],
            "scores": {"outcome": {"value": score}},
        })
        .to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut zip = ZipWriter::new(fs_err::File::create(folder.path().join("log.eval")).unwrap());
    for (name, content) in [
        ("header.json", "{}".to_string()),
        ("samples/2_epoch_1.json", sample(2, "I")),
        ("samples/1_epoch_1.json", sample(1, "C")),
    ] {
        zip.start_file(name, FileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let files = Files { event: None, ..files(folder.path(), "log.eval", Broken::Error) };
    let survey = files.survey().unwrap();
    assert_eq!((survey.transcripts, survey.changes.as_user), (2, 2));
    let all = rows(&files.run(&[0..2]).unwrap().remove(0)[0]).unwrap();
    assert_eq!(all[0].place, "log.eval, samples/1_epoch_1.json");
    assert_eq!((all[0].label.as_deref(), all[1].label.as_deref()), (Some("C"), Some("I")));
    let want = [
        "system: Be brief.",
        "user: Why?",
        "assistant: Hm.\nI look.\nsearch({\"q\":\"why\"})",
        "user: Nothing.",
        "assistant: Because.",
    ];
    assert_eq!(said(&all[0]), want);
}

#[test]
fn entries_packed_by_deflate_and_zstd_are_read_and_damage_is_seen() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    let damaged = tempfile::tempdir().unwrap();
    for name in ["deflate.eval", "zstd.eval"] {
        let files = |folder: &Path| Files { event: None, ..files(folder, name, Broken::Error) };
        let all = rows(&files(&folder).run(&[0..1]).unwrap().remove(0)[0]).unwrap();
        assert_eq!(said(&all[0]), ["user: Why?", "assistant: Because."], "{name}");
        let mut bytes = fs_err::read(folder.join(name)).unwrap();
        let at = bytes.windows(10).rposition(|w| w == b"samples/1_").unwrap();
        // The checksum in the central directory, 30 bytes before the name.
        bytes[at - 30] ^= 1;
        fs_err::write(damaged.path().join(name), bytes).unwrap();
        let error = format!("{:#}", files(damaged.path()).survey().unwrap_err());
        assert!(error.contains("damaged"), "{error}");
    }
}

#[test]
fn turns_are_mended_where_a_template_could_not_take_them_and_that_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let line = json!({
        "messages": [
            {"role": "user", "content": "One."}, {"role": "user", "content": "Two."},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "Found."}, {"role": "system", "content": "Stop."},
            {"role": "assistant", "content": ""}, {"role": "assistant", "content": "Done."},
        ],
        "outcome": true, "at": 6,
    });
    fs_err::write(folder.path().join("a.jsonl"), line.to_string()).unwrap();
    let files = files(folder.path(), "a.jsonl", Broken::Error);
    let survey = files.survey().unwrap();
    let changes = survey.changes;
    assert_eq!((changes.as_user, changes.joined, changes.empty), (2, 2, 1));
    let all = rows(&files.run(&[0..1]).unwrap().remove(0)[0]).unwrap();
    assert_eq!(
        said(&all[0]),
        ["user: One.\n\nTwo.", "assistant: f({})", "user: Found.\n\nStop.", "assistant: Done."]
    );
    assert_eq!((all[0].label.as_deref(), all[0].event), (Some("true"), Some(3)));
    let notes = survey.notes("logs").join("\n");
    assert!(
        notes.contains("2 turns of tools")
            && notes.contains("2 turns follow")
            && notes.contains("1 turns have no text")
    );
}

#[test]
fn broken_transcripts_are_skipped_and_counted_or_an_error_with_their_place() {
    let good = r#"{"messages": [{"role": "user", "content": "A."}], "outcome": "x"}"#;
    for (bad, why) in [
        ("{", "not JSON"),
        (r#"{"text": "A."}"#, "no `messages` or `conversations`; there is `text`"),
        (r#"{"messages": []}"#, "`messages` is empty"),
        (r#"{"messages": {}}"#, "`messages` is no list"),
        (r#"{"messages": ["A."]}"#, "`messages[0]`: it is no object"),
        (
            r#"{"messages": [{"role": "wizard", "content": "A."}]}"#,
            "`messages[0]`: `role`: \"wizard\" is not a role",
        ),
        (r#"{"messages": [{"content": "A."}]}"#, "`from` is missing"),
        (r#"{"messages": [{"role": "user", "content": 7}]}"#, "`content`: it is neither a string nor a list"),
        (r#"{"messages": [{"role": "user", "content": [{"text": "A."}]}]}"#, "part 0: a part without `type`"),
        (r#"{"messages": [{"role": "user", "content": "attachment://x"}]}"#, "no attachment \"x\""),
        (
            r#"{"messages": [{"role": "user", "content": "A.", "tool_calls": [{}]}]}"#,
            "a call in `tool_calls` without a name",
        ),
        (r#"{"messages": [{"role": "system", "content": "A."}]}"#, "no turn of the user or the assistant"),
        (
            r#"{"messages": [{"role": "user", "content": "A."}], "outcome": [1]}"#,
            "`outcome` is neither a text nor a number",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "A."}], "at": "soon"}"#,
            "\"soon\" is no number of a message",
        ),
        (r#"{"messages": [{"role": "user", "content": "A."}], "at": 1}"#, "its event is message 1"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("a.jsonl"), format!("{good}\n{bad}\n{good}\n")).unwrap();
        let error = files(folder.path(), "a.jsonl", Broken::Error).survey().unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("a.jsonl, line 2") && error.contains(why), "{bad}: {error}");
        assert!(error.contains("`broken = \"skip\"`"), "{error}");
        let skips = files(folder.path(), "a.jsonl", Broken::Skip);
        let survey = skips.survey().unwrap();
        assert_eq!((survey.transcripts, survey.broken), (2, 1), "{bad}");
        assert!(survey.notes("logs")[0].contains(why), "{:?}", survey.notes("logs"));
        let tables = skips.run(&[0..1, 1..2]).unwrap();
        assert_eq!(
            (tables[0][1].rows(), tables[1][1].rows()),
            (1, 0),
            "the broken one stands in the first shard"
        );
    }
}

/// In every format, a broken transcript in the middle is skipped and counted, or is an error with its file and place.
#[test]
fn a_broken_transcript_of_any_format_leaves_the_others() {
    let good = json!({"messages": [{"role": "user", "content": "A."}]});
    let bad = json!({"messages": [{"role": "user", "content": 7}]});
    let human = |value: serde_json::Value| json!({"conversations": [{"from": "human", "value": value}]});
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (at, sample) in [&good, &bad, &good].into_iter().enumerate() {
        zip.start_file(format!("samples/{at}.json"), FileOptions::default()).unwrap();
        zip.write_all(sample.to_string().as_bytes()).unwrap();
    }
    let eval = zip.finish().unwrap().into_inner();
    let lines = [human("A.".into()), human(7.into()), human("B.".into())].map(|line| line.to_string());
    for (name, content, place, why) in [
        ("a.jsonl", lines.join("\n").into_bytes(), "line 2", "`conversations[0]`"),
        ("b.json", json!([good, bad, good]).to_string().into_bytes(), "item 1", "`messages[0]`: `content`"),
        (
            "c.json",
            json!({"samples": [good, bad, good]}).to_string().into_bytes(),
            "samples[1]",
            "`messages[0]`",
        ),
        ("d.eval", eval, "samples/1.json", "`messages[0]`: `content`"),
        ("e.txt", b"Human: A.\n---\nA.\n---\nHuman: B.\n".to_vec(), "line 3", "nobody says"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join(name), content).unwrap();
        let of = |broken| Files { label: None, event: None, ..files(folder.path(), name, broken) };
        let error = format!("{:#}", of(Broken::Error).survey().unwrap_err());
        assert!(error.contains(&format!("{name}, {place}")) && error.contains(why), "{error}");
        let survey = of(Broken::Skip).survey().unwrap();
        assert_eq!((survey.transcripts, survey.broken), (2, 1), "{name}");
        assert!(survey.broken_at[0].contains(place), "{:?}", survey.broken_at);
    }
}

#[test]
fn files_that_are_not_what_their_name_says_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, content: &[u8]| {
        fs_err::write(folder.path().join(name), content).unwrap();
        let files = Files { label: None, event: None, ..files(folder.path(), name, Broken::Skip) };
        format!("{:#}", files.survey().unwrap_err())
    };
    assert!(error("a.eval", b"{}").contains("it is no ZIP"));
    assert!(error("a.json", b"{").contains("not JSON"));
    assert!(error("a.txt", b"Once upon a time.\n").contains("line 1: a text that nobody says"));
    assert!(error("a.jsonl", b"").contains("no transcript can be read"));
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("readme.txt", FileOptions::default()).unwrap();
    let empty = zip.finish().unwrap().into_inner();
    assert!(error("b.eval", &empty).contains("it holds no `samples/*.json`"));
    let unlabelled = br#"{"messages": [{"role": "user", "content": "A."}]}"#;
    fs_err::write(folder.path().join("u.jsonl"), unlabelled).unwrap();
    let labelled = files(folder.path(), "u.jsonl", Broken::Skip).survey().unwrap_err();
    assert!(format!("{labelled:#}").contains("no transcript has the label `outcome`"));
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(error("d.json", deep.as_bytes()).contains("not JSON"), "nesting is bounded");
}
