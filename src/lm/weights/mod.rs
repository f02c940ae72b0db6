//! The tensors of a checkpoint, by name: read from any supported file format, with names and shapes checked against a
//! `Spec`. Independent of what the tensors are used for.

mod dequantized;
mod save;
mod shards;

pub use dequantized::{BYTES_AT_ONCE as DEQUANTIZED_AT_ONCE, Dequantized};
pub use save::save;
pub use shards::Shards;

use super::family::shown_by_tensors;
use super::spec::{Dtype, Spec};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeSet, HashMap};
use tch::{Device, Kind, Tensor};

/// Tensors that can be read one at a time: files of some format, or another source with a computation on top.
pub trait TensorSource {
    /// Name and shape of every tensor, from headers alone. Names are those of Hugging Face's checkpoints, in any
    /// spelling that [`Spec::canonical`] knows; each occurs once.
    fn tensors(&self) -> Vec<(String, Vec<i64>)>;

    /// The tensor `name` of [`tensors`](Self::tensors) as `kind` on `device`.
    ///
    /// # Errors
    /// An unknown name; data that cannot be read or has an unsupported type.
    fn read(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor>;

    /// Whether tensors requested on the CPU in their stored type stay in the mapped file and take no memory.
    fn is_mapped(&self) -> bool {
        false
    }
}

/// Reads every tensor of `source` that belongs to the model, one by one, as `dtype` on `device`. Names and shapes are
/// checked against `spec` from the headers before any data is read.
///
/// # Errors
/// Those of [`check_source`] and [`TensorSource::read`].
pub fn load(
    spec: &Spec,
    source: &dyn TensorSource,
    dtype: Dtype,
    device: Device,
) -> Result<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    for (name, stored) in names(spec, source)? {
        let tensor =
            source.read(&stored, dtype.kind(), device).with_context(|| format!("tensor `{name}`"))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// Compares the tensors of `source` with those that the model needs. Reads no data.
///
/// # Errors
/// Two tensors with the same name; those of [`check`].
pub fn check_source(spec: &Spec, source: &dyn TensorSource) -> Result<()> {
    names(spec, source).map(drop)
}

/// The checked tensors of `source` that belong to the model: pairs of canonical and stored name.
fn names(spec: &Spec, source: &dyn TensorSource) -> Result<Vec<(String, String)>> {
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for (stored, shape) in source.tensors() {
        let name = spec.canonical(&stored);
        ensure!(names.insert(name.clone()), "tensor `{name}` is there twice");
        if spec.spare(&name).is_none() {
            found.push((name, stored, shape));
        }
    }
    let copy = copied_unembed(spec);
    let own = found.iter().filter(|(name, ..)| copy.as_ref() != Some(name));
    check(spec, own.map(|(name, _, shape)| (name.as_str(), shape.clone())))?;
    Ok(found.into_iter().map(|(name, stored, _)| (name, stored)).collect())
}

/// Compares the names and shapes of the tensors found with those that the model needs.
///
/// # Errors
/// Lists all tensors that are missing, unused, or of a wrong shape.
pub fn check<'a>(spec: &Spec, found: impl Iterator<Item = (&'a str, Vec<i64>)>) -> Result<()> {
    let found: HashMap<&str, Vec<i64>> = found.collect();
    let wanted = spec.tensors();
    let mut problems = Vec::new();
    for (name, shape) in &wanted {
        match found.get(name.as_str()) {
            None => problems.push(format!("tensor `{name}` is missing")),
            Some(there) if there != shape => {
                problems.push(format!("tensor `{name}` has shape {there:?}, config.json says {shape:?}"));
            }
            Some(_) => {}
        }
    }
    let wanted: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let left: BTreeSet<&str> = found.keys().copied().filter(|name| !wanted.contains(name)).collect();
    problems
        .extend(left.iter().map(|name| format!("tensor `{name}` is in the checkpoint but not in the model")));
    if problems.is_empty() {
        return Ok(());
    }
    if let Some(refused) = shown_by_tensors(left.iter().copied()) {
        bail!(refused);
    }
    const SHOWN: usize = 10;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    bail!("the checkpoint's tensors are not those of its config.json:\n  {}", problems.join("\n  "))
}

/// Removes tensors that are not part of the model (see [`Spec::spare`]), and a copy of the embedding stored as the
/// unembedding of a tied model.
///
/// # Errors
/// A tied model whose stored unembedding differs from its embedding.
pub fn take_spare(spec: &Spec, tensors: &mut HashMap<String, Tensor>) -> Result<()> {
    tensors.retain(|name, _| spec.spare(name).is_none());
    if let Some(copy) = copied_unembed(spec).and_then(|name| tensors.remove(&name)) {
        let embed = tensors.get(&format!("{}.weight", spec.names.embed));
        ensure!(
            embed.is_some_and(|embed| embed.size() == copy.size() && embed.equal(&copy)),
            "config.json ties the unembedding to the embedding, but `{}.weight` differs from `{}.weight`",
            spec.names.unembed,
            spec.names.embed
        );
    }
    Ok(())
}

fn copied_unembed(spec: &Spec) -> Option<String> {
    spec.tied.then(|| format!("{}.weight", spec.names.unembed))
}
