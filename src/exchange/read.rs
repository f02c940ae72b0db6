//! Reads vectors computed elsewhere from GGUF control vectors, safetensors and npz files, which are untrusted input.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::{gguf, npz, safetensors};
use crate::lm::Layer;

/// Limit on the size of a file.
const LARGEST: u64 = 4 << 30;

/// Readable file formats, for messages.
pub const KNOWN: &str = "vectors are read from .gguf (control vectors), .safetensors and .npz files";

/// Why a file of this name cannot be read; `None` if it can.
pub fn refused(name: &str) -> Option<&'static str> {
    let known = [".gguf", ".safetensors", ".npz"].iter().any(|ending| name.to_lowercase().ends_with(ending));
    (!known).then_some("is in no format of vectors that is known")
}

/// Files of vectors, with the layers if the files do not state them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Files {
    /// Not part of any cache key.
    #[serde(skip)]
    pub paths: Vec<PathBuf>,
    /// Layers of the rows of each emotion, in order.
    pub layers: Option<Vec<Layer>>,
}

/// Vectors computed elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Theirs {
    pub d_model: usize,
    /// In the order of the files.
    pub emotions: Vec<Named>,
    /// Mean norm of the residual stream per layer, where a file states it.
    pub resid_norm: BTreeMap<Layer, f32>,
}

/// The vectors of one emotion.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub rows: BTreeMap<Layer, Vec<f32>>,
}

/// An array of numbers as stored in a file, in C order (slowest axis first).
pub struct Array {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Metadata of a file about its rows.
#[derive(Default)]
pub struct About {
    pub layers: Option<Vec<Layer>>,
    pub resid_norm: Option<Vec<f32>>,
}

impl Files {
    /// Reads all files and merges their vectors.
    ///
    /// # Errors
    /// A file is invalid (named in the error), or the files contradict each other.
    pub fn read(&self) -> Result<Theirs> {
        let mut all = Theirs::default();
        for path in &self.paths {
            let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let one = fs_err::metadata(path).map_err(anyhow::Error::from).and_then(|about| {
                ensure!(about.len() <= LARGEST, "it has more than {} GiB", LARGEST >> 30);
                let bytes = fs_err::read(path)?;
                of_bytes(path, &bytes, self.layers.as_deref())
            });
            all.add(one.with_context(|| shown.clone())?).with_context(|| shown)?;
        }
        ensure!(!all.emotions.is_empty(), "there is no vector");
        Ok(all)
    }
}

/// Parses the content of a file. `layers`: the layers of its rows, if the file does not state them.
///
/// # Errors
/// The content is invalid, or contradicts `layers`.
pub fn of_bytes(path: &Path, bytes: &[u8], layers: Option<&[Layer]>) -> Result<Theirs> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if ending.as_deref() == Some("gguf") {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        return gguf::read(Cursor::new(bytes), bytes, &stem);
    }
    let (about, arrays) = match ending.as_deref() {
        Some("npz") => npz::read(bytes)?,
        _ => safetensors::read(bytes)?,
    };
    let layers = match (about.layers, layers) {
        (Some(own), Some(given)) if own != given => {
            bail!("`layers` is {}, and the file says {}", shown(given), shown(&own))
        }
        (own, given) => own.or(given.map(<[Layer]>::to_vec)),
    };
    let mut theirs = Theirs::default();
    for Array { name, shape, values } in arrays {
        let (rows, d_model) = match shape.as_slice() {
            [d_model] => (1, *d_model),
            [rows, d_model] => (*rows, *d_model),
            _ => bail!("`{name}` has {} axes: `[layers, d_model]` is needed", shape.len()),
        };
        let Some(layers) = layers.as_deref() else {
            bail!(
                "it does not say which layers its rows are: write them as `layers = [...]`, counted from 0 by block"
            )
        };
        ensure!(rows == layers.len(), "`{name}` has {rows} rows, and the layers are {}", shown(layers));
        ensure!(d_model > 0 && values.len() == rows * d_model, "`{name}` has a width of {d_model}");
        let rows = layers.iter().copied().zip(values.chunks_exact(d_model).map(<[f32]>::to_vec)).collect();
        theirs.add(Theirs { d_model, emotions: vec![Named { name, rows }], resid_norm: BTreeMap::new() })?;
    }
    if let (Some(layers), Some(norms)) = (layers, about.resid_norm) {
        ensure!(
            layers.len() == norms.len(),
            "it has {} residual norms of {} layers",
            norms.len(),
            layers.len()
        );
        theirs.resid_norm = layers.into_iter().zip(norms).collect();
    }
    theirs.check()?;
    Ok(theirs)
}

impl Theirs {
    /// The layers that all of `emotions` have.
    pub fn layers(&self, emotions: &[String]) -> Vec<Layer> {
        let mut named = self.emotions.iter().filter(|one| emotions.contains(&one.name));
        let Some(first) = named.next() else { return Vec::new() };
        let others: Vec<&Named> = named.collect();
        let everywhere = |layer: &&Layer| others.iter().all(|one| one.rows.contains_key(*layer));
        first.rows.keys().filter(everywhere).copied().collect()
    }

    /// The vectors of an emotion.
    pub fn of(&self, emotion: &str) -> Option<&Named> {
        self.emotions.iter().find(|one| one.name == emotion)
    }

    /// Merges the vectors of another file.
    fn add(&mut self, other: Theirs) -> Result<()> {
        ensure!(
            self.emotions.is_empty() || self.d_model == other.d_model,
            "vectors of different widths, {} and {}",
            self.d_model,
            other.d_model
        );
        self.d_model = other.d_model;
        for one in other.emotions {
            ensure!(self.of(&one.name).is_none(), "`{}` is there twice", one.name);
            self.emotions.push(one);
        }
        for (layer, norm) in other.resid_norm {
            let before = *self.resid_norm.entry(layer).or_insert(norm);
            ensure!(
                before == norm,
                "files say different residual norms of layer {layer}, {before} and {norm}"
            );
        }
        Ok(())
    }

    /// Rejects values that are not finite, and norms that are not positive.
    fn check(&self) -> Result<()> {
        for Named { name, rows } in &self.emotions {
            for (layer, row) in rows {
                ensure!(row.iter().all(|x| x.is_finite()), "`{name}` is not finite at layer {layer}");
            }
        }
        let norm = self.resid_norm.iter().find(|(_, norm)| !(norm.is_finite() && **norm > 0.0));
        ensure!(norm.is_none(), "a residual norm that is no positive number");
        Ok(())
    }

    /// The vectors of a file with a single emotion that states its own layers.
    pub(super) fn single(
        name: String,
        rows: BTreeMap<Layer, Vec<f32>>,
        norms: BTreeMap<Layer, f32>,
    ) -> Result<Theirs> {
        let d_model = rows.values().next().map_or(0, Vec::len);
        ensure!(d_model > 0, "it holds no direction");
        ensure!(rows.values().all(|row| row.len() == d_model), "its directions are of different widths");
        let theirs = Theirs { d_model, emotions: vec![Named { name, rows }], resid_norm: norms };
        theirs.check()?;
        Ok(theirs)
    }
}

/// Decodes floats of two to eight bytes; `kind` is NumPy's dtype string, such as `<f4`, or `bf16`.
pub(super) fn numbers(kind: &str, bytes: &[u8]) -> Result<Vec<f32>> {
    fn of<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.chunks_exact(N).map(|chunk| read(chunk.try_into().expect("a chunk of N bytes"))).collect()
    }
    Ok(match kind {
        "<f2" => of(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
        "bf16" => of(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
        "<f4" => of(bytes, f32::from_le_bytes),
        "<f8" => of(bytes, |b| f64::from_le_bytes(b) as f32),
        other => bail!("its numbers are of type `{other}`; floats of 16, 32 and 64 bits are read"),
    })
}

fn shown(layers: &[Layer]) -> String {
    format!("[{}]", layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", "))
}
