//! Wrong experiment files: each mistake is shown with its line and a remedy, all of them at once.

mod wrong_files;

use std::path::Path;
use std::time::{Duration, Instant};

use emoflow::config::{Blocks, Experiment, Layers, Model, ModelSource, keys};
use emoflow::record;
use emoflow::results::columns;

/// A right file; the tests replace parts of it.
const BASE: &str = r#"seed = 1
layers = { depth = 0.667 }

[models.demo]
path = "models/demo"

[emotions]
words = ["happy", "sad"]

[stories.own.generate]
topics = ["a lost key"]

[stories.fixed.template]
set = "passages-10"

[neutral.template]
set = "neutral-40"

[activations]
from_token = 50

[vectors]
denoise = { components = 3 }

[analysis.similarity.cosine]
pairs = [["happy", "sad"]]

[analysis.causes.steering]
strength = [1.0]
"#;

/// What `check` says of a text: every problem, or nothing.
fn check(text: &str) -> String {
    check_with(text, &[])
}

fn check_with(text: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    match Experiment::parse_with(Path::new("experiments/x.toml"), Path::new("/project"), text, &sets) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// The base file with one part replaced.
fn with(old: &str, new: &str) -> String {
    assert_eq!(BASE.matches(old).count(), 1, "{old:?} is not in the base file once");
    BASE.replace(old, new)
}

#[test]
fn the_base_file_is_right() {
    assert_eq!(check(BASE), "");
}

#[test]
fn wrong_files() {
    let mut failures = String::new();
    for (name, old, new, expected) in wrong_files::CASES {
        let shown = check(&with(old, new));
        let counted = expected.iter().any(|part| part.contains("problems in"));
        let one = if counted { "" } else { "\n1 problem in experiments/x.toml" };
        for part in expected.iter().copied().chain([one]) {
            if !shown.contains(part) {
                failures += &format!("--- {name}: lacks {part:?}\n{shown}\n");
            }
        }
        if !shown.contains("= help: ") {
            failures += &format!("--- {name}: no hint\n{shown}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// One mistake in each of ten places.
const TEN: &str = r#"seed = "one"
layers = { depth = 2 }
[models.demo]
path = "models/demo"
dtype = "f8"
[emotions]
preset = "core-10"
words = ["sad", "sad"]
[stories.own.generate]
temperatur = 1.0
top_p = 7
[stories.fixed.tmplate]
[activations]
short = "drop"
[vectors]
denoise = { components = 3 }
[analysis.causes.steering]
strength = [0]
"#;

#[test]
fn ten_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let shown = check(TEN);
    let lines: Vec<&str> =
        shown.lines().filter_map(|line| line.trim().strip_prefix("--> experiments/x.toml:")).collect();
    let numbers: Vec<&str> = lines.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(numbers, ["1", "2", "5", "7", "8", "10", "11", "12", "14", "16", "18"], "{shown}");
    assert!(shown.ends_with("11 problems in experiments/x.toml"), "{shown}");
}

#[test]
fn typical_output() {
    insta::assert_snapshot!("ten_mistakes", check(TEN));
    insta::assert_snapshot!("nothing_but_a_name", check("name = \"x\"\n"));
    insta::assert_snapshot!("two_sources_of_one_name", check(&with("fixed.template", "own.generate")));
    insta::assert_snapshot!("not_toml", check("[models.demo\npath = 3\n"));
    insta::assert_snapshot!(
        "sets",
        check_with(
            BASE,
            &["activations.from_token=500", "vectors.denoise={variance=5}", "stories.onw.generate.top_k=1"]
        )
    );
}

#[test]
fn overrides_change_the_tree_and_not_the_file() {
    let parse = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        Experiment::parse_with(Path::new("a/x.toml"), Path::new("/p"), BASE, &sets).expect("a right file")
    };
    let changed = parse(&[
        "seed=7",
        "models.demo.dtype=bf16",
        "layers=[1, 0]",
        "activations.from_token = 10",
        "stories.own.generate.prompt=Someone is {emotion} = very.",
        "description=",
    ]);
    assert_eq!(changed.seed, 7);
    assert_eq!(changed.models[0].dtype, Some(emoflow::lm::Dtype::Bf16));
    assert_eq!(changed.layers, Layers { embed: false, blocks: Blocks::List(vec![0, 1]) });
    assert_eq!(changed.activations.from_token, 10);
    let emoflow::config::SourceKind::Generate { params, .. } = &changed.stories[0].kind else {
        panic!("generate")
    };
    assert_eq!(params.prompt, "Someone is {emotion} = very.");
    assert_eq!(changed.text, BASE);
    // The place of a problem that a later phase finds is the override's text.
    let problem =
        emoflow::config::Problem::at(changed.models[0].layers_span.clone(), "layer 9 does not exist");
    let shown = changed.problems(vec![problem]).to_string();
    assert!(shown.contains("--> --set layers=[1, 0]\n |\n | layers=[1, 0]\n |        ^^^^^^"), "{shown}");
    let unchanged = parse(&[]);
    let shown =
        unchanged.problems(vec![emoflow::config::Problem::at(unchanged.models[0].layers_span.clone(), "x")]);
    assert!(shown.to_string().contains("x.toml:2:10"), "{shown}");
}

#[test]
fn wrong_overrides() {
    for (set, expected) in [
        ("seed", "`seed` has no `=`"),
        ("=1", "is not a path of keys"),
        ("a b=1", "is not a path of keys"),
        ("a=1\nb=2", "unknown key `a`"),
        ("seed.x=1", "its parent is not a table"),
        ("seed=x", "`seed` must be an integer, not a string"),
        ("activations.form_token=1", "did you mean `from_token`?"),
        ("stories.fixd.template.set=passages-10", "did you mean `fixed`?"),
        ("emotions.preset=core-8", "did you mean `core-9`?"),
    ] {
        let shown = check_with(BASE, &[set]);
        assert!(shown.contains(expected) && shown.contains("--> --set "), "{set}: {shown}");
        assert!(!shown.contains("x.toml:"), "{set}: {shown}");
    }
}

#[test]
fn defaults_are_those_of_the_document() {
    let text = "[models.m]\nrepo = \"a/b\"\n[emotions]\npreset = \"core-9\"\n[stories.own.generate]\n[neutral.template]\n[analysis.a.steering]\n";
    let experiment =
        Experiment::parse(Path::new("e/some-name.toml"), Path::new("/p"), text).expect("a right file");
    assert_eq!(experiment.name, "some-name");
    assert_eq!(experiment.layers, Layers { embed: false, blocks: Blocks::Depth(0.667) });
    assert_eq!(experiment.emotions.len(), 9);
    let emoflow::config::SourceKind::Generate { params, writer } = &experiment.stories[0].kind else {
        panic!("generate")
    };
    assert_eq!(*writer, emoflow::config::Writer::Own);
    assert_eq!(
        (params.topics.len(), params.per_topic, params.max_new_tokens, params.top_k),
        (100, 12, 256, 0)
    );
    assert_eq!((params.temperature, params.top_p, params.system.as_str()), (1.0, 0.95, ""));
    assert_eq!(params.prompt, "Write a short story about {topic} whose main character feels {emotion}.");
    assert!(params.reject.names_emotion && params.reject.min_tokens == 0 && params.reject.attempts == 4);
    assert_eq!((experiment.activations.from_token, experiment.activations.batch_tokens), (50, None));
    assert_eq!(experiment.vectors.denoise, emoflow::stages::vectors::Denoise::Components(3));
    let without = text.replace("[neutral.template]\n", "");
    let experiment = Experiment::parse(Path::new("x.toml"), Path::new("/p"), &without).expect("a right file");
    assert_eq!(experiment.vectors.denoise, emoflow::stages::vectors::Denoise::None);
    assert_eq!(experiment.neutral, None);
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs_err::write(&path, bytes).expect("a file");
        Experiment::read(&path).expect_err("a wrong file").to_string()
    };
    let mut bytes = BASE.as_bytes().to_vec();
    bytes[69] = 0xe9;
    let shown = read("latin-1.toml", &bytes);
    assert!(
        shown.contains("not UTF-8: byte 69, in line 5, is 0xe9") && shown.contains("latin-1.toml:5:19"),
        "{shown}"
    );
    assert!(shown.contains("save the file as UTF-8"), "{shown}");

    let garbage: Vec<u8> = (0..10_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let path = folder.path().join("garbage.toml");
    fs_err::write(&path, &garbage).expect("a file");
    let start = Instant::now();
    let shown = Experiment::read(&path).expect_err("garbage").to_string();
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    assert!(
        shown.contains("more than 1000 kB") && shown.contains("1 problem in") && shown.len() < 500,
        "{shown}"
    );

    let shown = Experiment::read(folder.path()).expect_err("a folder").to_string();
    assert!(shown.contains("this is a folder"), "{shown}");
    let shown = Experiment::read(&folder.path().join("none.toml")).expect_err("nothing").to_string();
    assert!(shown.contains("there is no such file") && shown.contains("none.toml"), "{shown}");
    let shown = read("empty.toml", b"");
    assert!(shown.contains("no `[models]`") && shown.contains("3 problems in"), "{shown}");
}

#[test]
fn relative_paths_start_at_the_project() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = fs_err::canonicalize(folder.path()).expect("a folder");
    fs_err::create_dir_all(root.join("a/experiments")).expect("folders");
    fs_err::write(root.join("a/emoflow.toml"), "").expect("a file");
    let path = root.join("a/experiments/x.toml");
    fs_err::write(&path, BASE).expect("a file");
    let experiment = Experiment::read(&path).expect("a right file");
    assert_eq!(experiment.root, root.join("a"));
    assert_eq!(experiment.models[0].source, emoflow::config::ModelSource::Path(root.join("a/models/demo")));
}

/// A small generator of pseudo-random numbers (SplitMix64), so that the test is the same every time.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn no_mutation_of_a_file_panics() {
    let state = &mut 1;
    let alphabet = b"\"'[]{}=.,#\n\t -+0123456789abcdefinx_\\\0";
    for _ in 0..4000 {
        let mut bytes = BASE.as_bytes().to_vec();
        for _ in 0..=random(state) % 4 {
            let at = random(state) as usize % bytes.len();
            match random(state) % 4 {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, alphabet[random(state) as usize % alphabet.len()]),
                2 => bytes[at] = (random(state) % 128) as u8,
                _ => {
                    let to = (at + random(state) as usize % 40).min(bytes.len());
                    let piece = bytes[at..to].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        let shown = check(&text);
        assert!(shown.is_empty() || shown.contains("in experiments/x.toml"), "{text}\n{shown}");
        let from = random(state) as usize % text.len();
        let set = &text[from..(from + random(state) as usize % 60).min(text.len())];
        let shown = check_with(BASE, &[set]);
        assert!(shown.is_empty() || shown.contains("--set"), "{set}\n{shown}");
    }
}

#[test]
fn large_and_deep_files_take_no_time() {
    let keys: String = (0..100_000).map(|i| format!("k{i}=1\n")).collect();
    let twice = "a = 1\n".repeat(160_000);
    let deep = format!("x = {}", "[".repeat(900_000));
    let line = format!("x = \"{}\"", "y".repeat(900_000));
    for text in [keys, twice, deep, line] {
        let start = Instant::now();
        let shown = check(&text);
        assert!(shown.len() < 100_000, "{} bytes", shown.len());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

/// Holds that each block of a document, which begins with `<!-- name -->`, is what the program says.
fn holds(document: &str, blocks: &[(String, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document);
    let text = fs_err::read_to_string(&path).expect("the document");
    let mut updated = text.clone();
    for (name, block) in blocks {
        let start = format!("<!-- {name} -->\n");
        let (before, rest) =
            updated.split_once(&start).unwrap_or_else(|| panic!("docs/{document} lacks {start}"));
        let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{start} has no end"));
        updated = format!("{before}{start}{block}<!-- end -->{after}");
    }
    assert_eq!(text.matches("<!-- end -->").count(), blocks.len(), "one block a table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs_err::write(&path, &updated).expect("the document");
    } else {
        assert_eq!(text, updated, "run `UPDATE_DOCS=1 cargo test --test it check`");
    }
}

#[test]
fn the_document_has_the_table_of_every_table_of_keys() {
    let of = |path: &str| if path.is_empty() { "the file".to_string() } else { path.to_string() };
    let tables = keys::tables();
    let blocks = tables.iter().map(|table| (format!("keys of {}", of(&table.path)), table.markdown()));
    holds("experiment.md", &blocks.collect::<Vec<_>>());
}

#[test]
fn the_document_has_every_column_and_every_field_of_results() {
    let blocks = [("columns", columns::document()), ("fields of run.json", record::document())];
    holds("results.md", &blocks.map(|(name, block)| (name.to_string(), block)));
}

/// The base file's paragraphs, without those that belong to any of these top-level keys.
fn base_without(groups: &[&str]) -> String {
    let group =
        |line: &str| line.trim_matches(['[', ']']).split(['.', ']', ' ']).next().unwrap_or("").to_string();
    let keeps = |paragraph: &&str| {
        paragraph
            .lines()
            .filter(|line| line.starts_with('['))
            .all(|line| !groups.contains(&group(line).as_str()))
    };
    let tables = BASE.split("\n\n").skip(1).filter(keeps);
    tables.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn every_key_of_the_list_is_read() {
    for table in keys::tables() {
        let path = table.path.replace("<name>", "t");
        let group = path.split('.').next().unwrap_or_default();
        for key in table.keys().into_iter().filter(|key| !key.is_others()) {
            let wrong = format!("{} = 2024-01-01", key.name);
            let text = if path.is_empty() {
                format!("{wrong}\n{}", base_without(&[key.name]))
            } else {
                format!("{}\n\n[{path}]\n{wrong}\n", base_without(&[group]))
            };
            let shown = check(&text);
            let mine = shown.split("\n\n").find(|problem| problem.contains(&format!("| {wrong}\n")));
            let mine = mine.unwrap_or_else(|| panic!("{path}.{}: {shown}", key.name));
            let said = ["must be ", "cannot be a date", "there is no `adapter`"];
            assert!(said.iter().any(|said| mine.contains(said)), "{mine}");
        }
    }
}

#[test]
fn weights_that_are_not_the_config_s_are_a_problem_at_the_model_s_line() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let shown = |fixture: &str, change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        fs_err::create_dir(&model).unwrap();
        for file in fs_err::read_dir(fixtures.join(fixture)).unwrap().map(Result::unwrap) {
            fs_err::copy(file.path(), model.join(file.file_name())).unwrap();
        }
        change(&model);
        let text = BASE
            .replace("models/demo", "model")
            .replace("topics = [\"a lost key\"]", "topics = [\"a lost key\"]\nmax_new_tokens = 100");
        fs_err::write(dir.path().join("emoflow.toml"), "").unwrap();
        let file = dir.path().join("exp.toml");
        fs_err::write(&file, text).unwrap();
        let read =
            Experiment::read_with(&file, &[], &|asked| emoflow::resolve::check(asked, &mut Vec::new()));
        read.err().map_or(String::new(), |problems| problems.to_string())
    };
    let config = |from: &'static str, to: &'static str| {
        move |model: &Path| {
            let path = model.join("config.json");
            let text = fs_err::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            fs_err::write(path, text.replace(from, to)).unwrap();
        }
    };
    let cut = |file: &'static str| {
        move |model: &Path| {
            let bytes = fs_err::read(model.join(file)).unwrap();
            fs_err::write(model.join(file), &bytes[..bytes.len() - 100]).unwrap();
        }
    };
    let shard = "model-00002-of-00005.safetensors";
    let gone = |model: &Path| fs_err::remove_file(model.join(shard)).unwrap();
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Change, &[&str]); 6] = [
        (
            "llama-gqa",
            &config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"),
            &["tensor `model.layers.3.", "is missing"],
        ),
        (
            "llama-gqa",
            &config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"),
            &["tensor `model.layers.2.", "in the checkpoint but not in the model"],
        ),
        (
            "llama-gqa",
            &config("\"vocab_size\": 320", "\"vocab_size\": 321"),
            &["`model.embed_tokens.weight` has shape [320, 32], config.json says [321, 32]"],
        ),
        (
            "llama-gqa",
            &cut("model.safetensors"),
            &["model.safetensors: its", "not as many as its header says"],
        ),
        ("llama-sharded", &cut(shard), &[shard, "not as many as its header says"]),
        ("llama-sharded", &gone, &["shard `model-00002-of-00005.safetensors` is missing"]),
    ];
    assert_eq!(shown("llama-gqa", &|_| ()), "");
    assert_eq!(shown("llama-sharded", &|_| ()), "");
    for (fixture, change, parts) in cases {
        let shown = shown(fixture, change);
        for part in parts.iter().chain(&["exp.toml:5:8", "1 problem in"]) {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }
}

#[test]
fn every_experiment_that_ships_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs_err::read_dir(root.join("experiments")).expect("a folder") {
        let path = entry.expect("a file").path();
        if let Err(problems) = Experiment::read(&path) {
            panic!("{problems}");
        }
    }
}

/// An example of the document stands for its tables; the base file is put around it.
#[test]
fn every_example_of_the_document_is_right() {
    let text = fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/experiment.md"));
    let text = text.expect("the document");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 15);
    for example in examples {
        let groups = ["models", "emotions", "stories", "neutral", "activations", "vectors", "analysis"];
        let own = |group: &&str| example.lines().any(|line| line.starts_with(&format!("[{group}")));
        let taken: Vec<&str> = groups.into_iter().filter(own).collect();
        let whole = if example.starts_with('[') {
            format!("{}\n\n{example}", base_without(&taken))
        } else {
            format!("{example}\n{}", base_without(&taken))
        };
        let shown = check(&whole);
        let wrong = shown.lines().find(|line| line.starts_with("error"));
        assert_eq!(wrong, None, "{whole}\n{shown}");
    }
}

#[test]
fn what_is_missing_outside_is_shown_with_what_is_wrong_inside() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
    let text = format!(
        r#"layers = [1, 99]
[models.tiny]
path = "{}"
dtyp = "f32"
[models.gone]
path = "models/gone"
[emotions]
words = ["happy", "sad"]
[stories.mine.file]
path = "gone.csv"
[stories.said.template]
set = "passages-11"
"#,
        fixture.display()
    );
    let file = dir.path().join("exp.toml");
    fs_err::write(&file, text).unwrap();
    let shown = Experiment::read_with(&file, &[], &|asked| emoflow::resolve::check(asked, &mut Vec::new()))
        .unwrap_err()
        .to_string();
    for (line, message) in [
        (1, "model `tiny`: layer 99 does not exist: the model's layers are 0 to 2"),
        (4, "unknown key `dtyp`"),
        (6, "no folder `"),
        (10, "gone.csv"),
        (12, "there is no preset `passages-11`"),
    ] {
        let place = format!("exp.toml:{line}:");
        let found =
            shown.split("error: ").any(|problem| problem.contains(message) && problem.contains(&place));
        assert!(found, "line {line}: {message}\n{shown}");
    }
}

#[test]
fn every_experiment_that_ships_is_right_and_the_readme_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs_err::read_to_string(root.join("README.md")).expect("the README");
    let mut seen = 0;
    for entry in fs_err::read_dir(root.join("experiments")).expect("a folder") {
        let path = entry.expect("an entry").path();
        // What `make real` fetches is there for those who did.
        let fetched = root.join("models/real");
        let here = |model: &Model| match &model.source {
            ModelSource::Path(path) => !path.starts_with(&fetched) || path.exists(),
            ModelSource::Repo { .. } | ModelSource::Ollama(_) => true,
        };
        let read = Experiment::read_with(&path, &[], &|asked| {
            if asked.models.iter().all(here) {
                emoflow::resolve::check(asked, &mut Vec::new())
            } else {
                Vec::new()
            }
        });
        assert!(read.is_ok(), "{}", read.unwrap_err());
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(readme.contains(&format!("experiments/{name}")), "README.md does not name {name}");
        seen += 1;
    }
    assert!(seen >= 7, "{seen} experiments");
}
