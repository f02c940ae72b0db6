//! The keys of `[criteria]`. Knows nothing of how they are read.

use super::key;
use crate::params::Default::{Is, Required, Said};
use crate::params::{Table, Type};

/// Estimates are not larger than this.
const LARGEST: f64 = 1e9;

const BOUND: Type = Type::Number { from: -LARGEST, above: false, to: LARGEST };

pub static CRITERION: Table = Table {
    about: "What will be taken for a finding, said before the study is run; see below. In no key: nothing is computed again.",
    abouts: &[],
    keys: &[
        key(
            "claim",
            Type::Text,
            Required,
            "An analysis of the file and one of its claims: `\"rated/PC1, valence\"`. The report and `tables/claims.csv` list them.",
        ),
        key("at_least", BOUND, Said("no bound"), "The least estimate that meets it."),
        key("at_most", BOUND, Said("no bound"), "The largest estimate that meets it."),
        key("between", Type::Numbers, Said("no bounds"), "Both: `[least, most]`."),
        key(
            "p",
            Type::Number { from: 0.0, above: true, to: 1.0 },
            Said("may be untested"),
            "The largest p against the claim's null that meets it.",
        ),
        key(
            "where",
            Type::Text,
            Is("\"every model\""),
            "`\"every model\"`, `\"any model\"` or a model's name: where it is to be met.",
        ),
    ],
};
