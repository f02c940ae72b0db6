//! What the model holds at the point where it would answer a text: the residual stream at the last position. Knows
//! nothing of emotions.

use anyhow::{Context, Result, ensure};

use super::Progress;
use crate::lm::{Batch, Capture, Chat, Hook, LanguageModel, Layer, Message, Role};
use crate::params::words;

/// Bound on padded tokens of one pass. A constant: batches change low bits, so they may hang on nothing but the input.
const BATCH_TOKENS: usize = 4096;

words! {
    /// How a text is put to the model.
    pub enum Ask {
        /// As the user's turn in the chat template, with the model's turn opened: the last position is the one from which
        /// its answer begins.
        User = "user",
        /// As it stands: the last position is the text's own.
        Raw = "raw",
    }
}

/// `[layer][text]`: `resid_post` (`[d_model]`) of the text's last position. All layers come from one pass.
///
/// At [`Layer::Embed`] it is the mean embedding of the text's own tokens, and not what the last position holds: that is the
/// embedding of one token, of the template's where there is one, and the same for all texts. What a text's words say by
/// themselves is what a model's layers are compared with.
///
/// An error if the model has no chat template where one is asked for, and if a text does not fit its context.
pub fn read(
    model: &LanguageModel,
    texts: &[String],
    (ask, chat): (Ask, Chat),
    layers: &[Layer],
    progress: &mut Progress,
) -> Result<Vec<Vec<Vec<f64>>>> {
    ensure!(
        ask == Ask::Raw || model.has_chat_template(),
        "the model has no chat template, so there is no point where it would answer; `wrap = \"raw\"` reads each text's \
         own last token"
    );
    let ids = |text: &String| {
        let ids = match ask {
            Ask::User => model.encode_chat(&[Message::new(Role::User, text.as_str())], chat)?,
            Ask::Raw => model.encode(text)?.ids,
        };
        model.check_length(ids.len())?;
        Ok::<_, anyhow::Error>(ids)
    };
    let rows = texts.iter().map(|text| ids(text).with_context(|| format!("the text {text:?}")));
    let rows: Vec<Vec<i64>> = rows.collect::<Result<_>>()?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].len());
    let last = *layers.iter().max().context("no layer is kept")?;
    let mut found = vec![vec![Vec::new(); rows.len()]; layers.len()];
    let mut done = 0;
    while done < order.len() {
        let fits = |(before, row): &(usize, &usize)| {
            *before == 0 || (before + 1) * rows[**row].len() <= BATCH_TOKENS
        };
        let n = order[done..].iter().enumerate().take_while(fits).count();
        let here = &order[done..done + n];
        let tokens: Vec<&Vec<i64>> = here.iter().map(|&row| &rows[row]).collect();
        let batch = Batch::new(&tokens)?;
        let ends = batch.lengths.iter().map(|&length| length - 1..length).collect();
        let mut capture = Capture::new(layers, ends);
        let _resid = model.forward(&batch, &mut [&mut capture as &mut dyn Hook], Some(last))?;
        let means = capture.finish()?;
        for (at, layer) in found.iter_mut().enumerate() {
            for (i, &row) in here.iter().enumerate() {
                let values = Vec::<f32>::try_from(means.get(at as i64).get(i as i64))?;
                ensure!(
                    values.iter().all(|x| x.is_finite()),
                    "the residual stream of {:?} at layer {} is NaN or infinite",
                    texts[row],
                    layers[at]
                );
                layer[row] = values.into_iter().map(f64::from).collect();
            }
        }
        done += n;
        progress(done, rows.len());
    }
    if let Some(at) = layers.iter().position(|&layer| layer == Layer::Embed) {
        found[at] = texts.iter().map(|text| surface(model, text)).collect::<Result<_>>()?;
    }
    Ok(found)
}

/// `[d_model]`: the mean embedding of a text's own tokens.
fn surface(model: &LanguageModel, text: &str) -> Result<Vec<f64>> {
    let tokens = model.encode(text)?;
    ensure!(!tokens.text.is_empty(), "the text {text:?} has no token of its own");
    let mut capture = Capture::new(&[Layer::Embed], vec![tokens.text.clone()]);
    let _embedded = model.forward(
        &Batch::new(&[&tokens.ids])?,
        &mut [&mut capture as &mut dyn Hook],
        Some(Layer::Embed),
    )?;
    let mean = Vec::<f32>::try_from(capture.finish()?.reshape(-1))?;
    Ok(mean.into_iter().map(f64::from).collect())
}
