//! The plan's keys: what enters them, byte for byte. A snapshot that changes means that every cache becomes stale:
//! raise the stage's version if that is meant.

use std::path::Path;

use emoflow::config::Experiment;
use emoflow::lm::device;
use emoflow::plan::{self, Plan, key::Digest};
use emoflow::progress::Silent;
use emoflow::resolve::resolve;
use emoflow::store::Store;

const EXPERIMENT: &str = r#"
name = "keys"
seed = 7
layers = [1]

[models.tiny]
path = "tests/fixtures/llama-gqa"

[emotions]
words = ["happy", "sad"]

[stories.own.generate]
model = "self"
topics = ["a lost key"]
per_topic = 1
max_new_tokens = 100

[stories.said.template]
passages = ["She felt {emotion}."]

[neutral.template]
passages = ["A table has four legs.", "Water boils at a hundred degrees.", "The train has six cars."]

[activations]
from_token = 1

[vectors]
denoise = { components = 1 }

[analysis.space.pca]
[analysis.similarity.cosine]
[analysis.words.logit_lens]
[analysis.causes.steering]
"#;

fn plan(text: &str) -> Plan {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let experiment = Experiment::parse(&root.join("keys.toml"), root, text).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    // The backend of a GPU has one name, that of a CPU hangs on the processor.
    let device = device::elsewhere("cuda").unwrap();
    plan::build(&resolve(experiment, &store, device, true, &Silent).unwrap())
}

#[test]
fn the_pre_images_are_what_they_were() {
    let mut shown = String::new();
    for node in plan(EXPERIMENT).nodes {
        let unit = &node.units[0];
        assert_eq!(unit.key, Digest::of(unit.preimage.as_bytes()), "{}", node.name());
        shown.push_str(&format!("{}\n{}\n\n", node.name(), unit.preimage));
    }
    insta::assert_snapshot!(shown);
}

/// Written out, so that what was made of a file stays valid whatever else files learn.
#[test]
fn the_pre_image_of_a_file_is_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("told.csv");
    std::fs::write(&path, "emotion,text\nsad,She wept.\nhappy,He sang.\n").unwrap();
    let file = format!("[stories.said.file]\npath = \"{}\"", path.display());
    let said = "[stories.said.template]\npassages = [\"She felt {emotion}.\"]";
    let plan = plan(&EXPERIMENT.replace(said, &file));
    let unit = &plan.nodes[plan.node("stories/said").unwrap()].units[0];
    let digest = Digest::of(&std::fs::read(&path).unwrap());
    let expected = format!(
        r#"{{"stage":"stories/file","version":2,"params":{{"files":[{{"content":"{digest}","format":"csv"}}],"columns":{{"emotion":"emotion","text":"text","topic":null}},"emotions":["happy","sad"],"first":0,"count":2}},"inputs":[],"model":null,"numerics":null}}"#
    );
    assert_eq!(unit.preimage, expected);
}

/// Where a server is, how it is asked and with which key are not in it.
#[test]
fn the_pre_image_of_stories_from_a_server_is_what_they_are_made_of() {
    let source = r#"
[stories.far.openai]
url = "http://127.0.0.1:9/v1/"
model = "teller"
api_key_env = "SOME_KEY"
topics = ["a lost key"]
per_topic = 1
"#;
    let plan = plan(&format!("{EXPERIMENT}{source}"));
    let node = &plan.nodes[plan.node("stories/far").unwrap()];
    let stands = Digest::of(br#"{"at":{"url":"http://127.0.0.1:9/v1","model":"teller"}}"#);
    let wanted = format!(
        concat!(
            r#"{{"stage":"stories/served","version":4,"params":{{"stories":["#,
            r#"{{"emotion":"happy","topic":"a lost key","index":0}},"#,
            r#"{{"emotion":"sad","topic":"a lost key","index":0}}],"seed":7,"max_new_tokens":256,"#,
            r#""temperature":1.0,"top_p":1.0,"top_k":0,"prompt":"Write a short story about {{topic}} whose main "#,
            r#"character feels {{emotion}}.","system":"","protocol":"openai","reject":{{"names_emotion":true,"#,
            r#""min_tokens":0,"attempts":4,"refusals":true}}}},"inputs":[],"model":"{}","numerics":null}}"#
        ),
        stands
    );
    assert_eq!(node.units[0].preimage, wanted);
    assert_eq!(node.model, None, "no model is loaded for it");
}

/// Names of the nodes whose keys differ between the two experiments.
fn changed(a: &Plan, b: &Plan) -> Vec<String> {
    let keys = |plan: &Plan, name: &str| {
        let node = plan.node(name)?;
        Some(plan.nodes[node].units.iter().map(|u| u.key).collect::<Vec<_>>())
    };
    b.nodes.iter().map(|n| n.name()).filter(|name| keys(a, name) != keys(b, name)).collect()
}

#[test]
fn a_field_changes_what_is_downstream_of_it_and_nothing_else() {
    let before = plan(EXPERIMENT);
    let from_own = ["stories/own@tiny", "activations/tiny/own", "vectors/tiny/own"];
    let of = |source: &str| ["space", "similarity", "words", "causes"].map(|a| format!("{a}/tiny/{source}"));
    let own: Vec<String> = from_own.iter().map(|s| s.to_string()).chain(of("own")).collect();
    let vectors: Vec<String> = ["neutral/tiny", "vectors/tiny/own", "vectors/tiny/said"]
        .iter()
        .map(|s| s.to_string())
        .chain(of("own"))
        .chain(of("said"))
        .collect();
    let cases: [(&str, &str, Vec<String>); 8] = [
        ("per_topic = 1", "per_topic = 1\ntemperature = 0.7", own.clone()),
        ("[\"a lost key\"]", "[\"a found key\"]", own),
        ("components = 1", "components = 2", vectors),
        (
            "[analysis.words.logit_lens]",
            "[analysis.words.logit_lens]\ntop = 3",
            vec!["words/tiny/own".into(), "words/tiny/said".into()],
        ),
        ("name = \"keys\"", "name = \"other\"", vec![]),
        ("layers = [1]", "layers = [1] # the second block", vec![]),
        (
            "[analysis.space.pca]\n[analysis.similarity.cosine]",
            "[analysis.similarity.cosine]\n[analysis.space.pca]",
            vec![],
        ),
        ("[\"happy\", \"sad\"]", "[ \"happy\",\n  \"sad\" ]", vec![]),
    ];
    for (from, to, mut expected) in cases {
        assert!(EXPERIMENT.contains(from), "{from}");
        let mut found = changed(&before, &plan(&EXPERIMENT.replacen(from, to, 1)));
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{from} -> {to}");
    }
    // What a chat template is told matters where it is rendered.
    let dated = |text: &str| text.replacen("seed = 7", "seed = 7\ndate = \"2025-01-02\"", 1);
    let mut found = changed(&before, &plan(&dated(EXPERIMENT)));
    found.retain(|name| !name.ends_with("/own"));
    assert_eq!(found, ["stories/own@tiny"]);
    let wrapped = EXPERIMENT.replacen("from_token = 1", "from_token = 1\nwrap = \"user\"", 1);
    let found = changed(&plan(&wrapped), &plan(&dated(&wrapped)));
    assert!(found.contains(&"activations/tiny/said".to_string()), "{found:?}");
    let read = |thinking| {
        let text = EXPERIMENT.replacen(
            "[stories.own.generate]\nmodel = \"self\"\ntopics = [\"a lost key\"]\nper_topic = 1\nmax_new_tokens = 100\n",
            "",
            1,
        );
        let model = "path = \"tests/fixtures/llama-gqa\"";
        plan(&text.replacen(model, &format!("{model}\nthinking = {thinking}"), 1))
    };
    assert_eq!(changed(&read(false), &read(true)), Vec::<String>::new(), "nothing is rendered");
    // The seed is the written stories', the topics' that are drawn and the random directions'.
    let mut seeded = changed(&before, &plan(&EXPERIMENT.replacen("seed = 7", "seed = 8", 1)));
    seeded.retain(|name| !name.ends_with("/own"));
    assert_eq!(seeded, ["stories/own@tiny", "words/tiny/said", "causes/tiny/said"]);
}

#[test]
fn two_models_share_only_the_stories() {
    let two = EXPERIMENT.replacen(
        "[emotions]",
        "[models.other]\npath = \"tests/fixtures/llama-bias\"\n\n[emotions]",
        1,
    );
    let plan = plan(&two);
    let mut seen = std::collections::BTreeMap::new();
    for node in &plan.nodes {
        for unit in &node.units {
            if let Some(other) = seen.insert(unit.key, node.name()) {
                panic!("{} and {other} have the same key", node.name());
            }
        }
    }
    assert!(plan.node("stories/own@other").is_some() && plan.node("stories/said").is_some());
    // Each model is loaded once.
    let order: Vec<_> = plan.nodes.iter().filter_map(|n| n.model).collect();
    assert!(order.is_sorted(), "{order:?}");
}
