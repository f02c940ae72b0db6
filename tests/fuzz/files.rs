//! The experiment file, a site's profile, story files of each format, and the cache's own files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use emoflow::config::Experiment;
use emoflow::lm::bounded::Bounds;
use emoflow::plan::key::Digest;
use emoflow::slurm::Profile;
use emoflow::stages::stories::Columns;
use emoflow::stages::stories::file::{Empty, Files};
use emoflow::store::Store;
use emoflow::store::parquet;
use emoflow::store::table::{Column, Table};

use crate::engine::{Shape, Target, USUAL, hold, inputs, quiet};
use crate::{project, said};

#[test]
fn experiment() {
    quiet();
    hold(Target {
        name: "experiment",
        shape: Shape::Text,
        seeds: inputs(&project("experiments")).into_iter().filter(|file| file.len() < 20 << 10).collect(),
        words: &[
            "[[",
            "]]",
            "[models.a]",
            "path",
            "repo",
            "layers",
            "words",
            "sweep",
            "generate",
            "template",
            "file",
            "dataset",
            "openai",
            "ollama",
            "steering",
            "probe",
            "cosine",
            "\"all\"",
            "\"self\"",
            "per_topic",
            "reject",
            "'''",
            "\"\"\"",
            "1979-05-27T07:32:00Z",
            "0x7fffffffffffffff",
            "inf",
            "limit_per_emotion",
            "labels",
            "body",
            "[vectors]",
            "denoise",
        ],
        executions: 800,
        bounds: USUAL,
        read: Arc::new(|place, bytes| {
            let path = place.join("exp.toml");
            std::fs::write(&path, bytes).unwrap();
            said(Experiment::read_in(&path, place, &[], &|_| Vec::new()))
        }),
    });
}

#[test]
fn profile() {
    quiet();
    let seed = b"signal = 240\nrestarts = 20\nmodules = [\"cuda/12.8\"]\ngpu_memory = \"80GB\"\nenvironment = { HF_HOME = \"/hf\" }\n\
        [model]\npartition = \"gpu\"\ntime = \"04:00:00\"\noptions = [\"--x\"]\n[models.a]\ngres = \"gpu:1\"\n[cpu]\ncpus = 8\n";
    hold(Target {
        name: "profile",
        shape: Shape::Text,
        seeds: vec![seed.to_vec()],
        words: &["signal", "account", "memory", "TB", "1e30GB", "container", "program"],
        executions: 800,
        bounds: USUAL,
        read: Arc::new(|place, bytes| {
            let path = place.join("slurm.toml");
            std::fs::write(&path, bytes).unwrap();
            said(Profile::find(Some(&path), &path))
        }),
    });
}

/// What is read of a story file of this name.
fn survey(place: &Path, name: &str, bytes: &[u8]) -> String {
    let path = place.join(name);
    std::fs::write(&path, bytes).unwrap();
    let columns =
        Columns { emotion: Some("emotion".into()), text: "text".into(), topic: Some("topic".into()) };
    let files = Files {
        paths: vec![path],
        columns,
        emotions: Some(vec!["happy".into(), "grief-stricken".into(), "\u{43}af\u{e9}".into()]),
        labels: BTreeMap::from([("0".to_string(), "happy".to_string())]),
        empty: Empty::Skip,
        limit_per_emotion: None,
    };
    let survey = files.survey();
    let read = survey.and_then(|survey| files.run(std::slice::from_ref(&(0..survey.stories))));
    said(read)
}

fn stories(name: &'static str, file: &'static str, shape: Shape, seeds: Vec<Vec<u8>>, bounds: Bounds) {
    quiet();
    hold(Target {
        name,
        shape,
        seeds,
        words: &[
            "emotion",
            "text",
            "topic",
            "happy",
            "0",
            "\"\"",
            ";",
            "\t",
            "|",
            "sep=;",
            "\r",
            "grief_stricken",
            "\u{e9}",
        ],
        // A packed seed unpacks to 100 MB.
        executions: if bounds.bytes == PACKED.bytes { 60 } else { 800 },
        bounds,
        read: Arc::new(move |place, bytes| survey(place, file, bytes)),
    });
}

const CSV: &str = "emotion,text,topic\nhappy,\"It rained, \"\"a lot\"\".\nStill.\",1\ngrief_stricken,She left.,2\n0,He came.,\n,x,\n";
const LINES: &str = "{\"emotion\": \"happy\", \"text\": \"It rained.\", \"topic\": 3}\n\n{\"emotion\": 0, \"text\": [\"a b\", null]}\n\
    {\"emotion\": [\"happy\"], \"text\": \"c\", \"topic\": null}\n";
const DOCUMENTS: [&str; 5] = [
    "[{\"emotion\": \"happy\", \"text\": \"It rained.\", \"topic\": \"x\"}]",
    "{\"happy\": [\"a b\", \"c d\"], \"Caf\u{e9}\": [\"e\"]}",
    "{\"happy\": {\"bus\": [\"a\"], \"rain\": [\"b\"]}}",
    "{\"emotion\": [\"happy\", \"happy\"], \"text\": [\"a\", \"b\"], \"topic\": {\"0\": 1, \"1\": 2}}",
    "{\"data\": [{\"emotion\": \"happy\", \"text\": \"a\"}]}",
];

/// A text in other encodings: UTF-16 of both kinds, Latin-1, with a mark of its own.
fn encoded(text: &str) -> Vec<Vec<u8>> {
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let latin = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
    vec![
        text.into(),
        [&b"\xff\xfe"[..], &little].concat(),
        [&b"\xfe\xff"[..], &big].concat(),
        latin,
        format!("\u{feff}{text}").into(),
    ]
}

#[test]
fn stories_csv() {
    let other = CSV.replace(',', ";").replace('\n', "\r\n");
    stories("csv", "s.csv", Shape::Text, [encoded(CSV), vec![other.into()]].concat(), USUAL);
}

#[test]
fn stories_tsv() {
    stories("tsv", "s.tsv", Shape::Text, encoded(&CSV.replace(',', "\t")), USUAL);
}

#[test]
fn stories_json_lines() {
    stories("jsonl", "s.jsonl", Shape::Text, encoded(LINES), USUAL);
}

#[test]
fn stories_json() {
    stories("json", "s.json", Shape::Json, DOCUMENTS.map(|text| text.as_bytes().to_vec()).to_vec(), USUAL);
}

#[test]
fn stories_text() {
    stories("lines", "happy.txt", Shape::Text, encoded("It rained.\n\nShe left.\r\n"), USUAL);
}

#[test]
fn stories_parquet() {
    let table = std::fs::read(project("src/store/fixtures/pyarrow.parquet")).unwrap();
    stories(
        "parquet",
        "s.parquet",
        Shape::Bytes,
        vec![table, table_of_stories()],
        Bounds { bytes: 256 << 20, ..USUAL },
    );
}

/// What is unpacked may be a thousand times as long; a line of it is held, up to its bound of 64 MB.
const PACKED: Bounds = Bounds { seconds: 120, bytes: 320 << 20 };

#[test]
fn stories_gzip() {
    let pack = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let several = [pack(CSV.as_bytes()), pack(b"happy,It was late.,3\n")].concat();
    let long = pack(&[b"emotion,text,topic\nhappy,".to_vec(), vec![b'a'; 100 << 20]].concat());
    stories("gzip", "s.csv.gz", Shape::Bytes, vec![pack(CSV.as_bytes()), several, long], PACKED);
}

#[test]
fn stories_zstd() {
    let pack = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let several = [pack(LINES.as_bytes()), pack(LINES.as_bytes())].concat();
    let long = pack(&[b"{\"text\": \"".to_vec(), vec![b'a'; 100 << 20]].concat());
    stories("zstd", "s.jsonl.zst", Shape::Bytes, vec![pack(LINES.as_bytes()), several, long], PACKED);
}

fn small_table() -> Table {
    let columns = [
        ("emotion", Column::Str(vec!["happy".into(), "happy".into()])),
        ("text", Column::Str(vec!["a b".into(), "c".into()])),
        ("topic", Column::Str(vec!["x".into(), "y".into()])),
    ];
    Table {
        schema: "stories".into(),
        columns: columns.map(|(name, column)| (name.to_string(), column)).to_vec(),
    }
}

fn table_of_stories() -> Vec<u8> {
    let mut bytes = Vec::new();
    parquet::write(&small_table(), &[], &mut bytes).unwrap();
    bytes
}

#[test]
fn table() {
    quiet();
    hold(Target {
        name: "table",
        shape: Shape::Bytes,
        seeds: vec![table_of_stories()],
        words: &[],
        executions: 2000,
        bounds: Bounds { bytes: 256 << 20, ..USUAL },
        read: Arc::new(|_, bytes| {
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let rows = said(parquet::rows(bytes.clone(), "stories"));
            format!("{rows}; {}", said(parquet::read(bytes, "stories")))
        }),
    });
}

#[test]
fn batch() {
    quiet();
    let key = Digest::of(b"x");
    let first = tempfile::tempdir().unwrap();
    let store = Store::open(first.path()).unwrap();
    store.partial("stories", &key).unwrap().keep(0, &small_table(), 0.5).unwrap();
    let file = format!("partial/stories-{key}/00000.batch");
    let seed = std::fs::read(first.path().join(&file)).unwrap();
    hold(Target {
        name: "batch",
        shape: Shape::Bytes,
        seeds: vec![seed],
        words: &[],
        executions: 500,
        bounds: USUAL,
        read: Arc::new(move |place, bytes| {
            let path = place.join("cache").join(&file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            let store = Store::open(place.join("cache")).unwrap();
            let kept = store.partial("stories", &key).and_then(|partial| partial.kept(0, "stories"));
            format!("{} {:?}", said(kept), store.take_warnings())
        }),
    });
}

#[test]
fn lease() {
    quiet();
    let key = Digest::of(b"x");
    let first = tempfile::tempdir().unwrap();
    let store = Store::open(first.path()).unwrap();
    let lease = store.lease("stories", &key).unwrap();
    let name = Store::lease_name("stories", &key);
    let seed = std::fs::read(first.path().join("leases").join(&name)).unwrap();
    drop(lease);
    hold(Target {
        name: "lease",
        shape: Shape::Json,
        seeds: vec![seed],
        words: &["pid", "host", "0", "started"],
        executions: 1000,
        bounds: USUAL,
        read: Arc::new(move |place, bytes| {
            std::fs::create_dir_all(place.join("cache/leases")).unwrap();
            std::fs::write(place.join("cache/leases").join(&name), bytes).unwrap();
            let store = Store::open(place.join("cache")).unwrap();
            format!("{:?}", store.leased("stories", &key).is_some())
        }),
    });
}
