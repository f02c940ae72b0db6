//! The architectures that can be read from GGUF files: what their converter changed, and the function that builds
//! their config.

use super::config::{self, Config, Keys};
use anyhow::{Context, Result};

/// One `general.architecture`.
pub struct Architecture {
    /// Its name in the file.
    pub name: &'static str,
    /// Builds the part of its `config.json` that is not shared by all architectures.
    pub config: fn(&Keys) -> Result<Config>,
    /// Whether rows of queries and keys are stored as the pairs that are rotated together.
    pub interleaved: bool,
    /// Whether norm gains are stored with the 1 already added that the model adds to them.
    pub gains_plus_one: bool,
    /// Whether there are additional blocks for multi-token prediction, which are not part of the model.
    pub predicts_more: bool,
}

const PLAIN: Architecture = Architecture {
    name: "",
    config: config::qwen2,
    interleaved: false,
    gains_plus_one: false,
    predicts_more: false,
};

/// All supported architectures. For each converter's changes see llama.cpp's `conversion/`.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "llama", config: config::llama, interleaved: true, ..PLAIN },
    Architecture { name: "qwen2", config: config::qwen2, ..PLAIN },
    Architecture { name: "qwen3", config: config::qwen3, ..PLAIN },
    Architecture { name: "qwen3moe", config: config::qwen3_moe, ..PLAIN },
    Architecture {
        name: "qwen35",
        config: config::qwen3_5,
        gains_plus_one: true,
        predicts_more: true,
        ..PLAIN
    },
    Architecture { name: "gpt2", config: config::gpt2, ..PLAIN },
    Architecture { name: "gptneox", config: config::gpt_neox, ..PLAIN },
    Architecture { name: "gemma", config: config::gemma, gains_plus_one: true, ..PLAIN },
    Architecture { name: "gemma2", config: config::gemma2, gains_plus_one: true, ..PLAIN },
    Architecture { name: "gemma3", config: config::gemma3, gains_plus_one: true, ..PLAIN },
    Architecture { name: "gemma4", config: config::gemma4, ..PLAIN },
    Architecture { name: "phi3", config: config::phi3, ..PLAIN },
    Architecture { name: "olmo2", config: config::olmo, ..PLAIN },
    Architecture { name: "smollm3", config: config::smollm3, interleaved: true, ..PLAIN },
    Architecture { name: "granite", config: config::granite, interleaved: true, ..PLAIN },
];

/// The architecture called `name`.
///
/// # Errors
/// An unknown architecture.
pub fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|known| known.name == name).with_context(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
        format!("architecture `{name}` is not read from GGUF files. Those that are: {}", known.join(", "))
    })
}
