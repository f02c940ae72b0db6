//! Vectors of others in each format.

use std::path::Path;
use std::sync::Arc;

use emoflow::exchange::read::of_bytes;
use emoflow::exchange::{Directions, Emotion, Format};
use emoflow::lm::Layer;

use crate::engine::{Shape, Target, USUAL, hold, quiet};
use crate::said;

fn vectors(name: &'static str, format: Format, shape: Shape) {
    quiet();
    let place = tempfile::tempdir().unwrap();
    let layers = vec![Layer::Block(1), Layer::Block(2)];
    let emotion = |name: &str| Emotion { name: name.into(), values: vec![0.5; 6] };
    let directions = Directions {
        layers,
        d_model: 3,
        resid_norm: vec![2.0, 3.0],
        emotions: vec![emotion("happy"), emotion("sad")],
        model_type: "llama".into(),
        provenance: Vec::new(),
    };
    let files = directions.write(format, &place.path().join("v")).unwrap();
    let seeds = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let path = files[0].clone();
    hold(Target {
        name,
        shape,
        seeds,
        words: &[
            "direction.1",
            "emoflow.layers",
            "controlvector",
            "<f4",
            "<f8",
            "<i8",
            "(2, 3)",
            "F16",
            "BF16",
            "embed",
        ],
        executions: 400,
        bounds: USUAL,
        read: Arc::new(move |_: &Path, bytes: &[u8]| said(of_bytes(&path, bytes, None))),
    });
}

#[test]
fn vectors_gguf() {
    vectors("vectors-gguf", Format::Gguf, Shape::Bytes);
}

#[test]
fn vectors_safetensors() {
    vectors("vectors-safetensors", Format::Safetensors, Shape::Framed);
}

#[test]
fn vectors_npz() {
    vectors("vectors-npz", Format::Npz, Shape::Bytes);
}
