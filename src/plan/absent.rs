//! What a plan lacks because a model cannot be had: the model, and the texts that it alone was to write. Knows no node
//! but by name.

use crate::config::{Experiment, SourceKind, Writer};
use crate::resolve::Resolved;
use crate::stages::vectors::Denoise;

use super::{NEUTRAL, across};

/// A part of the experiment without which the plan was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    /// `models/<name>`, `stories/<source>`, or an analysis's name.
    pub name: String,
    pub why: String,
    /// The nodes that the plan would have with it, each with its stage; itself first.
    pub nodes: Vec<(String, String)>,
}

impl Absent {
    /// Whether it is only for lack of something else.
    pub fn is_blocked(&self) -> bool {
        !self.name.starts_with("models/")
    }
}

/// The model that was to write the texts of `kind` for all and is not there.
pub fn lost_writer<'a>(resolved: &Resolved, kind: &'a SourceKind) -> Option<&'a str> {
    match kind {
        SourceKind::Generate { writer: Writer::Model(name), .. } => {
            resolved.absent.iter().any(|absent| absent.name == *name).then_some(name)
        }
        _ => None,
    }
}

/// The neutral text of `experiment`, where vectors are denoised.
pub fn denoised(experiment: &Experiment) -> Option<&SourceKind> {
    experiment.neutral.as_ref().filter(|_| experiment.vectors.denoise != Denoise::None)
}

/// What the plan of `resolved` lacks.
pub fn absent(resolved: &Resolved) -> Vec<Absent> {
    let experiment = &resolved.experiment;
    let stories = experiment.stories.iter().map(|source| (source.name.as_str(), &source.kind));
    let sources: Vec<_> = stories.chain(denoised(experiment).map(|kind| (NEUTRAL, kind))).collect();
    let models = resolved.absent.iter().map(|model| {
        let mut nodes = vec![(format!("models/{}", model.name), "models".to_string())];
        for (source, kind) in &sources {
            if matches!(kind, SourceKind::Generate { writer: Writer::Own, .. }) {
                nodes.push((format!("stories/{source}@{}", model.name), "stories".to_string()));
            }
            nodes.extend(readings(experiment, &model.name, source));
        }
        Absent { name: nodes[0].0.clone(), why: model.why.clone(), nodes }
    });
    let lost = sources.iter().filter_map(|(source, kind)| {
        let why = format!("needs models/{}", lost_writer(resolved, kind)?);
        let mut nodes = vec![(format!("stories/{source}"), "stories".to_string())];
        for model in &resolved.models {
            nodes.extend(readings(experiment, &model.name, source));
            // Without neutral text there are no vectors at all.
            let others = sources.iter().filter(|(other, _)| *source == NEUTRAL && *other != NEUTRAL);
            nodes.extend(others.flat_map(|(other, _)| readings(experiment, &model.name, other).skip(1)));
        }
        Some(Absent { name: nodes[0].0.clone(), why, nodes })
    });
    let there: Vec<&str> =
        sources.iter().filter(|(_, kind)| lost_writer(resolved, kind).is_none()).map(|s| s.0).collect();
    let there: Vec<&str> = there.into_iter().filter(|source| *source != NEUTRAL).collect();
    models.chain(lost).chain(across::without_pairs(resolved, &there)).collect()
}

/// The nodes of what `model` makes of `source`: activations first.
fn readings<'a>(
    experiment: &'a Experiment,
    model: &'a str,
    source: &'a str,
) -> impl Iterator<Item = (String, String)> + 'a {
    let node = move |stage: &str| (format!("{stage}/{model}/{source}"), stage.to_string());
    let made: Vec<(String, String)> = if source == NEUTRAL {
        vec![(format!("neutral/{model}"), "neutral".to_string())]
    } else {
        let analyses = experiment.analysis.iter();
        let analyses = analyses.map(|a| (format!("{}/{model}/{source}", a.name), a.kind.kind().to_string()));
        let across = across::readings(experiment, model, source);
        [node("vectors")].into_iter().chain(analyses).chain(across).collect()
    };
    std::iter::once(node("activations")).chain(made)
}
