//! Reads an untrusted `tokenizer.json` as a tokenizer, within bounds. Independent of the text.

use super::{settings, tekken};
use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Once;
use tokenizers::Tokenizer as Fast;
use tokenizers::models::ModelWrapper;

/// Largest total length of one tokenizer's regular expressions, in bytes; published ones have a few hundred.
const LONGEST_REGEXES: usize = 32 << 10;
/// The largest product of all counted repetitions in one tokenizer's regular expressions, which are compiled by
/// expanding what they repeat. Published ones have a few `{1,3}`.
const MOST_REPEATED: u64 = 10_000;
/// Backtracking steps in one search for a match, over all start positions: about a second. Of published expressions
/// the worst takes one step per character.
const STEPS_BACK: u64 = 100_000_000;
/// Backtracking positions stored in one match: 100 MB of them.
const PLACES_BACK: u32 = 2_000_000;

/// The tokenizer in the bytes of `tokenizer.json`, with the additions of `tokenizer_config.json` and `config.json`;
/// and a warning, if any.
///
/// # Errors
/// An invalid tokenizer; regular expressions longer than those of any real tokenizer; a tokenizer with randomised ids.
pub fn read(bytes: &[u8], config: &Value, model: &Value) -> Result<(Fast, Option<String>)> {
    bound_searches();
    check(bytes)?;
    let mut fast = Fast::from_bytes(bytes).map_err(|e| anyhow!("{e}"))?;
    // Some files contain the settings of their last training run.
    fast.with_truncation(None).map_err(|e| anyhow!("{e}"))?;
    fast.with_padding(None);
    if let Some(processor) = fast.get_post_processor() {
        let whole = settings::with_whole_offsets(processor)?;
        fast.with_post_processor(Some(whole));
    }
    if let ModelWrapper::BPE(bpe) = fast.get_model() {
        ensure!(
            bpe.dropout.is_none_or(|dropout| dropout == 0.0),
            "it has `dropout`, with which the ids of a text are drawn at random"
        );
    }
    let said = tekken::correct(&mut fast, config, model)?;
    settings::add_tokens(&mut fast, config);
    Ok((fast, said))
}

/// The parts of `tokenizer.json` that may hold regular expressions.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Steps {
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
}

fn check(bytes: &[u8]) -> Result<()> {
    fn regexes<'a>(json: &'a Value, found: &mut Vec<&'a str>) {
        match json {
            Value::Object(fields) => {
                found.extend(fields.get("Regex").and_then(Value::as_str));
                fields.values().for_each(|value| regexes(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| regexes(item, found)),
            _ => {}
        }
    }
    let steps: Steps = serde_json::from_slice(bytes).context("it is not the JSON of a tokenizer")?;
    let all = [steps.normalizer, steps.pre_tokenizer, steps.post_processor, steps.decoder];
    let mut found = Vec::new();
    all.iter().for_each(|step| regexes(step, &mut found));
    let length: usize = found.iter().map(|regex| regex.len()).sum();
    ensure!(
        length <= LONGEST_REGEXES,
        "it has {length} bytes of regular expressions; at most {LONGEST_REGEXES} are read"
    );
    let repeated = found.iter().map(|regex| repeated(regex)).fold(1, u64::saturating_mul);
    ensure!(
        repeated <= MOST_REPEATED,
        "its regular expressions repeat what is in them {repeated} times, all `{{n,m}}` multiplied; at most \
         {MOST_REPEATED} are read"
    );
    Ok(())
}

/// The product of all counted repetitions in `regex`: `{n}`, `{n,}`, `{,m}` and `{n,m}`, the last by its larger
/// number.
fn repeated(regex: &str) -> u64 {
    let counts = regex.split('{').skip(1).filter_map(|after| {
        let (count, _) = after.split_once('}')?;
        let number = |text: &str| match text {
            "" => Some(0),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().unwrap_or(u64::MAX)),
            _ => None,
        };
        let (least, most) = count.split_once(',').unwrap_or((count, ""));
        Some(number(least)?.max(number(most)?).max(1))
    });
    counts.fold(1, u64::saturating_mul)
}

/// Bounds the backtracking of every regular expression search. Exceeding the bound is an error of the search, which
/// the `onig` crate turns into a panic, and [`Wary`](crate::lm::bounded::Wary) into an error.
fn bound_searches() {
    static ONCE: Once = Once::new();
    // SAFETY: sets numbers that Oniguruma reads when a search begins; no tokenizer has been read yet.
    ONCE.call_once(|| unsafe {
        onig_sys::onig_set_retry_limit_in_search(STEPS_BACK as _);
        onig_sys::onig_set_match_stack_limit_size(PLACES_BACK as _);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_repetitions_are_multiplied() {
        for (regex, times) in [
            (r"\p{N}{1,3}|\p{Lu}+", 3),
            ("(?:a{1,9999}){1,9999}", 9999 * 9999),
            ("(a{20}b{,30}){2,}c{0}", 1200),
            ("a{x}b{1;2}c{", 1),
            ("a{99999999999999999999}{2}", u64::MAX),
        ] {
            assert_eq!(repeated(regex), times, "{regex}");
        }
    }
}
