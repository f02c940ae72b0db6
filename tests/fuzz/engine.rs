//! Draws inputs from seeds and looks what a reader makes of them: no panic, no more time or memory than its bounds. Knows no
//! format but JSON.
//!
//! What leads to an answer that was not heard yet becomes a seed itself: so the draws find their way past the first checks
//! without instruments in the compiler. The same numbers are drawn each time; `EMOFLOW_FUZZ_SECONDS=600` goes on for so long,
//! from `EMOFLOW_FUZZ_SEED` (0), and `EMOFLOW_FUZZ_KEEP=1` leaves each input in `target/fuzz/` before it is read, for what
//! ends the process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use emoflow::lm::bounded::{Bounds, ThreadPool, Wary, is_bounded};
use serde_json::Value;

/// The stack of a main thread.
static POOL: ThreadPool = ThreadPool::new(8 << 20);
/// Longer inputs are cut; in bytes.
const LONGEST: usize = 1 << 20;
/// Seeds that are kept at a time.
const CORPUS: usize = 400;

/// How inputs are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Bytes,
    Text,
    Json,
    /// The length of a JSON document in eight bytes, the document, and bytes (safetensors).
    Framed,
}

/// Reads an input, which it may write into the folder; gives what was made of it, in words.
type Read = dyn Fn(&Path, &[u8]) -> String + Send + Sync;

/// A reader of what strangers give.
pub struct Target {
    pub name: &'static str,
    pub shape: Shape,
    pub seeds: Vec<Vec<u8>>,
    /// Words that mean something in the format.
    pub words: &'static [&'static str],
    /// In a plain run.
    pub executions: usize,
    pub bounds: Bounds,
    pub read: Arc<Read>,
}

/// Seconds and megabytes that most readers may take of an input of up to 1 MB; in a debug build, beside other tests.
pub const USUAL: Bounds = Bounds { seconds: 30, bytes: 64 << 20 };

/// Draws inputs and has them read; fails with the first few that were too much.
pub fn hold(target: Target) {
    let place = tempfile::tempdir().unwrap();
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let long = number("EMOFLOW_FUZZ_SECONDS").map(Duration::from_secs);
    let keep = number("EMOFLOW_FUZZ_KEEP").is_some();
    let mut draw = Draw(number("EMOFLOW_FUZZ_SEED").unwrap_or(0) ^ 0x9e37_79b9_7f4a_7c15);
    assert!(!target.seeds.is_empty(), "{} has no seeds", target.name);
    let mut corpus = target.seeds.clone();
    let mut heard = HashSet::new();
    let mut found: Vec<String> = Vec::new();
    let begun = Instant::now();
    let mut executions = 0;
    let regressions = inputs(&found_folder().join(target.name));
    let mut waiting: Vec<Vec<u8>> = regressions.into_iter().chain(corpus.clone()).rev().collect();
    loop {
        let goes_on = long.map_or(executions < target.executions, |long| begun.elapsed() < long);
        let input = match waiting.pop() {
            Some(input) => input,
            None if !goes_on || found.len() > 4 => break,
            None => mutated(&mut draw, target.shape, &corpus, target.words),
        };
        executions += 1;
        if keep {
            let folder = kept_folder();
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(target.name), &input).unwrap();
        }
        match outcome(&target, place.path(), &input) {
            Ok(said) => {
                // Numbers and names vary without end; words do not.
                let words: String = said.chars().filter(|c| c.is_ascii_alphabetic()).take(80).collect();
                if heard.insert(words) && corpus.len() < CORPUS {
                    corpus.push(input);
                }
            }
            Err(why) => {
                let known = found.iter().any(|known| known.ends_with(&why));
                if !known {
                    let folder = kept_folder();
                    std::fs::create_dir_all(&folder).unwrap();
                    let file = folder.join(format!("{}-{executions}", target.name));
                    std::fs::write(&file, &input).unwrap();
                    found.push(format!("{}: {why}", file.display()));
                }
            }
        }
    }
    println!("{}: {executions} inputs, {} answers, {:.0?}", target.name, heard.len(), begun.elapsed());
    assert!(found.is_empty(), "{}:\n{}", target.name, found.join("\n"));
}

/// What a reader says of an input, or how it goes beyond its bounds.
fn outcome(target: &Target, place: &Path, input: &[u8]) -> Result<String, String> {
    let (read, place, input) = (target.read.clone(), place.to_path_buf(), input.to_vec());
    Wary::default()
        .run(&POOL, target.bounds, move || Ok(read(&place, &input)))
        .map_err(|error| format!("{error:#}"))
}

/// Panics within bounds are told by [`hold`].
pub fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::env::var_os("EMOFLOW_FUZZ_SECONDS").is_some() || !is_bounded() {
                usual(panic);
            }
        }));
    });
}

fn found_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/found")
}

fn kept_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz")
}

/// The files of a folder, by name.
pub fn inputs(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 of none.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn span(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let most = (len - from).min(1 << self.below(10));
        from..from + self.below(most + 1)
    }
}

/// A seed with a few changes.
fn mutated(draw: &mut Draw, shape: Shape, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = draw.of(corpus).clone();
    let other = draw.of(corpus).clone();
    if shape == Shape::Framed && draw.below(4) > 0 {
        let split = |bytes: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
            let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?) as usize;
            let end = length.checked_add(8)?;
            Some((bytes.get(8..end)?.to_vec(), bytes[end..].to_vec()))
        };
        if let (Some((head, rest)), Some((other, _))) = (split(&input), split(&other)) {
            let head = mutated(draw, Shape::Json, &[head, other], words);
            return [&(head.len() as u64).to_le_bytes()[..], &head, &rest].concat();
        }
    }
    for _ in 0..=draw.below(4) {
        let kind = match shape {
            Shape::Bytes => 0,
            Shape::Text => draw.below(3).min(1),
            Shape::Json => draw.below(4).min(2),
            Shape::Framed => draw.below(2),
        };
        match kind {
            0 => bytes(draw, &mut input, &other),
            1 => tokens(draw, &mut input, &other, words),
            _ => {
                let parsed = (serde_json::from_slice(&input), serde_json::from_slice(&other));
                if let (Ok(mut value), Ok(other)) = parsed {
                    structure(draw, &mut value, &other, words);
                    input = serde_json::to_vec(&value).unwrap();
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn bytes(draw: &mut Draw, input: &mut Vec<u8>, other: &[u8]) {
    let len = input.len();
    let at = draw.below(len);
    match draw.below(8) {
        0 if len > 0 => input[at] ^= 1 << draw.below(8),
        1 if len > 0 => input[at] = *draw.of(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'{']),
        2 => drop(input.drain(draw.span(len))),
        3 => {
            let part = input[draw.span(len)].to_vec();
            input.splice(at..at, part);
        }
        4 => {
            let part = other[draw.span(other.len())].to_vec();
            input.splice(at..at, part);
        }
        5 => input.truncate(at),
        6 => {
            let number: u64 =
                *draw.of(&[0, 1, 8, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX]);
            let width = *draw.of(&[2, 4, 8]);
            for (place, byte) in input.iter_mut().skip(at).zip(&number.to_le_bytes()[..width]) {
                *place = *byte;
            }
        }
        _ => {
            let random: Vec<u8> = (0..draw.below(16)).map(|_| draw.next() as u8).collect();
            input.splice(at..at, random);
        }
    }
}

/// What means something in many formats.
const WORDS: [&str; 26] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "NaN",
    "-0.0",
    "0.1",
    "\"\"",
    "null",
    "true",
    "[]",
    "{}",
    "\\",
    "\"",
    "'",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "\r",
    "\r\n",
    "\u{301}",
    "\u{1f600}",
    "=",
    ":",
    ",",
];

fn tokens(draw: &mut Draw, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let own = pieces(input);
    let theirs = pieces(other);
    let piece = |draw: &mut Draw| -> Vec<u8> {
        match draw.below(5) {
            0 => draw.of(&WORDS).as_bytes().to_vec(),
            1 if !words.is_empty() => draw.of(words).as_bytes().to_vec(),
            2 if !theirs.is_empty() => other[draw.of(&theirs).clone()].to_vec(),
            3 => draw.of(&["[", "{", "(", "\"", "a", "{{", "-"]).repeat(1 << draw.below(15)).into_bytes(),
            _ if !own.is_empty() => input[draw.of(&own).clone()].to_vec(),
            _ => Vec::new(),
        }
    };
    let new = piece(draw);
    let Some(place) = own.get(draw.below(own.len())).cloned() else {
        input.extend(new);
        return;
    };
    match draw.below(4) {
        0 => drop(input.splice(place, new)),
        1 => drop(input.drain(place)),
        2 => drop(input.splice(place.start..place.start, new)),
        _ => {
            // Two pieces change places.
            let second = draw.of(&own).clone();
            let (first, second) = if place.start <= second.start { (place, second) } else { (second, place) };
            if first.end <= second.start {
                let parts =
                    [&input[second.clone()], &input[first.end..second.start], &input[first.clone()]].concat();
                input.splice(first.start..second.end, parts);
            }
        }
    }
}

/// Words, runs of blanks, lines' ends and single marks.
fn pieces(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let class = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => 0,
        b' ' | b'\t' => 1,
        _ => 2,
    };
    let mut pieces: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match pieces.last_mut() {
            Some(last) if class(*byte) < 2 && class(text[last.start]) == class(*byte) => last.end = at + 1,
            _ => pieces.push(at..at + 1),
        }
    }
    pieces
}

fn structure(draw: &mut Draw, value: &mut Value, other: &Value, words: &[&str]) {
    let count = nodes(value);
    let taken = match draw.below(4) {
        0 => node(other, draw.below(nodes(other))).clone(),
        1 => node(value, draw.below(count)).clone(),
        2 if !words.is_empty() => Value::from(*draw.of(words)),
        _ => {
            let scalars = [
                "null",
                "true",
                "0",
                "-1",
                "1e308",
                "0.5",
                "18446744073709551615",
                "9223372036854775807",
                "\"\"",
                "[]",
                "{}",
            ];
            serde_json::from_str(draw.of::<&str>(&scalars)).unwrap()
        }
    };
    let place = node_mut(value, draw.below(count));
    match (draw.below(5), &mut *place) {
        (0, Value::Object(object)) if !object.is_empty() => {
            let key = object.keys().nth(draw.below(object.len())).cloned().unwrap();
            object.remove(&key);
        }
        (1, Value::Object(object)) => {
            let word = if words.is_empty() { "x" } else { draw.of(words) };
            object.insert(word.to_string(), taken);
        }
        (0, Value::Array(list)) if !list.is_empty() => drop(list.remove(draw.below(list.len()))),
        (1, Value::Array(list)) => list.push(taken),
        (2, _) => {
            let mut deep = taken;
            for _ in 0..1 << draw.below(7) {
                deep = Value::Array(vec![deep]);
            }
            *place = deep;
        }
        _ => *place = taken,
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(object) => object.values().map(nodes).sum(),
        _ => 0,
    }
}

fn node(value: &Value, mut at: usize) -> &Value {
    let parts: Vec<&Value> = match value {
        _ if at == 0 => return value,
        Value::Array(list) => list.iter().collect(),
        Value::Object(object) => object.values().collect(),
        _ => return value,
    };
    at -= 1;
    for part in parts {
        match nodes(part) {
            count if at < count => return node(part, at),
            count => at -= count,
        }
    }
    value
}

fn node_mut(value: &mut Value, mut at: usize) -> &mut Value {
    if at == 0 || !(value.is_array() || value.is_object()) {
        return value;
    }
    at -= 1;
    let parts: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(object) => object.values_mut().collect(),
        _ => unreachable!("looked at"),
    };
    for part in parts {
        match nodes(part) {
            count if at < count => return node_mut(part, at),
            count => at -= count,
        }
    }
    unreachable!("fewer nodes than were counted")
}
