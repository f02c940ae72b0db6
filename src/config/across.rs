//! `[analysis]`, across models: rules between these analyses and the rest of the file.

use super::analyses::Analyses;
use super::{Across, Model, Scale, Source};
use crate::params::Reader;
use crate::params::problem::{Problem, quoted, suggestion};
use crate::stages::across::rsa;
use crate::stages::analysis::Analysis as Kind;

/// Reports analyses across models that cannot be computed: a single model, a single set, stories that no two models
/// read.
pub(super) fn validate(
    models: &[Model],
    stories: &[Source],
    emotions: Option<&[String]>,
    analyses: &Analyses,
    root: &Reader<'_>,
) {
    let Analyses { single, across, scale } = analyses;
    let two = "add a second `[models.<name>]` table, or remove the analysis";
    for Across { name, kind, span } in across {
        let what = format!("`{}` ({name})", kind.kind());
        let problem = |message: String, hint: &str| Problem::at(span.clone(), message).hint(hint);
        let sets = models.len() * stories.len();
        if kind.inputs().sets.same_stories() && models.len() == 1 {
            root.note(problem(format!("{what} compares models, and there is one"), two));
        } else if !kind.inputs().sets.same_stories() && sets == 1 {
            let hint = "add a second model or a second source of stories, or remove the analysis";
            root.note(problem(format!("{what} compares sets of vectors, and there is one"), hint));
        } else if kind.inputs().sets.same_stories() && sets > 0 && !stories.iter().any(Source::is_shared) {
            let message = format!(
                "{what} needs stories that two models read, but here each model reads only its own stories"
            );
            let hint = "add a source that all read (`template`, `file`, or `generate` with one of [models] as its \
                        `model`), or use `rsa`, which compares vectors";
            root.note(problem(message, hint));
        }
        let few = emotions.filter(|emotions| emotions.len() < rsa::FEWEST);
        if let Some(emotions) = few.filter(|_| !matches!(kind, Kind::Cka(_))) {
            let message =
                format!("{what} compares emotions with each other, and there are {}", emotions.len());
            root.note(problem(message, "name at least three emotions"));
        }
    }
    for Scale { name, of, of_spans, span, .. } in scale {
        let what = format!("`scale` ({name})");
        let problem =
            |span: &super::Span, message, hint: String| Problem::at(span.clone(), message).hint(hint);
        if models.len() == 1 {
            root.note(problem(span, format!("{what} compares models, and there is one"), two.to_string()));
        }
        let known: Vec<&str> = single.iter().map(|analysis| analysis.name.as_str()).collect();
        if known.is_empty() {
            let hint = "add one, such as `[analysis.space.pca]`".to_string();
            root.note(problem(
                span,
                format!("{what} shows metrics of other analyses, and there is none"),
                hint,
            ));
            continue;
        }
        let wanted = of.iter().flatten().zip(of_spans);
        for (wanted, span) in wanted.filter(|(wanted, _)| !known.contains(&wanted.as_str())) {
            let hint = suggestion(wanted, "analyses of single models:", known.iter().copied());
            root.note(problem(
                span,
                format!("there is no analysis {} to take metrics of", quoted(wanted)),
                hint,
            ));
        }
    }
}
