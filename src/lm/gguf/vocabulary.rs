//! The tokenizer metadata of a GGUF file.

use super::Gguf;
use crate::lm::tokenizer::gguf::Vocabulary;
use anyhow::{Context, Result};

impl Gguf {
    /// The tokenizer keys that are present.
    ///
    /// # Errors
    /// A value of another type.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let of = self.metadata();
        let word = |key: &str| of.word(key).map(|word| word.map(str::to_string));
        let words = |key: &str| of.words(key).map(|words| words.unwrap_or_default().to_vec());
        let id = |key: &str| -> Result<Option<u32>> {
            let id = of.whole(key)?.map(u32::try_from).transpose();
            id.with_context(|| format!("`{key}` is no token"))
        };
        let kinds = of.wholes("tokenizer.ggml.token_type")?.unwrap_or_default();
        let kinds = kinds.into_iter().map(i32::try_from).collect::<Result<_, _>>();
        Ok(Vocabulary {
            architecture: word("general.architecture")?.unwrap_or_default(),
            model: word("tokenizer.ggml.model")?.unwrap_or_default(),
            pre: word("tokenizer.ggml.pre")?,
            tokens: words("tokenizer.ggml.tokens")?,
            scores: of.numbers("tokenizer.ggml.scores")?.unwrap_or_default().to_vec(),
            token_types: kinds.context("`tokenizer.ggml.token_type`")?,
            merges: words("tokenizer.ggml.merges")?,
            bos: id("tokenizer.ggml.bos_token_id")?,
            eos: id("tokenizer.ggml.eos_token_id")?,
            unknown: id("tokenizer.ggml.unknown_token_id")?,
            padding: id("tokenizer.ggml.padding_token_id")?,
            add_bos: of.switch("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: of.switch("tokenizer.ggml.add_space_prefix")?,
            chat_template: word("tokenizer.chat_template")?,
        })
    }
}
