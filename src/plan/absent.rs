//! Parts that are missing from a plan because a model is unavailable: the model, and the texts that only it could
//! generate. Refers to nodes by name only.

use crate::config::{Experiment, SourceKind, Writer};
use crate::resolve::Resolved;
use crate::stages::analysis::Analysis;
use crate::stages::readings::From;
use crate::stages::vectors::Denoise;

use super::rollouts::other_judge;
use super::{NEUTRAL, Subject, across};

/// A part of the experiment that is missing from the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    /// A model, a source, or an analysis of several sets.
    pub subject: Subject,
    pub why: String,
    /// The nodes that the plan lacks because of this, each with its stage; itself first.
    pub nodes: Vec<(Subject, String)>,
}

impl Absent {
    /// Whether it is missing only because of something else.
    pub fn is_blocked(&self) -> bool {
        !matches!(self.subject, Subject::Model(_))
    }
}

/// The unavailable model that would have generated the texts of `kind` for all readers.
pub fn lost_writer<'a>(resolved: &Resolved, kind: &'a SourceKind) -> Option<&'a str> {
    match kind {
        SourceKind::Generate { writer: Writer::Model(name), .. } => {
            resolved.absent.iter().any(|absent| absent.name == *name).then_some(name)
        }
        _ => None,
    }
}

/// The neutral text of `experiment`, if vectors are denoised.
pub fn denoised(experiment: &Experiment) -> Option<&SourceKind> {
    experiment.neutral.as_ref().filter(|_| experiment.vectors.denoise != Denoise::None)
}

/// The parts missing from the plan of `resolved`.
pub fn absent(resolved: &Resolved) -> Vec<Absent> {
    let experiment = &resolved.experiment;
    let stories = experiment.stories.iter().map(|source| (source.name.as_str(), &source.kind));
    let sources: Vec<_> = stories.chain(denoised(experiment).map(|kind| (NEUTRAL, kind))).collect();
    let models = resolved.absent.iter().map(|model| {
        let mut nodes = vec![(Subject::Model(model.name.clone()), "models".to_string())];
        for (source, kind) in &sources {
            if matches!(kind, SourceKind::Generate { writer: Writer::Own, .. }) {
                nodes.push((Subject::stories(source, Some(&model.name)), "stories".to_string()));
            }
            nodes.extend(readings(experiment, &model.name, source));
        }
        Absent { subject: nodes[0].0.clone(), why: model.why.clone(), nodes }
    });
    let lost = sources.iter().filter_map(|(source, kind)| {
        let why = format!("needs {}", Subject::Model(lost_writer(resolved, kind)?.to_string()));
        let mut nodes = vec![(Subject::stories(source, None), "stories".to_string())];
        for model in resolved.readers() {
            nodes.extend(readings(experiment, &model.name, source));
            // Without neutral text no vectors can be computed.
            let others = sources.iter().filter(|(other, _)| *source == NEUTRAL && *other != NEUTRAL);
            nodes.extend(others.flat_map(|(other, _)| readings(experiment, &model.name, other).skip(1)));
        }
        Some(Absent { subject: nodes[0].0.clone(), why, nodes })
    });
    let unheard = experiment.dialogues.iter().filter_map(|dialogues| {
        let why =
            format!("needs {}", Subject::Model(lost_writer(resolved, dialogues.written()?)?.to_string()));
        let mut nodes = vec![
            (Subject::stories(&dialogues.name, None), "stories".to_string()),
            (Subject::texts(&dialogues.name), "texts".to_string()),
        ];
        for analysis in experiment.analysis.iter().filter(|analysis| hears(&analysis.kind, &dialogues.name)) {
            let sets = resolved.models.iter().flat_map(|m| experiment.stories.iter().map(move |s| (m, s)));
            let kind = analysis.kind.kind().to_string();
            nodes.extend(
                sets.map(|(m, s)| (Subject::analysis(&analysis.name, &m.name, &s.name), kind.clone())),
            );
        }
        Some(Absent { subject: nodes[0].0.clone(), why, nodes })
    });
    let unjudged = experiment.analysis.iter().filter_map(|analysis| {
        let judge = other_judge(&analysis.kind)?;
        let gone = resolved.absent.iter().any(|absent| absent.name == judge);
        let readers = resolved.models.iter();
        let named = readers.flat_map(|model| {
            let told = experiment.stories.iter();
            told.map(|source| Subject::analysis(&analysis.name, &model.name, &source.name))
        });
        let nodes: Vec<_> = named.map(|subject| (subject, analysis.kind.kind().to_string())).collect();
        let why = format!("is judged by {}", Subject::Model(judge.to_string()));
        (gone && !nodes.is_empty()).then(|| Absent { subject: nodes[0].0.clone(), why, nodes })
    });
    let there: Vec<&str> =
        sources.iter().filter(|(_, kind)| lost_writer(resolved, kind).is_none()).map(|s| s.0).collect();
    let there: Vec<&str> = there.into_iter().filter(|source| *source != NEUTRAL).collect();
    models.chain(lost).chain(unheard).chain(unjudged).chain(across::without_pairs(resolved, &there)).collect()
}

/// Whether an analysis reads conversations of a source.
fn hears(kind: &Analysis, source: &str) -> bool {
    let pooled = kind.spans().map(|wanted| wanted.from);
    let mut all = kind.reads().into_iter().flat_map(|wanted| wanted.from).chain(pooled);
    all.any(|from| from == From::Transcripts(source.to_string()))
}

/// The nodes for `model` reading `source`: activations first.
fn readings<'a>(
    experiment: &'a Experiment,
    model: &'a str,
    source: &'a str,
) -> impl Iterator<Item = (Subject, String)> + 'a {
    let made: Vec<(Subject, String)> = if source == NEUTRAL {
        vec![(Subject::neutral(model), "neutral".to_string())]
    } else {
        let analyses = experiment.analysis.iter();
        let analyses =
            analyses.map(|a| (Subject::analysis(&a.name, model, source), a.kind.kind().to_string()));
        let across = across::readings(experiment, model, source);
        [(Subject::vectors(model, source), "vectors".to_string())]
            .into_iter()
            .chain(analyses)
            .chain(across)
            .collect()
    };
    std::iter::once((Subject::activations(model, source), "activations".to_string())).chain(made)
}
