//! `emoflow export` of vectors in the cache, read back by readers that are not the program's own.

use std::path::PathBuf;

use emoflow::store::parquet;
use emoflow::store::table::Table;
use safetensors::SafeTensors;

use crate::project::{Project, Ran};

const EXPERIMENT: &str = r#"
layers = [0, 1, 2]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad", "calm"]
[stories.said.template]
passages = ["I was {emotion} all day, said the old man by the sea.", "She is {emotion} now, and will be so tomorrow."]
[activations]
from_token = 2
"#;

fn export(project: &Project, more: &[&str]) -> Ran {
    project.emoflow("export", &[&["--device", "cpu"], more].concat())
}

fn paths(ran: &Ran) -> Vec<PathBuf> {
    assert_eq!(ran.code, 0, "{}", ran.out);
    ran.out.lines().map(PathBuf::from).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// The vector of an emotion at a layer, and the norm of residuals there, from the results.
fn vector(table: &Table, emotion: &str, layer: i32) -> (Vec<f32>, f32) {
    let (width, values) = table.list("vector").unwrap();
    let is = |row: &usize| {
        table.str("emotion").unwrap()[*row] == emotion && table.i32("layer").unwrap()[*row] == layer
    };
    let row = (0..table.rows()).find(is).unwrap();
    (values[row * width..(row + 1) * width].to_vec(), table.f32("resid_norm").unwrap()[row])
}

#[test]
fn vectors_are_the_same_in_every_format() {
    let project = Project::new(EXPERIMENT);
    let none = export(&project, &["--format", "npz"]);
    assert_eq!((none.code, none.out.as_str()), (1, ""), "nothing is in the cache");
    assert_eq!(project.run(&["--only", "vectors/*"]).code, 0);
    let file = std::fs::File::open(project.path("results/exp/vectors/demo/said.parquet")).unwrap();
    let table = parquet::read(file, "vectors/2").unwrap();

    let files = paths(&export(&project, &["--format", "safetensors", "--layers", "0-1"]));
    assert_eq!(files, [project.path("results/exp/export/demo/said.safetensors")]);
    let bytes = std::fs::read(&files[0]).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let said = header.metadata().as_ref().unwrap();
    let resid: Vec<f32> = serde_json::from_str(&said["emoflow.resid_norm"]).unwrap();
    let strength: serde_json::Value = serde_json::from_str(&said["emoflow.strength_1"]).unwrap();
    assert_eq!((said["emoflow.layers"].as_str(), said["emoflow.stories"].as_str()), ("[0,1]", "said"));
    assert_eq!(read.len(), 3);
    for emotion in ["happy", "sad", "calm"] {
        let tensor = read.tensor(emotion).unwrap();
        let (first, norm) = vector(&table, emotion, 0);
        let (second, _) = vector(&table, emotion, 1);
        assert_eq!(tensor.shape(), [2, first.len()]);
        assert_eq!(floats(tensor.data()), [first.clone(), second].concat());
        assert_eq!(resid[0], norm);
        let length = first.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let expected = length / f64::from(norm);
        assert!((strength[emotion][0].as_f64().unwrap() / expected - 1.0).abs() < 1e-5);
    }

    // Block 0 has no place in GGUF.
    let out = project.path("cv");
    let out = out.to_str().unwrap();
    let files = paths(&export(&project, &["--format", "gguf", "--emotions", "sad", "--out", out]));
    assert_eq!(files, [project.path("cv/demo/said/sad.gguf")]);
    let bytes = std::fs::read(&files[0]).unwrap();
    assert!(bytes.starts_with(b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0"), "version 3, two tensors");
    let data: Vec<f32> = [1, 2].into_iter().flat_map(|layer| vector(&table, "sad", layer).0).collect();
    assert_eq!(
        floats(&bytes[bytes.len() - 4 * data.len()..]),
        data,
        "widths are a multiple of the alignment"
    );
    assert_eq!(export(&project, &["--format", "gguf", "--layers", "0"]).code, 2);

    let files = paths(&export(&project, &["--format", "npz", "--layers", "2", "--unit", "resid-norm"]));
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&files[0]).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut zip.by_name("calm.npy").unwrap(), &mut bytes).unwrap();
    let (plain, norm) = vector(&table, "calm", 2);
    let scaled = floats(&bytes[bytes.len() - 4 * plain.len()..]);
    let length = scaled.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    assert!((length / f64::from(norm) - 1.0).abs() < 1e-5, "as long as residuals are");
    assert!((scaled[3] / scaled[5] - plain[3] / plain[5]).abs() < 1e-3);
}

#[test]
fn what_is_not_there_is_refused() {
    let project = Project::new(EXPERIMENT);
    for more in [["--model", "demp"], ["--stories", "own"], ["--emotions", "happy,sda"], ["--layers", "9"]] {
        assert_eq!(export(&project, &[&["--format", "npz"], &more[..]].concat()).code, 2, "{more:?}");
    }
    assert_eq!(export(&project, &["--format", "npz", "--variant", "from_token=5"]).code, 2);
    assert_eq!(export(&project, &["--format", "npz", "--layers", "2-x"]).code, 2);
}
