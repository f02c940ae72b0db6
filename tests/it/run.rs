//! Whole runs, in process: what runs, what is cached, what is left.

use emoflow::plan::key::Digest;
use emoflow::store::{Lookup, Store};

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [2, 3]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "joyful", "sad", "angry"]

[stories.passages.template]
set = "passages-10"

[neutral.template]
set = "neutral-40"

[activations]
from_token = 3

[vectors]
denoise = { components = 2 }

[analysis.space.pca]
components = 2
[analysis.similarity.cosine]
pairs = [["happy", "sad"]]
[analysis.words.logit_lens]
[analysis.causes.steering]
random = 2
"#;

const ALL: [&str; 11] = [
    "activations/demo/neutral",
    "activations/demo/passages",
    "causes/demo/passages",
    "neutral/demo",
    "report",
    "similarity/demo/passages",
    "space/demo/passages",
    "stories/neutral",
    "stories/passages",
    "vectors/demo/passages",
    "words/demo/passages",
];

#[test]
fn the_second_run_runs_nothing() {
    let project = Project::new(EXPERIMENT);
    let first = project.run(&[]);
    assert_eq!(first.code, 0);
    assert_eq!(first.out, "ran 11, cached 0, failed 0\n");
    assert_eq!(first.names("ran"), ALL);
    let second = project.run(&[]);
    assert_eq!(second.out, "ran 0, cached 11, failed 0\n");
    for made in [
        "report.html",
        "run.json",
        "tables/space.parquet",
        "tables/space.csv",
        "tables/similarity.parquet",
        "tables/words.csv",
        "tables/causes.csv",
        "vectors/demo/passages.parquet",
        "stories/passages.parquet",
        "stories/passages.csv",
        "stories/neutral.csv",
    ] {
        assert!(project.path("results/exp").join(made).is_file(), "{made}");
    }
}

/// After a full run of `EXPERIMENT`, the same with `from` replaced by `to` runs exactly `expected`.
fn change(from: &str, to: &str, expected: &[&str]) {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let changed = EXPERIMENT.replacen(from, to, 1);
    assert_ne!(changed, EXPERIMENT, "`{from}` is not in the experiment");
    project.write(&changed);
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.names("ran"), expected, "{from} -> {to}");
}

#[test]
fn comments_and_order_and_spaces_change_nothing() {
    change("[vectors]\ndenoise", "# about vectors\n[vectors]\n  denoise  ", &[]);
}

#[test]
fn an_analysis_of_its_own_changes_alone() {
    change(
        "components = 2\n[analysis.sim",
        "components = 3\n[analysis.sim",
        &["report", "space/demo/passages"],
    );
}

#[test]
fn pairs_are_shown_and_not_computed() {
    change("[[\"happy\", \"sad\"]]", "[[\"happy\", \"joyful\"]]", &["report"]);
}

#[test]
fn denoising_changes_what_is_below_it() {
    let below = ["causes", "similarity", "space", "vectors", "words"];
    let mut expected: Vec<String> = below.iter().map(|n| format!("{n}/demo/passages")).collect();
    expected.extend(["neutral/demo".to_string(), "report".to_string()]);
    expected.sort();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    change("{ components = 2 }", "{ components = 1 }", &expected);
}

#[test]
fn stories_are_not_written_again_for_another_pooling() {
    let expected: Vec<&str> = ALL.iter().copied().filter(|n| !n.starts_with("stories/")).collect();
    change("from_token = 3", "from_token = 4", &expected);
}

#[test]
fn another_name_of_the_model_computes_nothing() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    project.write(&EXPERIMENT.replace("[models.demo]", "[models.other]"));
    let ran = project.run(&[]);
    assert_eq!(ran.names("ran"), ["report"]);
    let table = std::fs::read_to_string(project.path("results/exp/tables/space.csv")).unwrap();
    assert!(table.lines().nth(1).unwrap().starts_with("other,passages,"), "{table}");
}

#[test]
fn wider_layers_compute_only_the_new_ones() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let units = || {
        std::fs::read_dir(project.path("cache/activations"))
            .unwrap()
            .flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap())
            .count()
    };
    let before = units();
    project.write(&EXPERIMENT.replace("layers = [2, 3]", "layers = [1, 2, 3]"));
    project.run(&[]);
    assert_eq!(units(), before + 2, "one more layer of stories and of neutral text");
    project.write(&EXPERIMENT.replace("layers = [2, 3]", "layers = [3]"));
    let narrower = project.run(&[]);
    assert!(!narrower.nodes.iter().any(|(n, s)| n.starts_with("activations") && s == "ran"));
}

#[test]
fn activations_that_are_gone_are_not_asked_for_again() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    std::fs::remove_dir_all(project.path("cache/activations")).unwrap();
    let ran = project.run(&[]);
    assert_eq!(ran.names("ran"), Vec::<&str>::new());
    assert_eq!(ran.names("not_needed"), ["activations/demo/neutral", "activations/demo/passages"]);
}

#[test]
fn two_projects_end_in_the_same_bytes() {
    let (a, b) = (Project::new(EXPERIMENT), Project::new(EXPERIMENT));
    a.run(&[]);
    b.run(&["--only", "vectors/*"]);
    b.run(&[]);
    for table in ["tables/space.parquet", "tables/causes.parquet", "vectors/demo/passages.parquet"] {
        let bytes = |p: &Project| std::fs::read(p.path("results/exp").join(table)).unwrap();
        assert!(bytes(&a) == bytes(&b), "{table} differs");
    }
}

#[test]
fn only_runs_what_is_named_and_what_it_needs() {
    let project = Project::new(EXPERIMENT);
    let ran = project.run(&["--only", "neutral/*"]);
    assert_eq!(ran.names("ran"), ["activations/demo/neutral", "neutral/demo", "stories/neutral"]);
    assert_eq!(project.run(&["--only", "nothing*"]).code, 4);
}

#[test]
fn results_that_are_gone_are_written_again() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    for gone in ["tables/words.csv", "vectors/demo/passages.parquet", "stories/passages.csv", "report.html"] {
        std::fs::remove_file(project.path("results/exp").join(gone)).unwrap();
        assert_eq!(project.run(&[]).names("ran"), ["report"], "{gone}");
        assert!(project.path("results/exp").join(gone).is_file(), "{gone}");
    }
}

const WRITTEN: &str = r#"
name = "exp"
layers = [3]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "sad"]

[stories.own.generate]
topics = ["rain"]
per_topic = 8
max_new_tokens = 40
reject = { attempts = 2 }

[stories.fixed.template]
passages = ["He was {emotion}.", "She was {emotion} too."]

[activations]
from_token = 1
"#;

#[test]
fn stories_and_rejected_texts_can_be_read() {
    let project = Project::new(WRITTEN);
    assert_eq!(project.run(&[]).code, 0);
    let read = |name: &str| std::fs::read_to_string(project.path("results/exp/stories").join(name));
    let lines = |name: &str| csv::Reader::from_reader(read(name).unwrap().as_bytes()).records().count();
    let (kept, rejected) = (lines("own@demo.csv"), lines("own@demo.rejected.csv"));
    // Each of the sixteen was tried once or twice.
    assert!(
        rejected > 0 && kept <= 16 && kept + rejected >= 16 && kept + rejected <= 32,
        "{kept} {rejected}"
    );
    assert_eq!(lines("fixed.csv"), 4);
    assert!(read("fixed.rejected.csv").is_err());
    let page = crate::page(&project.path("results/exp/report.html"));
    for shown in [
        format!("{rejected}: names_emotion {rejected}"),
        "Rejected texts".into(),
        "by chance".into(),
        "4 (100 %)".into(),
    ] {
        assert!(page.contains(&shown), "{shown}");
    }
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
    std::fs::remove_file(project.path("results/exp/stories/own@demo.rejected.csv")).unwrap();
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert_eq!(lines("own@demo.rejected.csv"), rejected);
    // A source that is gone from the experiment leaves no file.
    project.write(&WRITTEN.replace("stories.fixed", "stories.other"));
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert!(read("fixed.csv").is_err());
    assert_eq!(lines("other.csv"), 4);
}

#[test]
fn there_is_no_report_of_nothing() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.emoflow("report", &["--device", "cpu"]).code, 1);
    assert!(!project.path("results").exists());
}

#[test]
fn the_plan_says_what_would_run() {
    let project = Project::new(EXPERIMENT);
    let before = project.emoflow("plan", &["--device", "cpu"]);
    assert!(before.out.ends_with("11 to run, 0 cached\n"), "{}", before.out);
    assert!(!project.path("cache").exists(), "plan wrote something");
    project.run(&[]);
    assert!(project.emoflow("plan", &["--device", "cpu"]).out.ends_with("0 to run, 11 cached\n"));
}

#[test]
fn a_damaged_artifact_is_made_again() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let table = std::fs::read(project.path("results/exp/tables/space.parquet")).unwrap();
    let folder = std::fs::read_dir(project.path("cache/vectors")).unwrap().next().unwrap().unwrap().path();
    let entry = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(entry.join("vectors.parquet")).unwrap();
    bytes[100] ^= 4;
    std::fs::write(entry.join("vectors.parquet"), bytes).unwrap();
    let ran = project.run(&[]);
    assert_eq!(ran.names("ran"), ["vectors/demo/passages"]);
    assert!(project.path("cache/quarantine").is_dir());
    assert_eq!(std::fs::read(project.path("results/exp/tables/space.parquet")).unwrap(), table);
}

#[test]
fn what_fails_stops_only_what_depends_on_it() {
    // Passages too short for pooling to begin: the vectors fail, the neutral text does not.
    let project = Project::new(
        &EXPERIMENT
            .replace("set = \"passages-10\"", "passages = [\"{emotion} wwwwwwwwwwwwwwwwwwwwwwwwwww\"]"),
    );
    let ran = project.run(&["--set", "activations.from_token=30"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.names("failed"), ["vectors/demo/passages"]);
    assert_eq!(ran.names("blocked").len(), 4);
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("failed, or not run yet") && page.contains("vectors/demo/passages, "), "{page}");
    assert!(ran.names("ran").contains(&"neutral/demo"));
}

#[test]
fn generated_stories_do_not_depend_on_what_was_written_before() {
    let text = EXPERIMENT.replace(
        "[stories.passages.template]\nset = \"passages-10\"",
        "[stories.own.generate]\nmodel = \"self\"\ntopics = [\"a lost key\", \"a birthday party\"]\nper_topic = 2\n\
         max_new_tokens = 60\nreject = { names_emotion = true, attempts = 6 }",
    );
    let project = Project::new(&text);
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    assert!(ran.nodes.contains_key("stories/own@demo"));
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
    let again = Project::new(&text);
    again.run(&[]);
    let vectors = |p: &Project| std::fs::read(p.path("results/exp/vectors/demo/own.parquet")).unwrap();
    assert!(vectors(&project) == vectors(&again));
}

#[test]
fn the_experiment_of_the_readme_runs() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let project = Project::new(&example.replace("\"models/demo\"", "\"{demo}\""));
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert_eq!(ran.out, "ran 11, cached 0, failed 0\n");
    assert!(project.path("results/first/report.html").is_file());
}

#[test]
fn a_file_of_many_shards_is_stored_in_its_order_whatever_is_missing_of_it() {
    let project = Project::new(
        "name = \"exp\"\nshard = 2\n[models.demo]\npath = \"{demo}\"\n[emotions]\nwords = [\"happy\", \"sad\"]\n\
         [stories.told.file]\npath = \"told.csv\"\n",
    );
    // More shards than one reading gives; every third row is of another emotion.
    let emotion = |row: usize| ["happy", "bored", "sad"][row % 3];
    let rows: String = (0..300).map(|row| format!("{},story {row}\n", emotion(row))).collect();
    std::fs::write(project.path("told.csv"), format!("emotion,text\n{rows}")).unwrap();
    let expected: Vec<String> =
        (0..300).filter(|row| row % 3 != 1).map(|row| format!("story {row}")).collect();
    let run = || {
        let ran = project.run(&["--only", "stories/told"]);
        assert_eq!((ran.code, ran.names("ran")), (0, vec!["stories/told"]));
        let text = std::fs::read(project.path("results/exp/run.json")).unwrap();
        let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let keys = run["plan"][0][1].as_array().unwrap().iter();
        let keys: Vec<Digest> = keys.map(|key| key.as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(keys.len(), 100);
        let store = Store::open(project.path("cache")).unwrap();
        let mut texts = Vec::new();
        for key in &keys {
            let Lookup::Hit(entry) = store.lookup("stories", key).unwrap() else { panic!("no {key}") };
            texts.extend(entry.read("stories").unwrap().str("text").unwrap().to_vec());
        }
        assert_eq!(texts, expected);
        (keys, store)
    };
    let (keys, store) = run();
    for key in keys.iter().step_by(7) {
        let Lookup::Hit(entry) = store.lookup("stories", key).unwrap() else { panic!("no {key}") };
        std::fs::remove_dir_all(entry.dir()).unwrap();
    }
    run();
}
