//! `date`, `[activations]` and `[vectors]`: the parameters of what is computed. Computes nothing.

use super::problem::{Problem, quoted};
use super::reader::{Form, Read, Reader};
use crate::lm::Date;
use crate::stages::{activations, vectors};

/// `date` as a day that there is.
pub(super) fn date(root: &Reader<'_>) -> Read<Date> {
    let text = root.text("date")?;
    match text.parse() {
        Ok(date) => Ok(date),
        Err(()) => {
            let problem = Problem::at(root.span_of("date"), format!("{} is no date", quoted(&text)));
            root.wrong(problem.hint("write a day of the calendar as `\"2024-07-26\"`: year, month, day"))
        }
    }
}

pub(super) fn activations(root: &Reader<'_>) -> Read<activations::Params> {
    let reader = root.inner("activations")?;
    let (from_token, wrap) = (reader.integer("from_token"), reader.choice("wrap"));
    let (short, long) = (reader.choice("short"), reader.choice("long"));
    let (batch_tokens, store_dtype) = (reader.maybe_integer("batch_tokens"), reader.choice("store_dtype"));
    Ok(activations::Params {
        from_token: from_token?,
        wrap: wrap?,
        short: short?,
        long: long?,
        batch_tokens: batch_tokens?,
        store_dtype: store_dtype?,
    })
}

/// `neutral`: whether the experiment has neutral text.
pub(super) fn vectors(root: &Reader<'_>, neutral: bool) -> Read<vectors::Params> {
    let reader = root.inner("vectors")?;
    let (center, denoise, normalize) =
        (reader.choice("center"), denoise(&reader, neutral), reader.boolean("normalize"));
    Ok(vectors::Params { center: center?, denoise: denoise?, normalize: normalize? })
}

fn denoise(reader: &Reader<'_>, neutral: bool) -> Read<vectors::Denoise> {
    let table = match reader.forms("denoise")? {
        Some(Form::Table(table)) => table,
        Some(_) => return Ok(vectors::Denoise::None),
        // Three components: what the open replication on Gemma removed.
        None if neutral => return Ok(vectors::Denoise::Components(3)),
        None => return Ok(vectors::Denoise::None),
    };
    let (components, variance) = (table.maybe_integer("components"), table.maybe_number("variance"));
    let denoise = match (components?, variance?) {
        (Some(components), None) => vectors::Denoise::Components(components),
        (None, Some(variance)) => vectors::Denoise::Variance(variance),
        _ => {
            let problem = Problem::at(table.span(), "`denoise` must be exactly one of its forms");
            return reader.wrong(problem.hint("{ components = 3 }, { variance = 0.5 } or \"none\""));
        }
    };
    if !neutral {
        let problem =
            Problem::at(reader.span_of("denoise"), "`denoise` needs neutral text, and there is none");
        return reader
            .wrong(problem.hint(
                "add `[neutral.template]` with `set = \"neutral-40\"`, or write `denoise = \"none\"`",
            ));
    }
    Ok(denoise)
}
