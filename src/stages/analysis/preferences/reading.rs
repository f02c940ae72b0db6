//! The readings of emotion vectors on an activity's own tokens when the model is asked how it would feel about the
//! activity.

use anyhow::{Context, Result, ensure};

use super::Preferences;
use super::asking::{filled, template};
use crate::lm::{Capture, Chat, Hook, LanguageModel, Layer};
use crate::stages::analysis::LayerVectors;
use crate::stages::analysis::shared::BATCH_TOKENS;
use crate::stages::principal::{dot, norm};

/// `[layer][emotion][activity]`: the mean residual stream over the activity's tokens, projected on the emotion's unit
/// vector.
///
/// # Errors
/// A zero vector; a residual stream that is not finite; errors of the chat template.
pub fn read(
    params: &Preferences,
    model: &LanguageModel,
    chat: Chat,
    layers: &[&LayerVectors],
) -> Result<Vec<Vec<Vec<f64>>>> {
    let chat = template(params, model, chat)?;
    let mut texts = Vec::with_capacity(params.list.len());
    for activity in &params.list {
        let (text, parts) = filled(&params.feeling, [("{activity}", &activity.activity)]);
        let opened = model.tokenizer().encode_opened(&text, "", &parts, &[], chat)?;
        model.check_length(opened.ids.len())?;
        ensure!(!opened.spans[0].is_empty(), "`{}` has no token of its own", activity.activity);
        texts.push(opened);
    }
    let wanted: Vec<Layer> = layers.iter().map(|layer| layer.layer).collect();
    let last = wanted.iter().copied().max().context("no layer is read")?;
    let mut found: Vec<Vec<Vec<f64>>> =
        layers.iter().map(|layer| vec![Vec::with_capacity(texts.len()); layer.emotions.len()]).collect();
    let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(1);
    for texts in texts.chunks((BATCH_TOKENS / longest).max(1)) {
        let rows: Vec<&[i64]> = texts.iter().map(|text| text.ids.as_slice()).collect();
        let mut capture = Capture::new(&wanted, texts.iter().map(|text| text.spans[0].clone()).collect());
        let _resid = model.forward(&model.batch(&rows)?, &mut [&mut capture as &mut dyn Hook], Some(last))?;
        let means = capture.finish()?;
        for (at, layer) in layers.iter().enumerate() {
            for text in 0..texts.len() {
                let mean = Vec::<f32>::try_from(means.get(at as i64).get(text as i64))?;
                let mean: Vec<f64> = mean.into_iter().map(f64::from).collect();
                ensure!(
                    mean.iter().all(|x| x.is_finite()),
                    "the residual stream at layer {} is NaN or infinite",
                    layer.layer
                );
                for (emotion, of) in found[at].iter_mut().enumerate() {
                    let length = norm(layer.vector(emotion));
                    ensure!(length > 0.0, "the vector of `{}` is zero", layer.emotions[emotion]);
                    of.push(dot(&mean, layer.vector(emotion)) / length);
                }
            }
        }
    }
    Ok(found)
}
