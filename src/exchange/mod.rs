//! Export and import of emotion vectors in file formats of other tools. Independent of plans and the cache.

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

/// The layer convention, stated in every file.
const CONVENTION: &str = "resid_post, 0-based block";

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A control vector of llama.cpp and repeng: one file an emotion
    Gguf,
    /// One tensor an emotion, [layers, d_model]
    Safetensors,
    /// The same for NumPy
    Npz,
}

/// The vectors of one model and one source of stories.
#[derive(Clone, Debug, PartialEq)]
pub struct Directions {
    /// In ascending order.
    pub layers: Vec<Layer>,
    pub d_model: usize,
    /// Mean norm of the residual stream over the stories' tokens, per layer: `resid_norm` of the vectors table.
    pub resid_norm: Vec<f32>,
    pub emotions: Vec<Emotion>,
    /// The model type in the model's config, such as `llama`.
    pub model_type: String,
    /// Provenance of the vectors, by key: `emoflow.model`, `emoflow.revision`, ...
    pub provenance: Vec<(String, String)>,
}

/// The vectors of one emotion.
#[derive(Clone, Debug, PartialEq)]
pub struct Emotion {
    pub name: String,
    /// `[layers, d_model]`, row-major.
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
    /// The vectors, scaled such that a strength of 1 adds what `unit` says.
    ///
    /// # Errors
    /// A vector is zero and therefore has no direction.
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

    /// Norm of what a strength of 1 adds at each layer, relative to the mean norm of the residual stream there.
    fn strength_1(&self, emotion: &Emotion) -> Vec<f32> {
        let rows = emotion.values.chunks_exact(self.d_model).zip(&self.resid_norm);
        rows.map(|(row, &resid)| (norm(row) / f64::from(resid)) as f32).collect()
    }

    /// All metadata of the vectors as JSON, for the formats that have no typed metadata.
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

    /// Writes the files of a format: `stem` with a file extension, or (GGUF) a folder `stem` with one file per emotion.
    /// Returns their paths.
    ///
    /// # Errors
    /// I/O errors; for GGUF, layers that the format cannot hold ([`Directions::not_for_gguf`] lists them).
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

    /// The layers that a GGUF control vector cannot hold: llama.cpp adds nothing before block 1 and rejects a file with
    /// `direction.0`.
    pub fn not_for_gguf(layers: &[Layer]) -> Vec<Layer> {
        layers.iter().copied().filter(|layer| layer.block().is_none_or(|block| block == 0)).collect()
    }
}

/// Unique file names for the emotions.
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
