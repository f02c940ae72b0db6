//! Rules between parts of an experiment that are each valid on their own.

use super::root::Root;
use super::{Source, SourceKind, Span, across};
use crate::params::{Parts, Problem, Reader};
use crate::stages::activations::{self, Short};
use crate::stages::vectors::{Center, Denoise};

/// Reports every contradiction between the parts that could be read.
pub(super) fn validate(parts: &Parts<Root>, root: &Reader<'_>) {
    let written = |path: &[&str]| root.scope.file.find(path).map(|node| node.span.clone());
    let models = parts.models.as_deref().unwrap_or_default();
    let stories = parts.stories.as_deref().unwrap_or_default();
    let dialogues = parts.dialogues.as_deref().unwrap_or_default();
    let neutral = parts.neutral.as_ref().ok().and_then(Option::as_ref);
    let emotions = parts.emotions.as_deref().ok();
    let (activations, vectors) =
        (parts.activations.as_ref().ok(), parts.vectors.as_ref().ok().map(|v| &v.made));
    if let (Some(activations), Some(emotions)) = (activations, emotions) {
        let from_token = written(&["activations", "from_token"]);
        for source in stories.iter().chain(neutral) {
            if let Some(problem) = beyond(activations, emotions, source, from_token.as_ref()) {
                root.note(problem);
            }
        }
    }
    if let (Ok(shard), Some(emotions)) = (parts.shard, emotions) {
        let place = written(&["shard"]);
        for source in stories {
            if let Some(problem) = too_few_in_a_shard(shard, emotions.len(), source) {
                root.note(match &place {
                    Some(span) => Problem { span: span.clone(), ..problem },
                    None => problem,
                });
            }
        }
    }
    for model in models.iter().filter(|model| model.thinking) {
        let told = stories.iter().chain(neutral).map(|source| (&source.name, &source.kind));
        let mut sources = told.chain(dialogues.iter().filter_map(|d| Some((&d.name, d.written()?))));
        if let Some((source, _)) = sources.find(|(_, kind)| kind.written_by(&model.name).is_some()) {
            let message =
                format!("`{}` writes stories (`{source}`), which `thinking` does not support", model.name);
            let hint = "the end of the reasoning is marked differently by each model; remove `thinking`, or let \
                 another model write the stories";
            root.note(Problem::at(model.thinking_span.clone(), message).hint(hint));
        }
    }
    if let (Some([_]), Some(Center::Emotions)) = (emotions, vectors.map(|vectors| vectors.center)) {
        let span = written(&["emotions", "words"]).or(written(&["emotions"])).unwrap_or(0..0);
        let problem = Problem::at(span, "only one emotion: its mean minus the mean of all emotions is zero");
        root.note(problem.hint("name at least two emotions, or write `center = \"none\"` in `[vectors]`"));
    }
    if let (Some(Denoise::Components(components)), Some(source)) =
        (vectors.map(|vectors| vectors.denoise), neutral)
        && let SourceKind::Template(texts) = &source.kind
        && components >= texts.passages.len()
    {
        let count = texts.passages.len();
        let message =
            format!("`denoise` removes {components} principal components, but neutral texts: {count}");
        let span = written(&["vectors", "denoise"]).unwrap_or(source.span.clone());
        let hint =
            format!("so few have at most {}; provide more neutral texts, or lower `components`", count - 1);
        root.note(Problem::at(span, message).hint(hint));
    }
    if let Ok(analyses) = &parts.analysis {
        across::validate(models, stories, emotions, analyses, root);
    }
}

/// Several stories per reply that could never be requested, because a shard, in which stories are requested together,
/// has too few of each emotion.
fn too_few_in_a_shard(shard: usize, emotions: usize, source: &Source) -> Option<Problem> {
    let (SourceKind::Generate { params, .. } | SourceKind::Served { params, .. }) = &source.kind else {
        return None;
    };
    let per_reply = params.several.as_ref()?.per_reply;
    let all = emotions * params.topics.len() * params.per_topic;
    if all <= shard || shard / emotions.max(1) >= per_reply {
        return None;
    }
    let message = format!(
        "a shard of {shard} stories holds {} of each of {emotions} emotions, and `{}` asks for {per_reply} in a reply",
        (shard / emotions.max(1)).max(1),
        source.name
    );
    let hint = format!("write `shard = {}` or more at the top of the file", emotions * per_reply);
    Some(Problem::at(source.span.clone(), message).hint(hint))
}

/// Pooling that would start after the end of every text of a source.
fn beyond(
    activations: &activations::Params,
    emotions: &[String],
    source: &Source,
    written: Option<&Span>,
) -> Option<Problem> {
    let (most, why) = match &source.kind {
        SourceKind::Generate { params, .. } => (params.max_new_tokens, "`max_new_tokens`"),
        SourceKind::Template(template) => {
            let word = emotions.iter().map(String::len).max().unwrap_or(0);
            let filled = |passage: &String| {
                let places = passage.matches("{emotion}").count();
                passage.len() - places * "{emotion}".len() + places * word
            };
            // A token covers at least one byte of the text.
            (template.passages.iter().map(filled).max().unwrap_or(0), "the longest passage's bytes")
        }
        // The tokens of a server differ from those of the reading model.
        SourceKind::File { .. } | SourceKind::Dataset(_) | SourceKind::Served { .. } => return None,
    };
    let from_token = activations.from_token;
    if from_token < most || activations.short == Short::Whole {
        return None;
    }
    let label = match source.name.as_str() {
        "neutral" => "every neutral text".to_string(),
        name => format!("every story of `{name}`"),
    };
    let message = format!("`from_token` = {from_token} is beyond {label}: at most {most} tokens ({why})");
    let hint = "lower `from_token`, make the texts longer, or pool short ones whole with `short = \"whole\"`";
    Some(Problem::at(written.unwrap_or(&source.span).clone(), message).hint(hint))
}
