//! `[sweep]`: which variants there are, what they share, and how results tell them apart.

use std::collections::BTreeSet;
use std::path::Path;

use emoflow::config::Experiment;
use emoflow::lm::device;
use emoflow::plan::{self, Plan};
use emoflow::progress::Silent;
use emoflow::resolve::resolve;
use emoflow::store::Store;

use crate::project::Project;

const EXPERIMENT: &str = r#"
layers = [1]
[models.tiny]
path = "{fixture}"
[emotions]
words = ["happy", "sad", "calm"]
[stories.said.template]
passages = ["She felt {emotion} all the long day.", "A {emotion} person walked by the river."]
[neutral.template]
passages = ["A table has four legs.", "Water boils at a hundred degrees.", "The train has six cars."]
[activations]
from_token = 0
[vectors]
denoise = "none"
[analysis.space.pca]
[analysis.similarity.cosine]
"#;

fn text(sweep: &str) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
    format!("{}\n{sweep}", EXPERIMENT.replace("{fixture}", fixture.to_str().unwrap()))
}

fn plan(text: &str) -> Plan {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let experiment = Experiment::parse(&root.join("swept.toml"), root, text).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    plan::build(&resolve(experiment, &store, device::choose("cpu").unwrap(), true, &Silent).unwrap())
}

fn names(plan: &Plan) -> Vec<String> {
    plan.nodes.iter().map(|node| node.name()).collect()
}

const SWEEP: &str =
    "[sweep]\nactivations.from_token = [0, 2]\nvectors.denoise = [\"none\", { components = 1 }]";

#[test]
fn variants_share_what_is_the_same_and_are_named_by_what_differs() {
    let swept = plan(&text(SWEEP));
    let expected = [
        "stories/said",
        // Only where something is denoised; the same text for both values of `from_token`.
        "stories/neutral",
        "activations/tiny/said~from_token=0",
        "vectors/tiny/said~from_token=0~denoise=none",
        "space/tiny/said~from_token=0~denoise=none",
        "similarity/tiny/said~from_token=0~denoise=none",
        "activations/tiny/neutral~from_token=0",
        "neutral/tiny~from_token=0",
        "vectors/tiny/said~from_token=0~denoise=components-1",
        "space/tiny/said~from_token=0~denoise=components-1",
        "similarity/tiny/said~from_token=0~denoise=components-1",
        "activations/tiny/said~from_token=2",
        "vectors/tiny/said~from_token=2~denoise=none",
        "space/tiny/said~from_token=2~denoise=none",
        "similarity/tiny/said~from_token=2~denoise=none",
        "activations/tiny/neutral~from_token=2",
        "neutral/tiny~from_token=2",
        "vectors/tiny/said~from_token=2~denoise=components-1",
        "space/tiny/said~from_token=2~denoise=components-1",
        "similarity/tiny/said~from_token=2~denoise=components-1",
    ];
    assert_eq!(names(&swept), expected);
    let unique: BTreeSet<String> = names(&swept).into_iter().collect();
    assert_eq!(unique.len(), swept.nodes.len());
}

/// Each variant's keys are those of the experiment with its values written in.
#[test]
fn a_variant_has_the_keys_of_the_experiment_that_it_is() {
    let swept = plan(&text(SWEEP));
    let key = |plan: &Plan, name: &str| plan.nodes[plan.node(name).expect(name)].units[0].key;
    for (from_token, denoise, label) in
        [(0, "\"none\"", "none"), (2, "\"none\"", "none"), (2, "{ components = 1 }", "components-1")]
    {
        let written = text("")
            .replace("from_token = 0", &format!("from_token = {from_token}"))
            .replace("denoise = \"none\"", &format!("denoise = {denoise}"));
        let alone = plan(&written);
        for stage in ["vectors", "space", "similarity"] {
            let name = format!("{stage}/tiny/said~from_token={from_token}~denoise={label}");
            assert_eq!(key(&swept, &name), key(&alone, &format!("{stage}/tiny/said")), "{name}");
        }
        let name = format!("activations/tiny/said~from_token={from_token}");
        assert_eq!(key(&swept, &name), key(&alone, "activations/tiny/said"));
    }
}

#[test]
fn models_stay_together_and_axes_that_do_not_matter_are_not_in_names() {
    let second = text("[models.other]\npath = \"{fixture}\"\n[analysis.causes.steering]\n[sweep]\nanalysis.causes.steering.strength = [[0.5], [1.0, 2.0]]")
        .replace("{fixture}", &format!("{}/tests/fixtures/llama-untied", env!("CARGO_MANIFEST_DIR")));
    let swept = plan(&second);
    let of = |model: &str| -> Vec<usize> {
        let nodes = swept.nodes.iter().enumerate();
        nodes.filter(|(_, n)| n.id.subject.model() == Some(model)).map(|(place, _)| place).collect()
    };
    assert!(of("tiny").last() < of("other").first());
    assert!(names(&swept).contains(&"vectors/other/said".to_string()));
    assert!(names(&swept).contains(&"causes/other/said~strength=0.5".to_string()));
    assert!(names(&swept).contains(&"causes/tiny/said~strength=1-2".to_string()));
}

#[test]
fn a_run_tells_variants_apart_in_tables_files_and_the_report() {
    let project = Project::new(&text(SWEEP));
    let first = project.run(&[]);
    assert_eq!(first.code, 0, "{}", first.out);
    let again = project.run(&[]);
    assert!(again.out.starts_with("ran 0,"), "{}", again.out);
    let csv = std::fs::read_to_string(project.path("results/exp/tables/similarity.csv")).unwrap();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("model,stories,variant,layer,"));
    let variants: BTreeSet<String> =
        lines.map(|line| line.split('"').nth(1).unwrap_or_default().to_string()).collect();
    let expected = ["from_token=0", "from_token=2"]
        .into_iter()
        .flat_map(|from| ["none", "components-1"].map(|denoise| format!("{from}, denoise={denoise}")));
    assert_eq!(variants, expected.collect());
    let vectors = project.path("results/exp/vectors/tiny/said~from_token=2~denoise=none.parquet");
    assert!(vectors.is_file());
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("activations.from_token = 0, 2; vectors.denoise = none, components-1: 4 variants"));

    // One more value: only what it makes is made.
    project.write(&text(&SWEEP.replace("[0, 2]", "[0, 2, 3]")));
    let wider = project.run(&[]);
    assert!(wider.names("ran").iter().all(|name| name.contains("from_token=3") || *name == "report"));
    assert_eq!(wider.names("ran").len(), 10, "{:?}", wider.names("ran"));
    // A value set on the command line is no axis any more.
    let set = project.run(&["--set", "activations.from_token=2"]);
    assert_eq!(set.names("ran"), ["report"]);
    assert!(set.nodes.contains_key("vectors/tiny/said~denoise=none"), "{:?}", set.nodes.keys());
    let only = project.run(&["--only", "variant:from_token=3,stage:vectors"]);
    assert_eq!((only.code, only.out.trim()), (0, "ran 0, cached 2, failed 0"));
}

#[test]
fn what_is_wrong_with_a_sweep_is_said_at_its_place() {
    let problems = |sweep: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Experiment::parse(&root.join("swept.toml"), root, &text(sweep)).unwrap_err().to_string()
    };
    let check = |sweep: &str, wanted: &[&str]| {
        let shown = problems(sweep);
        for part in wanted {
            assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
        }
        assert!(shown.contains("1 problem in"), "{shown}");
    };
    check("[sweep]", &["`[sweep]` sweeps nothing", "from_token = [0, 50]"]);
    check("[sweep]\nactivations.from_token = 3", &["must be a list of values, not an integer"]);
    check("[sweep]\nactivations.from_token = []", &["`sweep.activations.from_token` has no value"]);
    check("[sweep]\nactivations.from_token = [1, 1]", &["lists a value twice"]);
    check("[sweep]\nmodels.tiny.dtype = [\"f32\"]", &["cannot be swept", "several `[models.<name>]` tables"]);
    check("[sweep]\nlayers = [[1], [2]]", &["cannot be swept", "keep several layers"]);
    check(
        "[sweep]\nactivations.form_token = [1, 2]",
        &["unknown key `form_token`", "did you mean `from_token`"],
    );
    check(
        "[sweep]\nactivations.wrap = [\"raw\", \"usr\"]",
        &["swept.toml:19:28", "`usr`", "did you mean `user`"],
    );
    check("[sweep]\nanalysis.spice.pca.components = [1, 2]", &["no `[analysis.spice]`", "space"]);
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    check(&format!("[sweep]\nseed = [{}]", many.join(", ")), &["more than 1000 variants"]);
}
