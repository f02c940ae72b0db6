//! What an experiment file asks of a model that no text within its context has. Knows sizes, and no tokenizer.

use crate::config::problem::Problem;
use crate::config::{Asked, Model};
use crate::lm::Spec;

/// A source that `model` writes with more new tokens than its context has beside a request of at least one token. What the
/// requests take is known when they are tokens: see [`crate::stages::stories::generate::run`].
pub fn check(asked: &Asked, model: &Model, spec: &Spec) -> Option<Problem> {
    let told = asked.stories.iter().map(|source| (&source.kind, &source.span));
    let spoken = asked.dialogues.iter().filter_map(|dialogues| Some((dialogues.written()?, &dialogues.span)));
    let mut written = told
        .chain(asked.neutral)
        .chain(spoken)
        .filter_map(|(kind, span)| Some((kind.written_by(&model.name)?, span)));
    let (params, span) = written.find(|(params, _)| params.max_new_tokens >= spec.context)?;
    let message = format!(
        "`max_new_tokens` = {} does not fit the context of model `{}`, {} tokens, together with a prompt",
        params.max_new_tokens, model.name, spec.context
    );
    Some(Problem::at(span.clone(), message).hint("lower `max_new_tokens`"))
}
