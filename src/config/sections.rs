//! `date`.

use crate::lm::Date;
use crate::params::problem::{Problem, quoted};
use crate::params::{Read, Reader};

/// `date` as a day that there is.
pub(super) fn date(root: &Reader<'_>) -> Read<Date> {
    let text: String = root.get("date")?;
    match text.parse() {
        Ok(date) => Ok(date),
        Err(()) => {
            let problem = Problem::at(root.span_of("date"), format!("{} is no date", quoted(&text)));
            root.wrong(problem.hint("write a day of the calendar as `\"2024-07-26\"`: year, month, day"))
        }
    }
}
