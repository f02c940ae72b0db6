//! The model's representation of a text: the residual stream where it would answer, at the text's last token, or
//! averaged over its tokens. Independent of emotions.

use anyhow::{Context, Result, ensure};

use super::Progress;
use crate::lm::{Chat, LanguageModel, Layer, Message, Role, Tokens};
use crate::params::words;
use crate::stages::spans::{Pooled, pooled};

/// Upper bound on the tokens of one pass. A constant: batching changes low-order bits, so batches may depend on
/// nothing but the input.
const BATCH_TOKENS: usize = 4096;

words! {
    /// Where a text is read.
    pub enum ReadAt {
        /// As the user's turn in the chat template, with the model's turn opened: at the last position, from which its answer
        /// begins.
        User = "user",
        /// As it stands, at its own last token.
        Raw = "raw",
        /// As it stands, the mean over its own tokens.
        Mean = "mean",
    }
}

impl ReadAt {
    /// A description for captions.
    pub fn place(self) -> &'static str {
        match self {
            ReadAt::User => "at the last position of the chat template with the model's turn opened",
            ReadAt::Raw => "at the text's own last token, without a chat template",
            ReadAt::Mean => "on the mean over the text's own tokens, without a chat template",
        }
    }
}

/// `[layer][text]`: `resid_post` (`[d_model]`) of each text at the position that is read. All layers come from one
/// pass.
///
/// At [`Layer::Embed`] it is the mean embedding of the text's own tokens, whatever the position: the last position
/// holds the embedding of a single token (with a template, a token of the template), the same for all texts. The words
/// of a text by themselves are the baseline for the model's layers.
///
/// An error if a chat template is required and the model has none, or if a text does not fit the context.
pub fn read(
    model: &LanguageModel,
    texts: &[String],
    (at, chat): (ReadAt, Chat),
    layers: &[Layer],
    progress: &mut Progress,
) -> Result<Vec<Vec<Vec<f64>>>> {
    ensure!(
        at != ReadAt::User || model.has_chat_template(),
        "the model has no chat template, so there is no point where it would answer; `wrap = \"raw\"` reads each text's \
         own last token, `\"mean\"` the mean over its tokens"
    );
    let row = |text: &String| {
        let (ids, read) = match at {
            ReadAt::User => (model.encode_chat(&[Message::new(Role::User, text.as_str())], chat)?, None),
            ReadAt::Raw => (model.encode(text)?.ids, None),
            ReadAt::Mean => own(model, text).map(|tokens| (tokens.ids, Some(tokens.text)))?,
        };
        model.check_length(ids.len())?;
        let read = read.unwrap_or(ids.len().saturating_sub(1)..ids.len());
        Ok::<_, anyhow::Error>((ids, [vec![read]]))
    };
    let rows = texts.iter().map(|text| row(text).with_context(|| format!("the text {text:?}")));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let lengths: Vec<usize> = rows.iter().map(|(ids, _)| ids.len()).collect();
    ensure!(!layers.is_empty(), "no layer is kept");
    let mut found = vec![vec![Vec::new(); rows.len()]; layers.len()];
    let mut done = 0;
    for here in model.batches(&lengths, BATCH_TOKENS) {
        let batch: Vec<Pooled> = here.iter().map(|&row| (rows[row].0.as_slice(), &rows[row].1[..])).collect();
        done += here.len();
        for (row, values) in here.into_iter().zip(pooled(&batch, layers, model)?) {
            for (l, values) in values.chunks_exact(model.spec.d_model).enumerate() {
                ensure!(
                    values.iter().all(|x| x.is_finite()),
                    "the residual stream of {:?} at layer {} is NaN or infinite",
                    texts[row],
                    layers[l]
                );
                found[l][row] = values.iter().map(|&x| f64::from(x)).collect();
            }
        }
        progress(done, rows.len());
    }
    if let Some(embed) = layers.iter().position(|&layer| layer == Layer::Embed) {
        found[embed] = texts.iter().map(|text| surface(model, text)).collect::<Result<_>>()?;
    }
    Ok(found)
}

/// A text without template, with at least one token of its own.
fn own(model: &LanguageModel, text: &str) -> Result<Tokens> {
    let tokens = model.encode(text)?;
    ensure!(!tokens.text.is_empty(), "the text {text:?} has no token of its own");
    Ok(tokens)
}

/// `[d_model]`: the mean embedding of the text's own tokens.
fn surface(model: &LanguageModel, text: &str) -> Result<Vec<f64>> {
    let tokens = own(model, text)?;
    let spans = [vec![tokens.text]];
    let mean = pooled(&[(tokens.ids.as_slice(), spans.as_slice())], &[Layer::Embed], model)?;
    Ok(mean.concat().into_iter().map(f64::from).collect())
}
