//! Checks what an experiment file requires of a model without a chat template: texts or questions in conversation
//! turns.

use crate::config::problem::Problem;
use crate::config::{Asked, Model};
use crate::lm::{Checkpoint, Tokenizer, Wrap};

/// The problem if something needs a chat template and `model` has none. An unreadable tokenizer is reported by the
/// parts that need it.
pub fn check(asked: &Asked, model: &Model, checkpoint: &Checkpoint) -> Option<Problem> {
    let wrap = match asked.wrap {
        Some(Wrap::User) => Some("`wrap = \"user\"` in `[activations]`".to_string()),
        Some(Wrap::Assistant) => Some("`wrap = \"assistant\"` in `[activations]`".to_string()),
        Some(Wrap::Raw) | None => None,
    };
    let analysis = || {
        let analysis = asked.analysis.iter().find(|analysis| analysis.kind.inputs().chat)?;
        Some(format!("`[analysis.{}.{}]`", analysis.name, analysis.kind.kind()))
    };
    let what = wrap.or_else(analysis)?;
    if Tokenizer::is_chat_tokenizer(checkpoint).unwrap_or(true) {
        return None;
    }
    let message = format!("{what} needs a chat template, and model `{}` has none", model.name);
    let hint = "write `wrap = \"raw\"` there, which reads texts as they stand, or take a model that was trained on turns";
    Some(Problem::at(model.source_span.clone(), message).hint(hint))
}
