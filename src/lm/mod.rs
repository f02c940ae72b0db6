//! Decoder-only language models on libtorch. Knows nothing of emotions, plans or caches.

use serde::{Deserialize, Serialize};

/// The type of a model's weights and of its arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}

/// How a text is put before the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrap {
    /// As it stands.
    Raw,
    /// As the user's turn of the chat template.
    User,
    /// As the assistant's turn of the chat template.
    Assistant,
}

/// How the logit lens applies the final norm to a direction `v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LensNorm {
    /// `W_U v`
    None,
    /// `W_U (gain * v)`
    Gain,
    /// The final norm applied to `v`.
    Full,
}

/// Which positions a steering vector is added at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    All,
    Prompt,
    Generated,
}
