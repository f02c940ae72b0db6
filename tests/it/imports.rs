//! Vectors of others: what `export` writes comes back as it was, and what is steered with it is the same to the bit.

use std::collections::BTreeMap;
use std::path::Path;

use crate::project::{Project, Ran};

const EXPERIMENT: &str = r#"
layers = [1, 2]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad", "calm"]
[stories.said.template]
passages = ["I was {emotion} all day, said the old man by the sea.", "She is {emotion} now, and will be so tomorrow."]
[activations]
from_token = 2
[analysis.similarity.cosine]
[analysis.words.logit_lens]
topics = 0
[analysis.space.geometry]
[analysis.along.readings]
texts = ["He lost his key, and found it again."]
[analysis.causes.steering]
strength = [0.5]
unit = "resid_norm"
random = 2
permuted = 0
shuffled = 0
topics = 0
resamples = 0
coherence = "none"
"#;

/// The rows of a table that are of a source, without the columns that name it, by the source.
fn rows(project: &Project, table: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut reader =
        csv::Reader::from_path(project.path(&format!("results/exp/tables/{table}.csv"))).unwrap();
    let heads = reader.headers().unwrap().clone();
    let at = heads.iter().position(|head| head == "stories").unwrap();
    let mut all: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for record in reader.records().map(Result::unwrap) {
        let cells = record.iter().enumerate().filter(|(column, _)| *column != at);
        all.entry(record[at].to_string())
            .or_default()
            .push(cells.map(|(_, cell)| cell.to_string()).collect());
    }
    all
}

fn export(project: &Project, more: &[&str]) -> Ran {
    let out = project.path("theirs");
    let args = [&["--device", "cpu", "--out", out.to_str().unwrap()], more].concat();
    let ran = project.emoflow("export", &args);
    assert_eq!(ran.code, 0, "{}", ran.out);
    ran
}

fn with(tables: &str) -> String {
    format!("{EXPERIMENT}{tables}")
}

#[test]
fn what_is_exported_comes_back_and_steers_the_same() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&["--only", "vectors/*"]).code, 0);
    for format in ["safetensors", "npz"] {
        export(&project, &["--format", format]);
    }
    export(&project, &["--format", "gguf"]);
    project.write(&with(
        "[vectors.tensors]\npath = \"theirs/demo/said.safetensors\"\n[vectors.arrays]\npath = \"theirs/demo/said.npz\"\n\
         [vectors.control]\npath = \"theirs/demo/said/*.gguf\"\nmodel = \"demo\"\n",
    ));
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    let of = |set: &str| {
        let names = ran.nodes.keys().filter(|name| name.ends_with(&format!("/demo/{set}")));
        names.map(|name| name.split('/').next().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("tensors"), ["along", "causes", "readings", "similarity", "vectors", "words"]);
    assert_eq!(of("tensors"), of("control"));
    for table in ["causes", "similarity", "words"] {
        let found = rows(&project, table);
        assert!(!found["said"].is_empty());
        for set in ["tensors", "arrays", "control"] {
            assert_eq!(found[set], found["said"], "{table} of {set}");
        }
    }
    // Written again, they are the same file.
    let before = std::fs::read(project.path("theirs/demo/said/sad.gguf")).unwrap();
    export(&project, &["--format", "gguf", "--stories", "control", "--emotions", "sad"]);
    let after = std::fs::read(project.path("theirs/demo/control/sad.gguf")).unwrap();
    let data = 2 * 4 * 192;
    assert_eq!(before[before.len() - data..], after[after.len() - data..]);

    // Where they are is in no key; what they hold is.
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
    let (from, to) = (project.path("theirs/demo/said.npz"), project.path("elsewhere.npz"));
    std::fs::rename(&from, &to).unwrap();
    let text = std::fs::read_to_string(project.path("exp.toml")).unwrap();
    project.write(&text.replace("theirs/demo/said.npz", "elsewhere.npz"));
    assert!(project.run(&[]).names("ran").iter().all(|name| *name == "report"));
    std::fs::copy(project.path("theirs/demo/control/sad.gguf"), project.path("theirs/demo/said/sad.gguf"))
        .unwrap();
    let again = project.run(&[]);
    assert!(again.names("ran").contains(&"vectors/demo/control"), "{:?}", again.nodes);
    assert!(again.names("cached").contains(&"vectors/demo/arrays"));
}

/// A safetensors file of others, which says nothing: arrays of `[rows, width]` under names.
fn tensors(path: &Path, names: &[&str], rows: usize, width: usize) {
    let data: Vec<u8> = (0..rows * width).flat_map(|i| (i as f32 / 100.0).sin().to_le_bytes()).collect();
    let view =
        |_| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![rows, width], &data).unwrap();
    let views = names.iter().map(|name| (name.to_string(), view(name)));
    std::fs::write(path, safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()).unwrap();
}

#[test]
fn vectors_of_others_are_taken_by_name_and_checked() {
    let project = Project::new(EXPERIMENT);
    let file = project.path("x.safetensors");
    let said = |tables: &str| {
        project.write(&with(tables));
        let checked = project.emoflow("check", &[]);
        let ran = project.run(&["--only", "vectors/*"]);
        (checked.code, ran)
    };
    let plain = "[vectors.theirs]\npath = \"x.safetensors\"\nlayers = [1, 2]\n";
    assert_eq!(said(plain).0, 2, "there is no file");
    tensors(&file, &["Happy", "CALM", "bored"], 2, 192);
    let (code, ran) = said(plain);
    assert_eq!((code, ran.code), (0, 0));
    let read = std::fs::File::open(project.path("results/exp/vectors/demo/theirs.parquet")).unwrap();
    let table = emoflow::store::parquet::read(read, "vectors/2").unwrap();
    assert_eq!(table.str("emotion").unwrap(), ["happy", "calm", "happy", "calm"]);
    assert_eq!(table.i32("layer").unwrap(), [1, 1, 2, 2]);
    assert_eq!(table.i32("n_stories").unwrap(), [0; 4]);
    let (width, values) = table.list("vector").unwrap();
    assert_eq!((width, values[3], values[192]), (192, 0.03f32.sin(), 0.0));
    // Strengths are counted in the norms of our own stories.
    let ours = std::fs::File::open(project.path("results/exp/vectors/demo/said.parquet")).unwrap();
    let ours = emoflow::store::parquet::read(ours, "vectors/2").unwrap();
    assert_eq!(table.f32("resid_norm").unwrap()[0], ours.f32("resid_norm").unwrap()[0]);
    // Each of these is said when the file is checked, but for what only the model says.
    let other = plain.replace("layers = [1, 2]", "");
    assert_eq!(said(&other).0, 2, "nobody says which layers they are");
    assert_eq!(said(&plain.replace("[1, 2]", "[1]")).0, 2, "two rows");
    assert_eq!(said(&plain.replace("theirs", "said")).0, 2, "a source has that name");
    assert_eq!(said(&format!("{plain}model = \"demo2\"\n")).0, 2, "no such model");
    assert_eq!(said(&plain.replace("path", "paht")).0, 2);
    assert_eq!(said(&plain.replace("[1, 2]", "[3, 0]")).1.code, 2, "kept are others");
    tensors(&file, &["bored"], 2, 192);
    assert_eq!(said(plain).0, 2, "not emotions of the experiment");
    tensors(&file, &["happy"], 2, 191);
    assert_eq!(said(plain).1.code, 2, "of another width");
    std::fs::write(&file, b"no tensors").unwrap();
    assert_eq!(said(plain).0, 2);
}
