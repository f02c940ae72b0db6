//! Published vectors, in the same table as vectors computed from stories.

use anyhow::{Context, Result, ensure};

use super::list;
use crate::exchange::read::{Named, Theirs};
use crate::lm::Layer;
use crate::stages::stories::words::folded;
use crate::store::table::{Column, Table};

/// Increased when the same files would give different tables.
pub const VERSION: u32 = 1;

/// The vectors available for `emotions`, in their order and spelling; case, spaces, hyphens and underscores do not
/// matter.
pub fn known(theirs: Theirs, emotions: &[String]) -> Theirs {
    let Theirs { d_model, emotions: mut all, resid_norm } = theirs;
    let mut kept = Vec::new();
    for emotion in emotions {
        let exact = all.iter().position(|one| one.name == *emotion);
        let at = exact.or_else(|| all.iter().position(|one| folded(&one.name) == folded(emotion)));
        kept.extend(at.map(|at| Named { name: emotion.clone(), rows: all.swap_remove(at).rows }));
    }
    Theirs { d_model, emotions: kept, resid_norm }
}

/// The vectors at a layer, unchanged. `ours`: the vectors from stories, whose residual norms are the unit of strength
/// where the file states no norms.
///
/// # Errors
/// An emotion has no vector in the file; no residual norm is known.
pub fn run(theirs: &Theirs, layer: Layer, ours: Option<&Table>) -> Result<Table> {
    let n = theirs.emotions.len();
    let mut values = Vec::new();
    for Named { name, rows } in &theirs.emotions {
        values.extend(rows.get(&layer).with_context(|| format!("`{name}` has no vector at layer {layer}"))?);
    }
    let of_stories = |column: &str| -> Result<f32> {
        let ours = ours.context("nothing says how long residuals are")?;
        ensure!(ours.i32("layer")?.first() == Some(&layer.number()), "norms of another layer");
        Ok(ours.f32(column)?[0])
    };
    let said = theirs.resid_norm.get(&layer).copied();
    let norm = |column: &str| {
        Ok::<_, anyhow::Error>(Column::F32(vec![said.map_or_else(|| of_stories(column), Ok)?; n]))
    };
    Ok(Table::new(
        "vectors/2",
        vec![
            ("emotion", Column::Str(theirs.emotions.iter().map(|one| one.name.clone()).collect())),
            ("layer", Column::I32(vec![layer.number(); n])),
            ("n_stories", Column::I32(vec![0; n])),
            ("vector", list(theirs.d_model, values.clone())),
            ("raw", list(theirs.d_model, values)),
            ("resid_norm", norm("resid_norm")?),
            ("rest_norm", norm("rest_norm")?),
            ("pooled_norm", norm("pooled_norm")?),
        ],
    ))
}
