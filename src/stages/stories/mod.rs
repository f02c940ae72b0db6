//! Where stories come from: one file a kind of source.

use serde::Serialize;

/// Fixed passages; `{emotion}` in each is replaced by the word.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Template {
    pub passages: Vec<String>,
}

/// Stories written by a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generate {
    pub topics: Vec<String>,
    pub per_topic: usize,
    pub max_new_tokens: usize,
    pub temperature: f64,
    pub top_p: f64,
    /// 0: no bound.
    pub top_k: usize,
    /// With `{emotion}` and `{topic}`.
    pub prompt: String,
    /// Empty: no system message.
    pub system: String,
    pub reject: Reject,
}

/// Which written stories are thrown away and written again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reject {
    /// Those that contain the emotion's word (or a word that starts with its stem).
    pub names_emotion: bool,
    /// Those with fewer tokens.
    pub min_tokens: usize,
    /// How often one story may be tried; the last try is kept only if it passes.
    pub attempts: usize,
}

/// Which columns of a file hold what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Columns {
    /// Not needed for neutral text.
    pub emotion: Option<String>,
    pub text: String,
    pub topic: Option<String>,
}
