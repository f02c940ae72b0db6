//! Emotion vectors as files of other tools: written for them, and read from them. Knows no plan and no cache.

mod gguf;
mod npz;
pub mod read;
mod safetensors;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::atomic::replace;
use crate::lm::Layer;

/// What every file says of its layers.
const CONVENTION: &str = "resid_post, 0-based block";

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A control vector of llama.cpp and repeng: one file an emotion
    Gguf,
    /// One tensor an emotion, [layers, d_model]
    Safetensors,
    /// The same for NumPy
    Npz,
}

/// The vectors of one model and source of stories.
#[derive(Clone, Debug, PartialEq)]
pub struct Directions {
    /// In rising order.
    pub layers: Vec<Layer>,
    pub d_model: usize,
    /// The mean norm of the residuals of the stories' tokens at each layer: `resid_norm` of the vectors table.
    pub resid_norm: Vec<f32>,
    pub emotions: Vec<Emotion>,
    /// The kind of model, as its config calls it: `llama`.
    pub model_type: String,
    /// Where the vectors are from, by key: `emoflow.model`, `emoflow.revision`, ...
    pub provenance: Vec<(String, String)>,
}

/// The vectors of one emotion.
#[derive(Clone, Debug, PartialEq)]
pub struct Emotion {
    pub name: String,
    /// `[layers, d_model]`, row after row.
    pub values: Vec<f32>,
}

/// What a strength of 1 adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// The vector as it is
    Vector,
    /// The mean norm of tokens' residuals at the layer, in the vector's direction
    ResidNorm,
}

impl Directions {
    /// Itself, so scaled that a strength of 1 adds what `unit` says.
    ///
    /// # Errors
    /// A vector is zero, and has no direction.
    pub fn scaled(mut self, unit: Unit) -> Result<Directions> {
        if unit == Unit::Vector {
            return Ok(self);
        }
        for emotion in &mut self.emotions {
            let rows = emotion.values.chunks_exact_mut(self.d_model).zip(&self.resid_norm).zip(&self.layers);
            for ((row, &resid), layer) in rows {
                let norm = norm(row);
                ensure!(norm > 0.0, "the vector of `{}` at layer {layer} is zero", emotion.name);
                row.iter_mut().for_each(|x| *x = (f64::from(*x) * f64::from(resid) / norm) as f32);
            }
        }
        Ok(self)
    }

    /// What a strength of 1 adds at each layer, in mean norms of tokens' residuals there.
    fn strength_1(&self, emotion: &Emotion) -> Vec<f32> {
        let rows = emotion.values.chunks_exact(self.d_model).zip(&self.resid_norm);
        rows.map(|(row, &resid)| (norm(row) / f64::from(resid)) as f32).collect()
    }

    /// All that is said of the vectors, as JSON: what formats without a place for it hold.
    fn said(&self) -> Map<String, Value> {
        let mut said = Map::new();
        said.insert("emoflow.layers".into(), json!(self.layers));
        said.insert("emoflow.layer_convention".into(), CONVENTION.into());
        said.insert("emoflow.resid_norm".into(), json!(self.resid_norm));
        let strengths = self.emotions.iter().map(|e| (e.name.clone(), json!(self.strength_1(e))));
        said.insert("emoflow.strength_1".into(), Value::Object(strengths.collect()));
        said.insert("emoflow.model_type".into(), self.model_type.clone().into());
        for (key, value) in &self.provenance {
            said.insert(key.clone(), value.clone().into());
        }
        said
    }

    /// Writes the files of a format: `stem` with an ending, or (GGUF) a folder `stem` with a file an emotion. Returns their
    /// paths.
    ///
    /// # Errors
    /// What the disk says; for GGUF layers that its format has not ([`Directions::for_gguf`] leaves them out).
    pub fn write(&self, format: Format, stem: &Path) -> Result<Vec<PathBuf>> {
        let whole = |ending: &str| PathBuf::from(format!("{}.{ending}", stem.display()));
        let files = match format {
            Format::Safetensors => vec![(whole("safetensors"), safetensors::bytes(self)?)],
            Format::Npz => vec![(whole("npz"), npz::bytes(self)?)],
            Format::Gguf => {
                let names = file_names(&self.emotions);
                let each = self.emotions.iter().zip(names);
                each.map(|(emotion, name)| {
                    Ok((stem.join(format!("{name}.gguf")), gguf::bytes(self, emotion)?))
                })
                .collect::<Result<_>>()?
            }
        };
        files.iter().try_for_each(|(path, bytes)| replace(path, bytes))?;
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }

    /// The layers that a GGUF control vector cannot hold: llama.cpp adds nothing before block 1, and refuses a file with
    /// `direction.0`.
    pub fn not_for_gguf(layers: &[Layer]) -> Vec<Layer> {
        layers.iter().copied().filter(|layer| layer.block().is_none_or(|block| block == 0)).collect()
    }
}

/// Names of files for emotions, each once.
fn file_names(emotions: &[Emotion]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for emotion in emotions {
        let plain = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let stem: String = emotion.name.chars().map(plain).collect();
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let free = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name));
        names.push(free.expect("numbers do not end"));
    }
    names
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
