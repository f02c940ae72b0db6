//! Files of imported vectors: found, read once, digested, and matched to models.

use std::collections::BTreeMap;

use anyhow::Result;

use super::digested::Digested;
use super::{Model, local};
use crate::config::problem::Problem;
use crate::config::{Asked, Import};
use crate::exchange::read::{Files, KNOWN, Theirs, refused};
use crate::lm::Layer;
use crate::plan::key::Digest;
use crate::stages::vectors::imported;
use crate::store::Store;

/// The files of a set in their current state.
#[derive(Debug)]
pub struct VectorFiles {
    pub files: Files,
    /// The digest of each file, and its name if that names an emotion.
    pub contents: Vec<(Digest, Option<String>)>,
    /// Emotions of the experiment that the files contain.
    pub emotions: Vec<String>,
    pub d_model: usize,
    /// Layers for which all of these have vectors, each with whether the file gives the residual norm there.
    pub layers: Vec<(Layer, bool)>,
    /// The only model they apply to; `None`: every model of that width.
    model: Option<String>,
    as_they_were: Vec<Digested>,
}

impl VectorFiles {
    /// An error if a file is no longer as it was when the run began, or was changed in between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.as_they_were.iter().try_for_each(|file| file.ensure_unchanged(store))
    }

    /// Whether the vectors apply to a model.
    pub fn are_of(&self, model: &Model) -> bool {
        model.checks.is_none()
            && self.model.as_ref().is_none_or(|name| *name == model.name)
            && self.d_model == model.spec.d_model
    }
}

fn found(import: &Import, asked: &Asked) -> Result<Files, Problem> {
    let paths = local::found_of(&import.path, asked.root, (refused, KNOWN));
    let paths = paths.map_err(|(message, hint)| Problem::at(import.span.clone(), message).hint(hint))?;
    Ok(import.files(paths))
}

/// The vectors for the experiment's emotions.
fn read(import: &Import, files: &Files, asked: &Asked) -> Result<Theirs, Problem> {
    let wrong = |message: String| Problem::at(import.span.clone(), message);
    let theirs = files.read().map_err(|error| wrong(format!("{error:#}")))?;
    let Some(emotions) = asked.emotions else { return Ok(theirs) };
    let there =
        theirs.emotions.iter().map(|one| format!("`{}`", one.name)).take(20).collect::<Vec<_>>().join(", ");
    let known = imported::known(theirs, emotions);
    if known.emotions.is_empty() {
        let message = "it has no vector of an emotion of `[emotions]`".to_string();
        return Err(wrong(message).hint(format!("it has {there}: name them in `words`")));
    }
    let names: Vec<String> = known.emotions.iter().map(|one| one.name.clone()).collect();
    if known.layers(&names).is_empty() {
        return Err(wrong("its emotions have no common layer".to_string()));
    }
    Ok(known)
}

/// Problems with the files that an experiment refers to.
pub(super) fn check(asked: &Asked) -> Vec<Problem> {
    let wrong = |import: &Import| found(import, asked).and_then(|files| read(import, &files, asked)).err();
    asked.imports.iter().filter_map(wrong).collect()
}

/// The files of every set, by name, for the models that could be pinned. Failures go to `problems`.
///
/// # Errors
/// A file cannot be digested.
pub(super) fn pin(
    asked: &Asked,
    models: &[Model],
    store: &Store,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<String, VectorFiles>> {
    let mut all = BTreeMap::new();
    for import in asked.imports {
        let files = match found(import, asked) {
            Ok(files) => files,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        // Recorded before reading, so that changes during reading are detected.
        let as_they_were = files.paths.iter().map(|path| Digested::of(path, store));
        let as_they_were = as_they_were.collect::<Result<Vec<_>>>()?;
        let theirs = match read(import, &files, asked) {
            Ok(theirs) => theirs,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let emotions: Vec<String> = theirs.emotions.iter().map(|one| one.name.clone()).collect();
        let layers = theirs.layers(&emotions).into_iter();
        let layers = layers.map(|layer| (layer, theirs.resid_norm.contains_key(&layer))).collect();
        let name = |path: &std::path::PathBuf| {
            let control = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
            control.then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        };
        let contents = as_they_were.iter().map(|file| (file.digest, name(&file.path))).collect();
        let (d_model, model) = (theirs.d_model, import.model.clone());
        let pinned = VectorFiles { files, contents, emotions, d_model, layers, model, as_they_were };
        problems.extend(unfit(import, &pinned, models));
        all.insert(import.name.clone(), pinned);
    }
    Ok(all)
}

/// The problem of vectors that fit no model, or none of the layers that it keeps.
fn unfit(import: &Import, pinned: &VectorFiles, models: &[Model]) -> Option<Problem> {
    let wrong = |message: String| Problem::at(import.span.clone(), message);
    let named = models.iter().filter(|model| import.model.as_ref().is_none_or(|name| *name == model.name));
    let widths =
        named.clone().map(|model| format!("{} of `{}`", model.spec.d_model, model.name)).collect::<Vec<_>>();
    if !models.iter().any(|model| pinned.are_of(model)) {
        // Unavailable models are reported elsewhere.
        let message =
            format!("the vectors have {} numbers, and `d_model` is {}", pinned.d_model, widths.join(", "));
        return (!widths.is_empty())
            .then(|| wrong(message).hint("vectors of another model cannot be added to this one's"));
    }
    let theirs: Vec<Layer> = pinned.layers.iter().map(|(layer, _)| *layer).collect();
    let of = models.iter().filter(|model| pinned.are_of(model));
    let lacking = of.into_iter().find(|model| !theirs.iter().any(|layer| model.layers.contains(layer)))?;
    let shown = |layers: &[Layer]| layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", ");
    let message = format!(
        "the vectors are at layer {}, and those of `{}` that are kept are {}",
        shown(&theirs),
        lacking.name,
        shown(&lacking.layers)
    );
    Some(
        wrong(message)
            .hint(format!("write `layers = [{}]` at the top of the file, to keep those", shown(&theirs))),
    )
}
