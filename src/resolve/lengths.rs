//! Checks lengths in an experiment file against a model's context. Needs sizes, but no tokenizer.

use crate::config::problem::Problem;
use crate::config::{Asked, Model};
use crate::lm::Spec;

/// The problem if `model` generates a source with so many new tokens that its context has no room for a prompt of even
/// one token. The actual length of prompts is only known once they are tokenized: see
/// [`crate::stages::stories::generate::run`].
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
