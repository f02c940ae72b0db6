//! The tokenizer: its training on the corpus, and the encoding of documents. Independent of models.

use crate::corpus::{Document, Role};
use anyhow::{Result, anyhow};
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer, TokenizerBuilder};

/// Ids of the special tokens: their indices in [`SPECIAL`].
pub const BOS: u32 = 0;
pub const EOS: u32 = 1;
pub const PAD: u32 = 2;
/// Begin, end, padding, and the start of each role's turn.
const SPECIAL: [&str; 6] = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"];

/// The conversation format, for other programs stored in `tokenizer_config.json`.
pub const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
     <|{{ message['role'] }}|>{{ message['content'] }}</s>\
     {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Trains a byte-level BPE of `d_vocab` tokens on `documents`. Every text starts with `<s>`.
///
/// # Errors
/// Those of the tokenizers crate.
pub fn train(documents: &[Document], d_vocab: usize) -> Result<Tokenizer> {
    let special = |text: &str| AddedToken::from(text.to_string(), true);
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(d_vocab)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL.map(special).to_vec())
        .build();
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(|e| anyhow!("build the tokenizer: {e}"))?;
    let texts = documents.iter().flat_map(|document| match document {
        Document::Raw(text) => vec![text.as_str()],
        Document::Chat(turns) => turns.iter().map(|(_, text)| text.as_str()).collect(),
    });
    tokenizer
        .train(&mut trainer, texts.collect::<Vec<_>>().into_iter())
        .map_err(|e| anyhow!("train the tokenizer: {e}"))?;
    let mut tokenizer = Tokenizer::from(tokenizer);
    let begin = TemplateProcessing::builder()
        .try_single("<s> $A")
        .and_then(|b| b.try_pair("<s> $A $B"))
        .map_err(|e| anyhow!("{e}"))?
        .special_tokens(vec![("<s>", BOS)])
        .build()?;
    tokenizer.with_post_processor(Some(begin));
    Ok(tokenizer)
}

/// The tokenizer of an existing model.
///
/// # Errors
/// The file does not exist or is not a tokenizer.
pub fn of(folder: &Path) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    Tokenizer::from_file(&path).map_err(|e| anyhow!("{}: {e}", path.display()))
}

/// The token ids of each document, from `<s>` to the last `</s>`.
///
/// # Errors
/// Those of the tokenizers crate.
pub fn encode(tokenizer: &Tokenizer, documents: &[Document]) -> Result<Vec<Vec<i64>>> {
    let texts: Vec<String> = documents.iter().map(marked).collect();
    let encodings = tokenizer.encode_batch(texts, true).map_err(|e| anyhow!("encode: {e}"))?;
    Ok(encodings.iter().map(|e| e.get_ids().iter().map(|&id| i64::from(id)).collect()).collect())
}

/// The document with its special tokens written out, except the first, which the tokenizer adds.
fn marked(document: &Document) -> String {
    match document {
        Document::Raw(text) => format!("{text}</s>"),
        Document::Chat(turns) => turns
            .iter()
            .map(|(role, text)| {
                let role = match role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                format!("<|{role}|>{text}</s>")
            })
            .collect(),
    }
}
